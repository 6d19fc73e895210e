"""Test collections: one entry becomes its tables, a folder in BEIR's form is one short entry, wrong ones are refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from matryobench.data import demo_world
from matryobench.data.collection_tables import check_collection, collection_from_folder
from matryobench.data.fetch import fetch_dataset
from matryobench.data.mirror import Mirror
from matryobench.data.registry import Collection, entry_schema, find_collection, load_collections, load_datasets
from matryobench.errors import InputError

DOCUMENTS = [
    {"_id": "d1", "title": "Red", "text": "a red dog"},
    {"_id": "d10", "title": "", "text": "a cat"},
    {"_id": "d2", "text": "two cats"},
    {"_id": "é", "title": "Empty", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "dog?"}, {"_id": "q2", "text": "cat?"}, {"_id": "t1", "text": "cats?", "metadata": {}}]
TEST = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td10\t1\n"
TRAIN = "query-id\tcorpus-id\tscore\nt1\td2\t1\nt1\td10\t1\n"

HUB = {"id": "org/set", "revision": "a" * 40}
PARTS: dict[str, Any] = {
    "kind": "retrieval",
    "description": "a tiny collection for tests",
    "citation": "Nobody 2025",
    "licence": "CC0",
    "corpus": {"rows": 4, "hub": HUB | {"files": ["corpus.jsonl"]}},
    "queries": {"hub": HUB | {"files": ["queries.jsonl"]}},
    "qrels": {"hub": HUB | {"files": ["qrels/test.tsv"]}},
}


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def beir_folder(folder: Path, documents: list[dict[str, Any]] = DOCUMENTS, test: str = TEST) -> Path:
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(jsonl(documents)))
    (folder / "queries.jsonl").write_bytes(jsonl(QUERIES))
    (folder / "qrels" / "test.tsv").write_text(test)
    (folder / "qrels" / "train.tsv").write_text(TRAIN)
    return folder


def registry(folder: Path, entries: dict[str, Any]) -> Path:
    path = folder / "sets.yaml"
    path.write_text(yaml.safe_dump(entries, sort_keys=False))
    return path


# --- entries ---------------------------------------------------------------------------------------------------------


def test_an_entry_becomes_plain_ones_and_a_collection_that_names_them(tmp_path: Path) -> None:
    train = {"rows": 7, "hub": HUB | {"files": ["qrels/train.tsv"]}, "columns": {"gain": "grade"}}
    other = {key: value for key, value in PARTS.items() if key != "corpus"} | {"corpus_of": "tiny"}
    path = registry(tmp_path, {"tiny": PARTS | {"train_qrels": train}, "other": other | {"metric": "mrr@10"}})
    specs = load_datasets(path)
    assert {name: spec.kind for name, spec in specs.items()} == {
        "tiny.corpus": "passages", "tiny.queries": "queries", "tiny.qrels": "qrels", "tiny.train-qrels": "qrels",
        "other.queries": "queries", "other.qrels": "qrels",
    }  # fmt: skip
    assert specs["tiny.corpus"].hub is not None and specs["tiny.corpus"].hub.files == ["corpus.jsonl"]
    assert specs["tiny.corpus"].rows == 4 and specs["tiny.train-qrels"].columns == {"gain": "grade"}
    assert {spec.licence for spec in specs.values()} == {"CC0"}
    assert specs["other.qrels"].description == "a tiny collection for tests (test judgements)"
    assert load_collections(path) == {
        "tiny": Collection(
            "tiny", "tiny.corpus", "tiny.queries", "tiny.qrels", "tiny.train-qrels", False, "ndcg@10", 4,
            "a tiny collection for tests",
        ),
        "other": Collection(
            "other", "tiny.corpus", "other.queries", "other.qrels", None, False, "mrr@10", 4, "a tiny collection for tests"
        ),
    }  # fmt: skip


def test_a_folder_is_one_short_entry(tmp_path: Path) -> None:
    beir_folder(tmp_path / "data" / "mine")
    entry = {"kind": "retrieval", "description": "my own collection", "folder": "data/mine", "train_split": "train"}
    path = registry(tmp_path, {"mine": entry})
    specs, collections = load_datasets(path), load_collections(path)
    assert collections["mine"].train_qrels == "mine.train-qrels" and collections["mine"].documents is None
    tables = {name: fetch_dataset(name, spec, Mirror(tmp_path / "m"), offline=True) for name, spec in specs.items()}
    corpus, meta = tables["mine.corpus"]
    assert corpus.to_pylist() == [
        {"doc_id": "é", "title": "Empty", "text": ""},
        {"doc_id": "d2", "title": "", "text": "two cats"},
        {"doc_id": "d10", "title": "", "text": "a cat"},
        {"doc_id": "d1", "title": "Red", "text": "a red dog"},
    ]
    assert list(meta["sha256"]) == ["data/mine/corpus.jsonl.gz"] and meta["licence"] == "not stated"
    assert tables["mine.train-qrels"][0].column("grade").to_pylist() == [1, 1]
    direct = collection_from_folder(tmp_path / "data" / "mine")
    assert [
        table.equals(tables[f"mine.{part}"][0])
        for table, part in zip(direct, ("corpus", "queries", "qrels"), strict=True)
    ]
    assert collection_from_folder(tmp_path / "data" / "mine", "train")[2].equals(tables["mine.train-qrels"][0])


def test_the_demo_collection_is_whole_and_its_groups_keep_to_the_training_side(tmp_path: Path) -> None:
    shipped = Path(__file__).resolve().parents[2] / "config" / "datasets.yaml"
    found, specs = load_collections(shipped)["demo-search"], load_datasets(shipped)
    assert found.train_qrels is not None
    names = (found.corpus, found.queries, found.qrels, found.train_qrels)
    corpus, queries, test, train = (fetch_dataset(n, specs[n], Mirror(tmp_path), offline=True)[0] for n in names)
    assert found.documents == corpus.num_rows == 2632
    kept, facts = check_collection(corpus, queries, test, "demo-search")
    assert kept.column("query_id").to_pylist() == demo_world.table("test-queries")["_id"]
    assert (facts["queries_without_judgements"], facts["judgements_of_unknown_documents"]) == (1209, 0)
    assert check_collection(corpus, queries, train, "demo-search")[1]["queries"] == 1209


BAD = [
    ({"corpus": None}, "tiny: either 'corpus' or 'corpus_of' (or 'folder') is needed; give one of them."),
    ({"corpus_of": "x"}, "tiny: either 'corpus' or 'corpus_of' (or 'folder') is needed; give one of them."),
    ({"folder": "x"}, "tiny: a folder already has the corpus; remove 'folder' or 'corpus'."),
    ({"queries": None}, "tiny: key 'queries' is missing; add it."),
    ({"licence": None}, "tiny: key 'licence' is missing; add it."),
    ({"train_split": "train"}, "tiny: split and train_split belong to a folder; name the judgements under qrels"),
    ({"metric": "map"}, "tiny: 'metric': input should be 'ndcg@10' or 'mrr@10', found 'map'."),
    ({"corpus": None, "corpus_of": "x"}, "tiny.corpus_of: 'x' is no retrieval entry with a corpus of its own; those that"),
    ({"corpus": {"rows": 4}}, "tiny: 'corpus': exactly one source is needed (hub, local, mirror or demo_world) and the"),
    ({"qrels": PARTS["qrels"] | {"columns": {"x": "score"}}}, "tiny.qrels: columns renames to 'score', which qrels do not"),
    ({"own_id": True}, "tiny: unknown key 'own_id'; did you mean 'exclude_own_id'?"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), BAD)
def test_a_bad_entry_is_named(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    entry = {key: value for key, value in (PARTS | change).items() if value is not None}
    path = registry(tmp_path, {"tiny": entry, "owner": PARTS})
    with pytest.raises(InputError) as caught:
        load_collections(path), load_datasets(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {sentence}") and message[-1] in ".?" and "\n" not in message


def test_a_part_cannot_take_the_name_of_an_entry(tmp_path: Path) -> None:
    taken = {"kind": "text", "description": "something else", "citation": "none", "licence": "CC0"}
    entries = {"tiny": PARTS, "tiny.qrels": taken | {"local": {"files": ["x.txt"]}}}
    with pytest.raises(InputError, match=r"tiny\.qrels is both an entry and a part of the collection tiny"):
        load_datasets(registry(tmp_path, entries))
    with pytest.raises(InputError, match="^here: unknown test collection 'tinny'; did you mean tiny"):
        find_collection(load_collections(registry(tmp_path, {"tiny": PARTS})), "tinny", "here")


def test_the_schema_describes_both_forms_and_every_key() -> None:
    schema = entry_schema()
    forms = [option["$ref"].removeprefix("#/$defs/") for option in schema["anyOf"]]
    assert forms == ["DatasetSpec", "CollectionSpec", "ClassificationSpec"]
    models = [model for model in schema["$defs"].values() if "properties" in model]
    assert [key for model in models for key, facts in model["properties"].items() if not facts.get("description")] == []


# --- the tables against each other -----------------------------------------------------------------------------------


def tables(qrels: list[tuple[str, str, int]], documents: list[str], queries: list[str]) -> tuple[pa.Table, ...]:
    texts = {"title": [""] * len(documents), "text": ["x"] * len(documents)}
    judged = dict(zip(("query_id", "doc_id", "grade"), map(list, zip(*qrels, strict=True)), strict=True))
    asked = {"query_id": queries, "text": ["x"] * len(queries)}
    return pa.table({"doc_id": documents, **texts}), pa.table(asked), pa.table(judged)


def test_the_rules_of_beir_and_trec_eval_are_counted(tmp_path: Path) -> None:
    passages, queries, qrels = collection_from_folder(beir_folder(tmp_path / "b"))
    kept, facts = check_collection(passages, queries, qrels, "b")
    assert kept.to_pylist() == [{"query_id": "q1", "text": "dog?"}, {"query_id": "q2", "text": "cat?"}]
    assert facts == {
        "documents": 4, "queries": 2, "judgements": 3, "relevant": 2, "queries_without_judgements": 1,
        "queries_without_relevant": 0, "judgements_of_unknown_documents": 0, "negative_grades": 0,
        "documents_without_text": 1, "documents_without_title_and_text": 0,
    }  # fmt: skip
    judged = [("a", "1", 0), ("b", "1", -1), ("b", "2", 1), *(("c", str(n), 1) for n in range(8))]
    kept, facts = check_collection(*tables(judged, [str(n) for n in range(7)], ["b", "x", "a", "c"]), "b")
    assert kept.column("query_id").to_pylist() == ["b", "a", "c"]
    wanted = {"queries_without_relevant": 1, "judgements_of_unknown_documents": 1, "negative_grades": 1, "relevant": 9}
    assert {key: facts[key] for key in wanted} == wanted


def test_tables_that_do_not_belong_together_are_refused() -> None:
    good = [("q", str(n), 1) for n in range(10)]
    corpus = [str(n) for n in range(9)]
    assert check_collection(*tables(good, corpus, ["q"]), "b")[1]["judgements_of_unknown_documents"] == 1
    with pytest.raises(
        InputError, match=r"^b: 2 of 10 judgements name documents that the corpus lacks \(such as '8'\)"
    ):
        check_collection(*tables(good, corpus[:8], ["q"]), "b")
    with pytest.raises(
        InputError, match=r"^b: the judgements name the query 'r', .* \(and 1 judgements more do so\); give"
    ):
        check_collection(*tables([*good, ("r", "1", 1), ("s", "1", 1)], corpus, ["q"]), "b")
    with pytest.raises(InputError, match=r"^b: no judgement says that a document is relevant"):
        check_collection(*tables([("q", "1", 0), ("q", "2", -1)], corpus, ["q"]), "b")


def test_trec_eval_reads_a_negative_grade_as_not_relevant() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    run = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}
    values = [
        pytrec_eval.RelevanceEvaluator({"q": {"a": grade, "b": 1, "c": 2}}, {"ndcg_cut.10", "recip_rank"}).evaluate(run)
        for grade in (0, -1, -2)
    ]
    assert values[0] == values[1] == values[2]


def test_a_folder_that_is_not_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder; give one with corpus.jsonl"):
        collection_from_folder(tmp_path / "none")
    folder = beir_folder(tmp_path / "b")
    with pytest.raises(InputError, match=r"there is no qrels/dev\.tsv but judgements of test, train only"):
        collection_from_folder(folder, "dev")
    (folder / "corpus.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"corpus\.jsonl: there is no such file"):
        collection_from_folder(folder)
    twice = beir_folder(tmp_path / "c", [*DOCUMENTS, DOCUMENTS[1]])
    with pytest.raises(InputError) as caught:
        collection_from_folder(twice)
    path = twice / "corpus.jsonl.gz"
    assert str(caught.value) == f"{path} line 5: the doc_id 'd10' was already used by {path} line 2; make ids unique."


# --- the order of documents ------------------------------------------------------------------------------------------


@given(
    ids=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=1, unique=True
    )
)
def test_passages_are_sorted_by_id_descending_in_byte_order(ids: list[str]) -> None:
    from matryobench.data.records import from_columns
    from matryobench.data.specs import DatasetSpec

    spec = DatasetSpec.model_validate(
        {
            "kind": "passages",
            "description": "a tiny corpus",
            "citation": "none",
            "licence": "none",
            "local": {"files": ["x"]},
        }
    )
    table = from_columns({"_id": ids, "text": [f"text of {i}" for i in ids]}, "a test", spec, "tiny")
    found = table.column("doc_id").to_pylist()
    assert [i.encode() for i in found] == sorted((i.encode() for i in ids), reverse=True)
    assert table.column("text").to_pylist() == [f"text of {i}" for i in found]


# --- real collections ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "documents", "queries", "judgements", "unknown", "blank"),
    [
        ("scifact", 5183, 300, 339, 0, 0),
        ("nfcorpus", 3633, 323, 12334, 0, 0),
        ("arguana", 8674, 1406, 1406, 5, 0),
        ("cranfield", 1400, 225, 1612, 0, 2),
    ],
)
def test_real_collections(
    shared_data: Path, name: str, documents: int, queries: int, judgements: int, unknown: int, blank: int
) -> None:
    kept, facts = check_collection(*collection_from_folder(shared_data / "retrieval" / name), name)
    assert (facts["documents"], facts["queries"], facts["judgements"]) == (documents, queries, judgements)
    assert (facts["judgements_of_unknown_documents"], facts["documents_without_title_and_text"]) == (unknown, blank)
    assert kept.num_rows == queries
