"""The tool that makes a mirror of collected copies: what it puts in has the hub's form, size, texts and labels."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from test_fetch import MODEL, PAIRS, WANTED, jsonl

from matryobench.data.classifications import check_classification
from matryobench.data.collection_tables import check_collection
from matryobench.data.fetch import fetch_dataset
from matryobench.data.mirror import Mirror
from matryobench.data.registry import load_classifications, load_collections, load_datasets
from matryobench.data.values import passage_text
from matryobench.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
REGISTRY = PROJECT / "config" / "datasets.yaml"
DATASETS, COLLECTIONS = load_datasets(REGISTRY), load_collections(REGISTRY)
CLASSIFICATIONS = load_classifications(REGISTRY)

# (documents, test queries, judgements, characters of documents, characters of test queries): mteb 2.26.24,
# mteb/descriptive_stats/Retrieval/*.json; the copy of SciFact lacks 23 characters of the documents.
MTEB = {
    "scifact": (5183, 300, 339, 7771451 - 23, 27104),
    "nfcorpus": (3633, 323, 12334, 5779318, 7030),
    "arguana": (8674, 1406, 1406, 8930264, 1676965),
}


def the_tool() -> ModuleType:
    where = importlib.util.spec_from_file_location("mirror_from_shared", PROJECT / "tools" / "mirror_from_shared.py")
    assert where is not None and where.loader is not None
    module = importlib.util.module_from_spec(where)
    where.loader.exec_module(module)
    return module


def tables(name: str, mirror: Mirror) -> tuple[list[Any], list[dict[str, Any]]]:
    parts = (COLLECTIONS[name].corpus, COLLECTIONS[name].queries, COLLECTIONS[name].qrels)
    fetched = [fetch_dataset(part, DATASETS[part], mirror, offline=True) for part in parts]
    return [table for table, _ in fetched], [meta for _, meta in fetched]


def add(tool: ModuleType, name: str, shared_data: Path, mirror: Mirror) -> None:
    tool.add_collection(name, COLLECTIONS[name], DATASETS, tool.Shared(shared_data), mirror)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Mirror:
    mirror = Mirror(tmp_path_factory.mktemp("mirror"))
    tool = the_tool()
    for name in tool.COLLECTIONS:
        add(tool, name, shared_data, mirror)
    return mirror


@pytest.mark.parametrize("name", MTEB)
def test_a_collection_has_the_size_and_the_texts_that_mteb_states(name: str, filled: Mirror) -> None:
    (corpus, queries, qrels), metas = tables(name, filled)
    kept, facts = check_collection(corpus, queries, qrels, name)
    documents = zip(corpus["title"].to_pylist(), corpus["text"].to_pylist(), strict=True)
    characters = sum(len(passage_text(title, text)) for title, text in documents)
    asked = sum(map(len, kept["text"].to_pylist()))
    assert (facts["documents"], facts["queries"], facts["judgements"], characters, asked) == MTEB[name]
    for meta in metas:
        assert (meta["from"], meta["id"]) == ("shared-data", f"mteb/{name}")
        assert "not the hub's bytes" in meta["note"]


def test_files_have_the_hubs_names_and_columns(filled: Mirror) -> None:
    hub = DATASETS["scifact.corpus"].hub
    assert hub is not None and hub.revision is not None
    entry = filled.entry("datasets", hub.id, hub.revision)
    columns = {
        "corpus.jsonl": {"_id", "title", "text"},
        "queries.jsonl": {"_id", "text"},
        "qrels/test.jsonl": {"query-id", "corpus-id", "score"},
        "qrels/train.jsonl": {"query-id", "corpus-id", "score"},
    }
    assert set(filled.manifest(entry)["files"]) == set(columns)
    for file, names in columns.items():
        assert set(json.loads((entry / file).read_text().splitlines()[0])) == names


def test_training_judgements_come_along(filled: Mirror) -> None:
    for name, rows in {"scifact.train-qrels": 919, "nfcorpus.train-qrels": 110575}.items():
        assert fetch_dataset(name, DATASETS[name], filled, offline=True)[0].num_rows == rows


def test_known_oddities_are_met_and_counted(filled: Mirror) -> None:
    corpus, queries, qrels = tables("arguana", filled)[0]
    _, facts = check_collection(corpus, queries, qrels, "arguana")
    assert facts["judgements_of_unknown_documents"] == 5
    assert len(set(corpus["doc_id"].to_pylist()) & set(queries["query_id"].to_pylist())) == 1298
    corpus, queries, qrels = tables("cranfield", filled)[0]
    _, facts = check_collection(corpus, queries, qrels, "cranfield")
    assert (facts["documents"], facts["queries"], facts["judgements"], facts["relevant"]) == (1400, 225, 1612, 1612)
    assert facts["documents_without_title_and_text"] == 2
    assert sorted(set(qrels["grade"].to_pylist())) == [1, 2, 3, 4]
    texts = {row["doc_id"]: row for row in corpus.to_pylist()}
    assert all(texts[name] == {"doc_id": name, "title": "", "text": ""} for name in ("471", "995"))


def test_what_the_mirror_has_is_not_touched(tmp_path: Path, shared_data: Path) -> None:
    mirror, tool = Mirror(tmp_path), the_tool()
    add(tool, "cranfield", shared_data, mirror)
    (tmp_path / "local" / "cranfield" / "queries.jsonl").unlink()
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name[0] != "."}
    with pytest.raises(InputError, match="the mirror's manifest lists this file and it is gone"):
        add(tool, "cranfield", shared_data, mirror)
    (tmp_path / "local" / "cranfield" / "queries.jsonl").write_bytes(
        (shared_data / "retrieval" / "cranfield" / "queries.jsonl").read_bytes()
    )
    add(tool, "cranfield", shared_data, mirror)
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_files_of_the_hub_are_not_mixed_with_copies(tmp_path: Path, shared_data: Path) -> None:
    mirror, tool = Mirror(tmp_path), the_tool()
    hub = DATASETS["arguana.corpus"].hub
    assert hub is not None and hub.revision is not None
    with mirror.incoming() as gathered:
        (gathered / "corpus.jsonl").write_text('{"_id": "1", "title": "", "text": "a"}\n')
        mirror.add(mirror.entry("datasets", hub.id, hub.revision), gathered, {"id": hub.id}, origin="hub")
    with pytest.raises(InputError, match="came from hub and cannot be mixed with files from shared-data"):
        add(tool, "arguana", shared_data, mirror)


def test_pairs_are_copied_as_they_are(tmp_path: Path, shared_data: Path) -> None:
    mirror, tool = Mirror(tmp_path), the_tool()
    for name, file in tool.PAIR_SETS.items():
        source = tool.Shared(shared_data).file(file)
        tool.put(DATASETS[name], source.read_bytes, mirror, "a note")
        table, _ = fetch_dataset(name, DATASETS[name], mirror, offline=True)
        assert table.column_names[:2] == ["anchor", "positive"] and table.num_rows == DATASETS[name].rows
        assert (mirror.root / "local" / "pairs" / source.name).read_bytes() == source.read_bytes()
    assert set(table["subset"].to_pylist()) >= {"lingnli", "rte"}  # nli-entailment keeps where its pairs are from


def label_counts(task: str, split: str) -> tuple[int, int, dict[str, int]]:
    """(rows, characters, texts per label in order of first appearance) of mteb's descriptive statistics, English."""
    where = importlib.util.find_spec("mteb")
    assert where is not None and where.origin is not None
    file = Path(where.origin).parent / "descriptive_stats" / "Classification" / f"{task}.json"
    stats = json.loads(file.read_text(encoding="utf-8"))[split]
    stats = stats.get("hf_subset_descriptive_stats", {}).get("en", stats)
    counts = {label: found["count"] for label, found in stats["label_statistics"]["labels"].items()}
    return stats["num_samples"], stats["text_statistics"]["total_text_length"], counts


