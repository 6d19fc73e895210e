"""Fetching: the mirror first, the hub only for what is missing, nothing half-made, nothing replaced."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from matryobench.data.fetch import RepoType, fetch_dataset, fetch_model, is_model_file
from matryobench.data.mirror import Mirror, NotInMirror
from matryobench.data.records import read_table, write_table
from matryobench.data.registry import DatasetSpec, load_datasets
from matryobench.errors import InputError
from matryobench.files import sha256_of

PROJECT = Path(__file__).resolve().parents[2]
COMMIT, OTHER = "a" * 40, "b" * 40
PAIRS = [{"sentence1": "a", "sentence2": "b", "score": 1.0}, {"sentence1": "c", "sentence2": "d", "score": 5.0}]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


class FolderHub:
    """A hub in memory: {id: {commit: {file: bytes}}}; the last commit is the newest. Counts what is asked of it."""

    def __init__(self, repositories: dict[str, dict[str, dict[str, bytes]]]) -> None:
        self.repositories = repositories
        self.asked: Counter[str] = Counter()

    def look_up(self, repo_id: str, revision: str | None, repo_type: RepoType) -> tuple[str, list[str]]:
        self.asked["look_up"] += 1
        commits = self.repositories[repo_id]
        commit = revision or list(commits)[-1]
        return commit, list(commits[commit])

    def download(self, repo_id: str, revision: str, repo_type: RepoType, file: str, folder: Path) -> None:
        self.asked[file] += 1
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(self.repositories[repo_id][revision][file])
        (folder / ".cache").mkdir(exist_ok=True)  # huggingface_hub leaves such notes
        (folder / ".cache" / "note").write_text("not wanted")


def pairs_hub() -> FolderHub:
    files = {"test.jsonl.gz": gzip.compress(jsonl(PAIRS)), "train.jsonl": jsonl(PAIRS * 2), "README.md": b"card"}
    return FolderHub({"org/pairs": {COMMIT: files}})


def spec(files: list[str] | None = None, **more: Any) -> DatasetSpec:
    base: dict[str, Any] = {
        "kind": "scored-pairs",
        "description": "a tiny set for tests",
        "citation": "Nobody 2025",
        "licence": "CC0",
        "score_range": (0, 5),
    }
    if not {"local", "mirror", "demo_world"} & set(more):
        base["hub"] = {"id": "org/pairs", "revision": COMMIT, "files": files or ["test.jsonl.gz"]}
    return DatasetSpec.model_validate(base | more)


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "mirror")


def leftovers(mirror: Mirror) -> list[Path]:
    return [path for path in mirror.root.rglob("*") if path.name.startswith(".incoming") or path.suffix == ".partial"]


# --- data sets -------------------------------------------------------------------------------------------------------


def test_a_hub_set_is_fetched_once_then_read_offline(mirror: Mirror) -> None:
    hub = pairs_hub()
    table, meta = fetch_dataset("tiny", spec(rows=2), mirror, offline=False, hub=hub)
    assert table.to_pylist() == PAIRS
    stored = f"datasets/org/pairs/{COMMIT}/test.jsonl.gz"
    assert meta == {
        "dataset": "tiny",
        "kind": "scored-pairs",
        "rows": 2,
        "source": "hub",
        "id": "org/pairs",
        "revision": COMMIT,
        "from": "hub",
        "sha256": {stored: sha256_of(mirror.root / stored)},
        "licence": "CC0",
        "citation": "Nobody 2025",
    }
    assert hub.asked == {"look_up": 1, "test.jsonl.gz": 1}
    again = fetch_dataset("tiny", spec(rows=2), mirror, offline=True, hub=None)
    assert again[0].equals(table) and again[1] == meta
    fetch_dataset("tiny", spec(rows=2), mirror, offline=False, hub=hub)
    assert hub.asked == {"look_up": 1, "test.jsonl.gz": 1}
    assert {path.name for path in (mirror.root / stored).parent.iterdir()} == {
        "test.jsonl.gz",
        "manifest.json",
        ".verified.json",
    }


def test_the_facts_travel_with_the_table(mirror: Mirror, tmp_path: Path) -> None:
    table, meta = fetch_dataset("tiny", spec(), mirror, offline=False, hub=pairs_hub())
    write_table(table, tmp_path / "tiny.parquet", meta)
    again, facts = read_table(tmp_path / "tiny.parquet")
    assert again.equals(table) and facts == meta


def test_another_file_of_the_same_repository_joins_its_entry(mirror: Mirror) -> None:
    hub = pairs_hub()
    fetch_dataset("tiny", spec(), mirror, offline=False, hub=hub)
    table, _ = fetch_dataset("more", spec(["train.jsonl", "test.jsonl.gz"], rows=6), mirror, offline=False, hub=hub)
    assert table["score"].to_pylist() == [1, 5, 1, 5, 1, 5]
    assert hub.asked["test.jsonl.gz"] == 1


def test_offline_and_missing_is_a_sentence_with_the_way_out(mirror: Mirror) -> None:
    with pytest.raises(NotInMirror) as caught:
        fetch_dataset("tiny", spec(), mirror, offline=True, hub=pairs_hub())
    for part in ("org/pairs", COMMIT, str(mirror.root), "python -m matryobench fetch CONFIG", "docs/data.md"):
        assert part in str(caught.value)
    assert not mirror.root.exists()


def test_a_changed_file_of_the_mirror_is_refused_and_not_downloaded_again(mirror: Mirror) -> None:
    hub = pairs_hub()
    fetch_dataset("tiny", spec(), mirror, offline=False, hub=hub)
    (mirror.root / f"datasets/org/pairs/{COMMIT}/test.jsonl.gz").write_bytes(gzip.compress(jsonl(PAIRS[:1])))
    for offline in (True, False):
        with pytest.raises(InputError, match="this file has changed"):
            fetch_dataset("tiny", spec(), mirror, offline=offline, hub=hub)
    assert hub.asked["test.jsonl.gz"] == 1


def test_a_file_that_the_repository_lacks_is_named(mirror: Mirror) -> None:
    with pytest.raises(
        InputError, match=r"has no file 'dev\.jsonl' but test\.jsonl\.gz, train\.jsonl, README\.md; corr"
    ):
        fetch_dataset("tiny", spec(["dev.jsonl"]), mirror, offline=False, hub=pairs_hub())


def test_an_interrupted_download_leaves_nothing_and_can_be_repeated(mirror: Mirror) -> None:
    class Interrupted(FolderHub):
        def download(self, repo_id: str, revision: str, repo_type: RepoType, file: str, folder: Path) -> None:
            super().download(repo_id, revision, repo_type, file, folder)
            if file == "train.jsonl":
                raise KeyboardInterrupt

    both = spec(["test.jsonl.gz", "train.jsonl"])
    with pytest.raises(KeyboardInterrupt):
        fetch_dataset("tiny", both, mirror, offline=False, hub=Interrupted(pairs_hub().repositories))
    assert list(mirror.root.iterdir()) == []
    assert fetch_dataset("tiny", both, mirror, offline=False, hub=pairs_hub())[0].num_rows == 6


def test_many_can_fetch_the_same_at_once(mirror: Mirror) -> None:
    hub, results, errors = pairs_hub(), [], []

    def work(files: list[str]) -> None:
        try:
            results.append(fetch_dataset("tiny", spec(files), mirror, offline=False, hub=hub)[0].num_rows)
        except BaseException as error:  # noqa: BLE001 (to fail the test, not only its thread)
            errors.append(error)

    wanted = [["test.jsonl.gz"], ["train.jsonl"], ["test.jsonl.gz", "train.jsonl"]] * 3
    threads = [threading.Thread(target=work, args=(files,)) for files in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(results) == [2, 2, 2, 4, 4, 4, 6, 6, 6]
    assert leftovers(mirror) == []


def test_a_null_revision_keeps_the_commit_of_the_first_fetch(mirror: Mirror) -> None:
    hub = pairs_hub()
    loose = spec(hub={"id": "org/pairs", "revision": None, "files": ["test.jsonl.gz"]})
    assert fetch_dataset("tiny", loose, mirror, offline=False, hub=hub)[1]["revision"] == COMMIT
    hub.repositories["org/pairs"][OTHER] = {"test.jsonl.gz": gzip.compress(jsonl(PAIRS[:1])), "train.jsonl": b""}
    more = spec(hub={"id": "org/pairs", "revision": None, "files": ["test.jsonl.gz", "train.jsonl"]})
    for the_spec, rows in ((loose, 2), (more, 6)):
        table, meta = fetch_dataset("tiny", the_spec, mirror, offline=False, hub=hub)
        assert (table.num_rows, meta["revision"]) == (rows, COMMIT)


def test_local_files_and_missing_texts_are_accounted_for(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_bytes(jsonl([PAIRS[0], {**PAIRS[1], "sentence2": None}]))
    entry = {
        "kind": "scored-pairs",
        "description": "a tiny set for tests",
        "citation": "none",
        "licence": "none",
        "score_range": [0, 5],
        "missing_text": " ",
        "local": {"files": ["mine.jsonl"]},
    }
    (tmp_path / "sets.yaml").write_text(json.dumps({"mine": entry}))
    table, meta = fetch_dataset("mine", load_datasets(tmp_path / "sets.yaml")["mine"], mirror, offline=True)
    assert table["sentence2"].to_pylist() == ["b", " "]
    assert (meta["source"], meta["rows"], meta["missing_text"]) == ("local", 2, {"text": " ", "texts": 1})
    assert meta["sha256"] == {"mine.jsonl": sha256_of(tmp_path / "mine.jsonl")}


def test_the_demo_world_needs_neither_files_nor_network(mirror: Mirror) -> None:
    pytest.importorskip("matryobench.data.demo_world")
    datasets = load_datasets(PROJECT / "config" / "datasets.yaml")
    table, meta = fetch_dataset("demo-sts-roles", datasets["demo-sts-roles"], mirror, offline=True)
    assert table.num_rows == meta["rows"] == datasets["demo-sts-roles"].rows
    assert (meta["source"], meta["revision"]) == ("demo_world", "sts-roles, seed 0")
    wrong = spec(demo_world={"table": "sts-rolls"})
    with pytest.raises(InputError, match="unknown table 'sts-rolls'; did you mean sts-roles"):
        fetch_dataset("wrong", wrong, mirror, offline=True)


def test_every_demo_entry_names_a_table_of_the_demo_world() -> None:
    demo_world = pytest.importorskip("matryobench.data.demo_world")
    specs = load_datasets(PROJECT / "config" / "datasets.yaml").values()
    assert {s.demo_world.table for s in specs if s.demo_world} <= set(demo_world.tables())


def test_a_hub_collection_is_fetched_part_by_part(mirror: Mirror, tmp_path: Path) -> None:
    files = {
        "corpus.jsonl": jsonl([{"_id": "d1", "title": "", "text": "a"}, {"_id": "d2", "title": "T", "text": ""}]),
        "queries.jsonl": jsonl([{"_id": "q1", "text": "a?"}]),
        "qrels/test.tsv": b"query-id\tcorpus-id\tscore\nq1\td1\t1\n",
    }
    hub = FolderHub({"org/set": {COMMIT: files}})
    parts = {key: {"hub": {"id": "org/set", "revision": COMMIT, "files": [file]}} for key, file in (
        ("corpus", "corpus.jsonl"), ("queries", "queries.jsonl"), ("qrels", "qrels/test.tsv"))}  # fmt: skip
    entry = {
        "kind": "retrieval",
        "description": "a tiny collection",
        "citation": "Nobody 2025",
        "licence": "CC0",
        **parts,
    }
    (tmp_path / "sets.yaml").write_text(json.dumps({"tiny": entry}))
    for name, part in load_datasets(tmp_path / "sets.yaml").items():
        table, meta = fetch_dataset(name, part, mirror, offline=False, hub=hub)
        assert (meta["rows"], meta["revision"], meta["kind"]) == (table.num_rows, COMMIT, part.kind)
    assert [hub.asked[file] for file in files] == [1, 1, 1]


def test_a_mined_entry_cannot_be_fetched_alone(mirror: Mirror) -> None:
    datasets = load_datasets(PROJECT / "config" / "datasets.yaml")
    with pytest.raises(InputError, match="^demo-groups: this data set is made of other tables"):
        fetch_dataset("demo-groups", datasets["demo-groups"], mirror, offline=True)


# --- models ----------------------------------------------------------------------------------------------------------

MODEL = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "1_Pooling/config.json": b"{}",
    "vocab.txt": b"[PAD]",
    "spiece.model": b"pieces",
    "pytorch_model.bin": b"pickle",
    "pytorch_model.bin.index.json": b"{}",
    "modeling_own.py": b"import os",
    "onnx/config.json": b"{}",
    "onnx/model.onnx": b"x",
    "README.md": b"card",
    ".gitattributes": b"x",
}
WANTED = {"config.json", "model.safetensors", "1_Pooling/config.json", "vocab.txt", "spiece.model"}


def test_a_model_comes_without_pickles_and_code(mirror: Mirror) -> None:
    hub = FolderHub({"org/model": {COMMIT: MODEL}})
    folder = fetch_model("org/model", COMMIT, mirror, offline=False, hub=hub)
    assert set(mirror.manifest(folder)["files"]) == WANTED
    assert {name for name in MODEL if is_model_file(name)} == WANTED
    assert fetch_model("org/model", COMMIT, mirror, offline=True) == folder
    fetch_model("org/model", COMMIT, mirror, offline=False, hub=hub)
    assert hub.asked["look_up"] == 1
    (folder / "model.safetensors").write_bytes(b"Weights")
    with pytest.raises(InputError, match="this file has changed"):
        fetch_model("org/model", COMMIT, mirror, offline=False, hub=hub)


def test_a_model_without_safetensors_is_refused_before_any_download(mirror: Mirror) -> None:
    hub = FolderHub({"org/model": {COMMIT: {"config.json": b"{}", "pytorch_model.bin": b"pickle"}}})
    with pytest.raises(
        InputError, match=r"^org/model at revision a{40}: no config\.json with weights as \*\.safetensors"
    ):
        fetch_model("org/model", COMMIT, mirror, offline=False, hub=hub)
    assert hub.asked == {"look_up": 1}


def test_a_model_revision_is_a_commit_or_pinned(mirror: Mirror) -> None:
    hub = FolderHub({"org/model": {COMMIT: MODEL}})
    with pytest.raises(InputError, match="'main' is not a commit"):
        fetch_model("org/model", "main", mirror, offline=False, hub=hub)
    with pytest.raises(NotInMirror, match=r"org/model \(no revision given\) is not in the mirror"):
        fetch_model("org/model", None, mirror, offline=True)
    folder = fetch_model("org/model", None, mirror, offline=False, hub=hub)
    hub.repositories["org/model"][OTHER] = MODEL
    assert fetch_model("org/model", None, mirror, offline=False, hub=hub) == folder
    assert folder.name == COMMIT


def test_a_repository_cannot_write_outside_the_mirror(mirror: Mirror) -> None:
    hub = FolderHub({"org/model": {COMMIT: {"config.json": b"{}", "model.safetensors": b"", "/evil.json": b"{}"}}})
    with pytest.raises(InputError, match="'/evil.json' leads out of the folder"):
        fetch_model("org/model", COMMIT, mirror, offline=False, hub=hub)
    assert hub.asked["/evil.json"] == 0
    assert list(mirror.root.iterdir()) == []


def test_no_network_is_one_sentence(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", unreachable)
    with pytest.raises(InputError) as caught:
        fetch_model("org/model", COMMIT, mirror, offline=False)
    message = str(caught.value)
    assert message.startswith(
        f"org/model at revision {COMMIT} could not be had from the hub (ConnectionError: no route)"
    )
    assert message.endswith("docs/data.md says.") and "\n" not in message
