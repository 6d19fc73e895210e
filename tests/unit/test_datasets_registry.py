"""The registry of data sets: what is shipped is complete and documented, what is wrong is named by file, key and fix."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from matryobench.data.registry import (
    ClassificationSpec,
    DatasetSpec,
    find_dataset,
    load_collections,
    load_datasets,
    load_entries,
)
from matryobench.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = PROJECT / "config" / "datasets.yaml"
SEVEN = {"sts12": 3108, "sts13": 1500, "sts14": 3750, "sts15": 3000, "sts16": 1186, "stsb": 1379, "sick-r": 9927}

GOOD: dict[str, Any] = {
    "kind": "scored-pairs",
    "description": "a tiny set for tests",
    "citation": "none",
    "licence": "none",
    "rows": 2,
    "score_range": [0, 5],
    "local": {"files": ["pairs.jsonl"]},
}


def written(folder: Path, entries: Any) -> Path:
    path = folder / "sets.yaml"
    path.write_text(entries if isinstance(entries, str) else yaml.safe_dump(entries, sort_keys=False))
    return path


def refusal(folder: Path, entries: Any) -> str:
    path = written(folder, entries)
    with pytest.raises(InputError) as caught:
        load_datasets(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and message[-1] in ".?"
    return message.removeprefix(f"{path}: ")


# --- what is shipped -------------------------------------------------------------------------------------------------


def test_the_seven_sts_test_sets_are_there_with_their_rows_and_pinned_revisions() -> None:
    datasets = load_datasets(SHIPPED)
    assert {name: datasets[name].rows for name in SEVEN} == SEVEN
    for name in SEVEN:
        assert datasets[name].kind == "scored-pairs"
        hub = datasets[name].hub
        assert hub is not None and hub.id.startswith("mteb/") and hub.revision is not None
        assert datasets[name].score_range == ((1, 5) if name == "sick-r" else (0, 5))


def test_training_sets_are_there() -> None:
    datasets = load_datasets(SHIPPED)
    rows = {"nli-for-simcse": 275601, "all-nli": 557850, "stsb-train": 5749, "sick-train": 4500, "nli-public": 24786}
    assert {name: datasets[name].rows for name in rows} == rows
    assert {name for name in rows if datasets[name].kind == "triplets"} == {"nli-for-simcse", "all-nli", "nli-public"}


def test_every_table_says_how_many_rows_it_has_unless_its_revision_is_yet_to_be_pinned() -> None:
    bare = {name: spec for name, spec in load_datasets(SHIPPED).items() if spec.rows is None}
    unpinned = [name for name, spec in bare.items() if spec.hub is None or spec.hub.revision is not None]
    assert unpinned == ["fineweb-100bt", "fineweb-10bt"]  # the hub states tokens of them, not rows


def test_every_key_has_a_description() -> None:
    schema = DatasetSpec.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    bare = [key for model in models for key, facts in model["properties"].items() if not facts.get("description")]
    assert bare == []


def test_the_documentation_has_a_row_for_every_entry_and_its_facts_are_the_registrys() -> None:
    lines = (PROJECT / "docs" / "data.md").read_text().splitlines()
    rows = {found[1]: line for line in lines if (found := re.match(r"\| `([a-z0-9][\w.-]*)` \|", line))}
    entries = load_entries(SHIPPED)
    assert sorted(rows) == sorted(entries)
    for name, entry in entries.items():
        if isinstance(entry, DatasetSpec):
            source = entry.hub.id if entry.hub else "mirror only" if entry.mirror else "demo world"
            count = entry.rows if entry.rows is not None else "not checked"
            source = "mined" if entry.mined else "composed" if entry.composed else source
            want = f"| `{name}` | {entry.kind} | {count} | {source} | {entry.licence} |"
            assert rows[name] == want
        elif isinstance(entry, ClassificationSpec):
            train, test = f"| {entry.train.rows:,} |", f"| {entry.test.rows:,} "
            assert all(fact in rows[name] for fact in (train, test, f"| {entry.mteb_task or '-'} |", entry.licence))
        else:
            documents = load_collections(SHIPPED)[name].documents
            assert str(entry.licence) in rows[name] and f" {documents} " in rows[name].replace(",", "")


# --- what an entry means ---------------------------------------------------------------------------------------------


def test_local_files_are_relative_to_the_registry(tmp_path: Path) -> None:
    spec = load_datasets(written(tmp_path, {"mine": GOOD | {"local": {"files": ["a.csv", "/data/b.csv"]}}}))["mine"]
    assert spec.local_paths() == [tmp_path / "a.csv", Path("/data/b.csv")]
    assert spec.source == spec.local


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(
        InputError, match=r"^demo\.yaml: unknown data set 'sts-b'; did you mean stsb.*valid names are: ag-news"
    ):
        find_dataset(load_datasets(SHIPPED), "sts-b", "demo.yaml")


# --- what is refused -------------------------------------------------------------------------------------------------


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key not in keys}


BAD_ENTRIES = [
    (GOOD | {"licens": "x"}, "mine: unknown key 'licens'; did you mean 'licence'?"),
    (GOOD | {"local": {"file": ["x"]}}, "mine: unknown key 'local.file' (and 1 more); did you mean 'files'?"),
    (without("licence"), "mine: key 'licence' is missing; add it."),
    (GOOD | {"kind": "scored-pair"}, "mine.kind: unknown kind 'scored-pair'; did you mean scored-pairs"),
    (GOOD | {"kind": "retreival"}, "mine.kind: unknown kind 'retreival'; did you mean retrieval"),
    (
        GOOD | {"kind": 3},
        "mine: 'kind': input should be 'triplets', 'scored-pairs', 'text', 'passages', 'queries', 'qrels',",
    ),
    (
        without("score_range") | {"kind": "qrels", "columns": {"a": "id"}},
        "mine: columns renames to 'id', which qrels do not",
    ),
    (GOOD | {"header": []}, "mine: 'header': list should have at least 1 item"),
    (GOOD | {"rows": 0}, "mine: 'rows': input should be greater than or equal to 1, found 0."),
    (
        without("local"),
        "mine: exactly one source is needed (hub, local, mirror, demo_world, mined or composed) and the entry has none.",
    ),
    (
        GOOD | {"mirror": {"files": ["x"]}},
        "mine: exactly one source is needed (hub, local, mirror, demo_world, mined or composed) and the entry has local and "
        "mirror.",
    ),
    (without("score_range"), "mine: score_range: [lowest, highest] belongs to scored-pairs, always,"),
    (GOOD | {"kind": "text"}, "mine: score_range: [lowest, highest] belongs to scored-pairs, always,"),
    (GOOD | {"score_range": [5, 0]}, "mine: score_range must be [lowest, highest] with lowest < highest."),
    (GOOD | {"columns": {"gold": "label"}}, "mine: columns renames to 'label', which scored-pairs do not have; valid"),
    (
        GOOD | {"columns": {"a": "score", "b": "score"}},
        "mine: 'columns': two file columns are renamed to the same name",
    ),
    (GOOD | {"local": {"files": []}}, "mine: 'local.files': list should have at least 1 item"),
    (
        without("local") | {"hub": {"id": "org/name", "revision": "main", "files": ["x"]}},
        "mine: 'hub.revision': give a commit's 40 hexadecimal digits, or null to keep the commit of the first fetch, found",
    ),
    (
        without("local") | {"hub": {"id": "../name", "files": ["x"]}},
        "mine: 'hub.id': string should match pattern",
    ),
    (
        without("local") | {"demo_world": {"table": "sts-roles", "seed": -1}},
        "mine: 'demo_world.seed': input should be greater than or equal to 0, found -1.",
    ),
    ("text", "mine: expected a mapping of keys to values, found a str"),
]


@pytest.mark.parametrize(("entry", "sentence"), BAD_ENTRIES)
def test_a_bad_entry_is_named(tmp_path: Path, entry: Any, sentence: str) -> None:
    assert refusal(tmp_path, {"mine": entry}).startswith(sentence)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path, "").startswith("this must be a mapping of data set names to entries; see docs/data.md")
    assert refusal(tmp_path, "- a\n").startswith("this must be a mapping of data set names to entries")
    assert refusal(tmp_path, {"My Set": GOOD}).startswith("the data set name 'My Set' must be lower-case letters")
    assert "key 'mine' is given twice" in refusal(tmp_path, "mine: {}\nmine: {}\n")
    assert refusal(tmp_path, "a: {b\n").startswith("line 2, column 1: not valid YAML")
    with pytest.raises(InputError, match="there is no such file"):
        load_datasets(tmp_path / "none.yaml")


def test_reading_a_registry_loads_no_heavy_library() -> None:
    heavy = {"torch", "pandas", "pyarrow", "numpy", "bm25s"}
    code = f"import sys, matryobench.data.registry; print(sorted({heavy} & set(sys.modules)))"
    path = {"PYTHONPATH": str(PROJECT / "workflow")}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path).stdout.strip() == "[]"