@pytest.mark.parametrize(
    ("name", "short"), [("banking77", (12, 4)), ("emotion", (0, 0)), ("amazon-counterfactual", (222, 31))]
)
def test_a_labelled_set_has_the_rows_and_labels_that_mteb_states(
    name: str, short: tuple[int, int], tmp_path: Path, shared_data: Path
) -> None:
    mirror, tool = Mirror(tmp_path), the_tool()
    tool.add_classification(name, DATASETS, tool.Shared(shared_data), mirror)
    task = CLASSIFICATIONS[name].mteb_task
    assert task is not None
    for part, lacking in zip(("train", "test"), short, strict=True):
        table, meta = fetch_dataset(f"{name}.{part}", DATASETS[f"{name}.{part}"], mirror, offline=True)
        rows, characters, counts = label_counts(task, part)
        labels = Counter(table["label"].to_pylist())
        assert (table.num_rows, sum(map(len, table["text"].to_pylist()))) == (rows, characters - lacking)
        assert labels == counts and list(labels) == list(counts)  # the hub's numbers, met in the hub's order
        assert meta["from"] == "shared-data" and "characters" in meta["note"]


@pytest.mark.parametrize("name", ["mr", "cr", "subj"])
def test_a_set_without_a_split_is_split_by_class_and_text(name: str, tmp_path: Path, shared_data: Path) -> None:
    tool = the_tool()
    shared = tool.Shared(shared_data)
    mirror, whole = Mirror(tmp_path), shared.rows(tool.SPLIT_LABELLED[name])
    tool.add_classification(name, DATASETS, shared, mirror)
    parts = [fetch_dataset(f"{name}.{part}", DATASETS[f"{name}.{part}"], mirror, True)[0] for part in ("train", "test")]
    train, test = ([(row["text"], row["label"]) for row in part.to_pylist()] for part in parts)
    assert Counter(train) + Counter(test) == Counter((row["text"], row["label"]) for row in whole)
    assert not {text for text, _ in train} & {text for text, _ in test}
    order = {row["text"]: number for number, row in reversed(list(enumerate(whole)))}
    assert [order[text] for text, _ in test] == sorted(order[text] for text, _ in test)
    share = Counter(label for _, label in test)
    assert all(abs(share[label] / count - 0.2) < 0.002 for label, count in Counter(r["label"] for r in whole).items())
    assert shared.split(tool.SPLIT_LABELLED[name], "test") == shared.split(tool.SPLIT_LABELLED[name], "test")


