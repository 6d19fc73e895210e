"""Groups from judgements and pairs: what is a positive, what can be a negative, and that draws repeat."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from matryobench.data.groups import write_tevatron
from matryobench.data.mining import K1, B, _bm25, groups_from_folder, mine
from matryobench.data.prepare import fetch_data
from matryobench.data.records import read_records, read_table, write_table
from matryobench.data.registry import load_datasets, mined_inputs
from matryobench.errors import InputError

COLOURS = ("red", "blue", "green", "black", "white", "yellow", "brown", "grey", "pink", "purple")
# Two documents on each colour, one on none, one with the text of another, one blank.
DOCUMENTS = [
    *(
        {"_id": f"{colour}-{n}", "title": colour, "text": f"{colour} paint number{n}"}
        for colour in COLOURS
        for n in (1, 2)
    ),
    {"_id": "other", "title": "", "text": "nothing of that kind"},
    {"_id": "copy", "title": "", "text": "red red paint number1"},
    {"_id": "blank", "title": "", "text": ""},
]
QUERIES = [{"_id": colour, "text": f"which {colour} paint"} for colour in COLOURS[:4]] + [
    {"_id": "zz", "text": "xyzzy"}
]
JUDGED = [
    ("red", "red-1", 2), ("red", "red-2", 1), ("red", "green-1", 0), ("blue", "blue-1", 1), ("blue", "blank", 1),
    ("green", "green-1", 1), ("black", "blank", 1), ("zz", "other", 2),
]  # fmt: skip

HEAD = {"description": "a tiny set for tests", "citation": "none", "licence": "none"}


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    jsonl(root / "corpus.jsonl", DOCUMENTS)
    jsonl(root / "queries.jsonl", QUERIES)
    (root / "qrels").mkdir()
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in JUDGED)]
    for split in ("train", "test"):
        (root / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return root


def ids(row: dict[str, Any], side: str) -> list[str]:
    return [passage["docid"] for passage in row[f"{side}_passages"]]


def by_query(folder: Path, **settings: Any) -> dict[str, dict[str, Any]]:
    return {row["query_id"]: row for row in groups_from_folder(folder, **settings)[0].to_pylist()}


# --- judgements ------------------------------------------------------------------------------------------------------


def test_positives_are_the_relevant_documents_and_negatives_never(folder: Path) -> None:
    rows = by_query(folder, negatives=6)
    assert list(rows) == ["red", "blue", "green", "zz"]  # black's one positive is blank, which teaches nothing
    assert ids(rows["red"], "positive") == ["red-2", "red-1"] or ids(rows["red"], "positive") == ["red-1", "red-2"]
    assert ids(rows["blue"], "positive") == ["blue-1"]
    for row in rows.values():
        negatives = ids(row, "negative")
        assert len(negatives) == len(set(negatives)) == 6 and "blank" not in negatives
        assert not set(negatives) & set(ids(row, "positive"))
    assert "copy" not in ids(rows["red"], "negative")  # it says what red-1 says
    document = next(d for d in DOCUMENTS if d["_id"] == "blue-1")
    assert rows["blue"]["positive_passages"] == [{"docid": "blue-1", "title": "blue", "text": document["text"]}]


def test_what_is_relevant_below_the_grade_is_neither(folder: Path) -> None:
    rows = by_query(folder, negatives=19, depth=40, min_grade=2)
    assert list(rows) == ["red", "zz"] and ids(rows["red"], "positive") == ["red-1"]
    assert not {"red-1", "red-2", "copy", "blank"} & set(ids(rows["red"], "negative"))
    assert "green-1" in ids(rows["red"], "negative")  # judged not relevant


def test_hard_negatives_share_words_and_stay_within_the_depth(folder: Path) -> None:
    # Of the documents that are not relevant to blue, blue-2 shares two words with the question and is first.
    assert ids(by_query(folder, negatives=1, depth=1)["blue"], "negative") == ["blue-2"]
    drawn = {ids(by_query(folder, negatives=1, depth=3, seed=seed)["blue"], "negative")[0] for seed in range(30)}
    assert len(drawn) == 3 and "blue-2" in drawn
    _, facts = groups_from_folder(folder, negatives=3)
    assert (facts["queries"], facts["queries_without_positive"], facts["positives"]) == (4, 1, 5)
    assert (facts["mined"], facts["random"]) == (9, 3)  # no document has the word xyzzy, so any will do


def test_a_querys_own_document_is_left_out_when_asked(folder: Path) -> None:
    jsonl(folder / "corpus.jsonl", [*DOCUMENTS, {"_id": "blue", "title": "", "text": "blue paint, which blue"}])
    assert ids(by_query(folder, negatives=1, depth=1)["blue"], "negative") == ["blue"]
    assert ids(by_query(folder, negatives=1, depth=1, exclude_own_id=True)["blue"], "negative") == ["blue-2"]


def test_the_same_seed_gives_the_same_bytes_and_a_tevatron_file(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tevatron(groups_from_folder(folder, negatives=4, seed=7)[0], tmp_path / f"{name}.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert not groups_from_folder(folder, negatives=4, seed=8)[0].equals(
        groups_from_folder(folder, negatives=4, seed=7)[0]
    )
    entries = {"mine": HEAD | {"kind": "groups", "rows": 4, "local": {"files": ["a.jsonl.gz"]}}}
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(entries))
    spec = load_datasets(tmp_path / "sets.yaml")["mine"]
    assert read_records(spec.local_paths(), spec, "mine").equals(groups_from_folder(folder, negatives=4, seed=7)[0])


def test_too_few_passages_and_no_positive_are_refused(folder: Path) -> None:
    with pytest.raises(
        InputError, match="query 'red': the corpus has too few passages that are not relevant; ask for fewer"
    ):
        groups_from_folder(folder, negatives=40)
    with pytest.raises(InputError, match="no query has a positive of grade 3 or more; lower min_grade"):
        groups_from_folder(folder, min_grade=3)


def test_the_ranking_is_bm25_of_lucene() -> None:
    texts = ["red dog red", "the red cat", "a dog and a dog and a bird", "bird", "red bird dog"]
    words = [["red", "dog", "red"], ["red", "cat"], ["dog", "dog", "bird"], ["bird"], ["red", "bird", "dog"]]
    mean = sum(map(len, words)) / len(words)

    def score(query: list[str], document: list[str]) -> float:
        total = 0.0
        for word in query:
            holders = sum(word in other for other in words)
            rarity = np.log(1 + (len(words) - holders + 0.5) / (holders + 0.5))
            count = document.count(word)
            total += rarity * count / (count + K1 * (1 - B + B * len(document) / mean))
        return total

    scores = [score(["red", "dog"], document) for document in words]
    want = [n for n in sorted(range(5), key=lambda n: (-round(scores[n], 5), n)) if scores[n] > 0]
    search = _bm25(texts)
    assert search("The RED dog?", 5) == want and search("The RED dog?", 2) == want[:2]
    assert search("xyzzy", 5) == [] and _bm25(["", "!"])("red", 1) == []
    assert _bm25(["red", "red", "blue", "red"])("red", 2) == [0, 1]  # ties by number


# --- entries ---------------------------------------------------------------------------------------------------------


def registry(tmp_path: Path, folder: Path, mined: dict[str, Any], **more: Any) -> Path:
    pairs = [{"anchor": f"which {c}", "positive": f"{c} thing {n}"} for c in COLOURS for n in (1, 2)]
    triplets = [
        {"anchor": f"a {c} house", "positive": f"some {c} house", "negative": f"no {c} house {n}"}
        for c in COLOURS
        for n in "ab"
    ]
    jsonl(tmp_path / "pairs.jsonl", pairs)
    jsonl(tmp_path / "triplets.jsonl", triplets)
    entries = {
        "mixed": HEAD | {"kind": "groups", "mined": mined} | more,
        "set": {"kind": "retrieval", "description": "a tiny collection", "folder": str(folder), "train_split": "train"},
        "testing": {"kind": "retrieval", "description": "a tiny collection", "folder": str(folder)},
        "two": HEAD | {"kind": "pairs", "local": {"files": ["pairs.jsonl"]}},
        "three": HEAD | {"kind": "triplets", "local": {"files": ["triplets.jsonl"]}},
    }
    path = tmp_path / "sets.yaml"
    path.write_text(yaml.safe_dump(entries, sort_keys=False))
    return path


PARTS = [{"collection": "set"}, {"pairs": "two", "limit": 6}, {"triplets": "three"}]


def test_an_entry_is_made_of_the_tables_beside_it(tmp_path: Path, folder: Path) -> None:
    path = registry(tmp_path, folder, {"parts": PARTS, "negatives": 4, "depth": 10, "seed": 3}, rows=20)
    specs = load_datasets(path)
    assert mined_inputs(specs["mixed"]) == ["set.corpus", "set.queries", "set.train-qrels", "two", "three"]
    plan: Any = SimpleNamespace(
        datasets=specs, experiment=SimpleNamespace(mirror=tmp_path / "mirror", offline=True, mteb=None)
    )
    out = tmp_path / "data" / "mixed.parquet"
    assert fetch_data(plan, "mixed", out) == 20
    table, meta = read_table(out)
    assert (meta["source"], meta["rows"], meta["kind"]) == ("mined", 20, "groups")
    assert set(meta["sha256"]) >= {"two: pairs.jsonl", "three: triplets.jsonl"}
    first, second, third = meta["mined"]["parts"]
    assert (first["part"], first["queries"], second["queries"], third["queries"]) == ("set", 4, 6, 10)
    assert (third["given"], third["mined"]) == (20, 20)
    rows = {row["query_id"]: row for row in table.to_pylist()}
    assert [name.split(":")[0] for name in rows] == ["set"] * 4 + ["two"] * 6 + ["three"] * 10
    assert all(len(row["negative_passages"]) == 4 for row in rows.values())
    assert all(len(row["positive_passages"]) == 2 for name, row in rows.items() if name.startswith("two"))
    one = rows["three:q0"]
    texts = [passage["text"] for passage in one["negative_passages"]]
    assert one["query"] == "a red house" and texts[:2] == ["no red house a", "no red house b"]
    assert [passage["text"] for passage in one["positive_passages"]] == ["some red house"]
    assert one["positive_passages"][0]["docid"].startswith("three:p")
    tables = {name: out.parent / f"{name}.parquet" for name in mined_inputs(specs["mixed"])}
    assert mine(specs["mixed"], tables)[0].equals(table)


def test_limits_keep_the_order_and_seeds_change_the_choice(tmp_path: Path, folder: Path) -> None:
    chosen = []
    for seed in (1, 1, 2):
        spec = load_datasets(registry(tmp_path, folder, {"parts": [PARTS[1]], "negatives": 2, "seed": seed}))["mixed"]
        pairs = load_datasets(tmp_path / "sets.yaml")["two"]
        write_table(read_records(pairs.local_paths(), pairs, "two"), tmp_path / "two.parquet", {"kind": "pairs"})
        table, _ = mine(spec, {"two": tmp_path / "two.parquet"})
        chosen.append([COLOURS.index(query.split()[1]) for query in table.column("query").to_pylist()])
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(len(one) == 6 and one == sorted(one) for one in chosen)


def test_a_pool_of_judged_documents_leaves_the_others_out(tmp_path: Path, folder: Path) -> None:
    mined = {"parts": [{"collection": "set", "pool": "judged"}], "negatives": 2, "depth": 30}
    specs = load_datasets(registry(tmp_path, folder, mined))
    plan: Any = SimpleNamespace(
        datasets=specs, experiment=SimpleNamespace(mirror=tmp_path / "mirror", offline=True, mteb=None)
    )
    fetch_data(plan, "mixed", tmp_path / "data" / "mixed.parquet")
    table, _ = read_table(tmp_path / "data" / "mixed.parquet")
    judged = {f"set:{document}" for _, document, _ in JUDGED}
    assert {document for row in table.to_pylist() for document in ids(row, "negative")} <= judged


BAD = [
    ({"parts": []}, "'mined.parts': list should have at least 1 item"),
    ({"parts": [{}]}, "'mined.parts.0': a part names one of collection, pairs or triplets and this one has none"),
    ({"parts": [{"pairs": "two", "triplets": "three"}]}, "'mined.parts.0': a part names one of collection, pairs or triplets"),
    ({"parts": [{"pairs": "two", "min_grade": 2}]}, "'mined.parts.0': min_grade is about judgements, which only a collection"),
    ({"parts": [{"pairs": "three"}]}, ".mined.parts.0.pairs: 'three' has triplets; name an entry of kind pairs."),
    ({"parts": [{"pairs": "too"}]}, ".mined.parts.0.pairs: unknown data set 'too'; did you mean two"),
    ({"parts": [{"collection": "testing"}]}, ".mined.parts.0.collection: testing has no train_qrels; name a collection"),
    ({"parts": [{"collection": "sett"}]}, ".mined.parts.0.collection: unknown test collection 'sett'; did you mean set"),
    ({"parts": [{"pairs": "two"}], "negatives": 0}, "'mined.negatives': input should be greater than or equal to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("mined", "sentence"), BAD)
def test_a_bad_entry_is_named(tmp_path: Path, folder: Path, mined: dict[str, Any], sentence: str) -> None:
    path = registry(tmp_path, folder, mined)
    with pytest.raises(InputError) as caught:
        load_datasets(path)
    message = str(caught.value).removeprefix(f"{path}: mixed").removeprefix(": ")
    assert message.startswith(sentence) and message[-1] in ".?" and "\n" not in message


def test_only_groups_are_mined_and_rows_are_checked(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="mined makes groups and the kind is pairs; write kind: groups"):
        load_datasets(registry(tmp_path, folder, {"parts": [{"pairs": "two"}]}, kind="pairs"))
    specs = load_datasets(registry(tmp_path, folder, {"parts": [{"pairs": "two"}], "negatives": 2}, rows=3))
    plan: Any = SimpleNamespace(
        datasets=specs, experiment=SimpleNamespace(mirror=tmp_path / "mirror", offline=True, mteb=None)
    )
    with pytest.raises(InputError, match="^mined from two: 10 groups were made and the entry says rows: 3"):
        fetch_data(plan, "mixed", tmp_path / "data" / "mixed.parquet")
    assert not (tmp_path / "data" / "mixed.parquet").exists()


# --- real data -------------------------------------------------------------------------------------------------------


def test_scifacts_training_claims(shared_data: Path) -> None:
    table, facts = groups_from_folder(shared_data / "retrieval" / "scifact")
    assert (table.num_rows, facts["positives"], facts["queries_without_positive"]) == (809, 919, 0)
    assert facts["mined"] + facts["random"] == 809 * 7
    for row in table.slice(0, 50).to_pylist():
        assert not set(ids(row, "positive")) & set(ids(row, "negative")) and len(ids(row, "negative")) == 7