def test_sets_with_a_split_of_their_own_are_copied(tmp_path: Path, shared_data: Path) -> None:
    mirror, tool = Mirror(tmp_path), the_tool()
    for name, files in tool.LOCAL_LABELLED.items():
        tool.add_classification(name, DATASETS, tool.Shared(shared_data), mirror)
        tables = [
            fetch_dataset(f"{name}.{part}", DATASETS[f"{name}.{part}"], mirror, True)[0] for part in ("train", "test")
        ]
        assert check_classification(tables[0], tables[1], name)["test_texts"] == tables[1].num_rows
        source = mirror.root / "local" / "classification" / name / Path(files[1]).name
        assert source.read_bytes() == (shared_data / files[1]).read_bytes()


def test_text_sets_come_with_all_their_files(tmp_path: Path, shared_data: Path) -> None:
    mirror, tool = Mirror(tmp_path), the_tool()
    name = "public-text-valid"
    tool.add_text(name, DATASETS[name], tool.Shared(shared_data), mirror)
    assert fetch_dataset(name, DATASETS[name], mirror, offline=True)[0].num_rows == DATASETS[name].rows
    wanted = DATASETS["public-text"].mirror
    assert wanted is not None
    assert [Path(file).name for file in wanted.files] == [Path(file).name for file in tool.TEXT_SETS["public-text"]]
    rows = json.loads((shared_data / "MANIFEST.json").read_text())["files"]
    assert (
        sum(file["rows"] for file in rows if file["name"] in tool.TEXT_SETS["public-text"])
        == DATASETS["public-text"].rows
    )


def test_the_shared_data_becomes_a_mirror(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = PROJECT.parent / "shared" / "data"
    if not (shared / "MANIFEST.json").is_file():
        pytest.skip("../shared/data is not here")
    tool, root = the_tool(), tmp_path / "mirror"
    assert tool.main([str(shared), str(root)]) == 0
    capsys.readouterr()
    mirror = Mirror(root)
    rows, means = {}, {}
    for name in (*tool.HUB_SETS, *tool.LOCAL_SETS):
        table, meta = fetch_dataset(name, DATASETS[name], mirror, offline=True)
        rows[name] = table.num_rows
        assert meta["from"] == "shared-data" and "Made by tools/mirror_from_shared.py" in meta["note"]
        if DATASETS[name].kind == "scored-pairs":
            means[name] = sum(table["score"].to_pylist()) / table.num_rows
    seven = {"sts12": 3108, "sts13": 1500, "sts14": 3750, "sts15": 3000, "sts16": 1186, "stsb": 1379, "sick-r": 9927}
    others = {"stsb-train": 5749, "stsb-dev": 1500, "nli-public": 24786, "sick-train": 4500, "sick-r-test": 4927}
    assert rows == seven | others
    # mean gold scores as mteb 2.26.24 states them (mteb/descriptive_stats/STS/*.json, avg_score)
    stated = {
        "sts12": 3.5060643500643507,
        "sts13": 2.3361888888888864,
        "sts14": 2.8114334391534355,
        "sts15": 2.40591333333333,
        "sts16": 2.4131534569983137,
        "stsb": 2.607916606236405,
        "sick-r": 3.5291492898156607,
    }
    assert {name: means[name] for name in stated} == pytest.approx(stated, rel=1e-12)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.gz")}
    assert tool.main([str(shared), str(root)]) == 0
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.gz")} == before


def test_a_changed_shared_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = tmp_path / "shared"
    (shared / "sts" / "STSBenchmark").mkdir(parents=True)
    assert the_tool().main([str(shared), str(tmp_path / "mirror")]) == 2
    assert "no readable manifest there" in capsys.readouterr().err
    name = "sts/STSBenchmark/train.jsonl.gz"
    (shared / name).write_bytes(gzip.compress(jsonl(PAIRS)))
    (shared / "MANIFEST.json").write_text(json.dumps({"files": [{"name": name, "sha256": "0" * 64}]}))
    assert the_tool().main([str(shared), str(tmp_path / "mirror")]) == 2
    assert f"error: {shared / name}: this file has changed (sha256 " in capsys.readouterr().err
    assert not list((tmp_path / "mirror").rglob("*.gz"))


def test_the_tool_copies_a_model_folder(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror")
    source = tmp_path / "model"
    for name, content in MODEL.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    tool = the_tool()
    folder = tool.add_model("org/model", source, mirror)
    assert set(mirror.manifest(folder)["files"]) == WANTED
    assert mirror.model_folder("org/model", None) == mirror.model_folder("org/model", folder.name) == folder
    assert tool.add_model("org/model", source, mirror) == folder
    (source / "vocab.txt").write_text("[CLS]")
    with pytest.raises(InputError, match="has pinned revision"):
        tool.add_model("org/model", source, mirror)
    (source / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no config.json with weights"):
        tool.add_model("org/model", source, mirror)
