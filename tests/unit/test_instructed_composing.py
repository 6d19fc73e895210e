"""Rows with instructions composed of other entries, and those of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from instructed_cases import ASK, FACTS, SAY, SPEC

from matryobench.data import demo_world
from matryobench.data.composing import compose
from matryobench.data.records import from_columns, write_table
from matryobench.data.registry import DatasetSpec, load_datasets, mined_inputs
from matryobench.data.specs import COLUMNS
from matryobench.errors import InputError

# --- composing -------------------------------------------------------------------------------------------------------

GROUPS = [
    {
        "query_id": f"{part}:q{number}",
        "query": f"{part} query {number}",
        "positive_passages": [
            {"docid": f"p{number}{i}", "title": "T", "text": f"{part} answer {number} {i}"} for i in range(3)
        ],
        "negative_passages": [{"docid": f"n{number}{i}", "title": "", "text": f"{part} other {number} {i}"} for i in range(2)],
    }
    for part in ("pairs", "pairs-too")
    for number in range(6)
]  # fmt: skip
TRIPLETS = {column: [f"{column} {number}" for number in range(2_500)] for column in COLUMNS["triplets"]}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    specs = {kind: SPEC.model_copy(update={"kind": kind}) for kind in ("triplets", "groups")}
    columns = {key: [group[key] for group in GROUPS] for key in COLUMNS["groups"]}
    for name, values in {"triplets": TRIPLETS, "groups": columns}.items():
        table = from_columns(values, name, specs[name], name)
        write_table(table, folder / f"{name}.parquet", {"kind": name, "rows": table.num_rows})
    return {name: folder / f"{name}.parquet" for name in specs}


def composed(*parts: dict[str, Any], rows: int | None = None) -> DatasetSpec:
    entry = {"kind": "instructed", **FACTS, "rows": rows, "composed": {"parts": list(parts), "seed": 3}}
    return DatasetSpec.model_validate(entry)


ASKED = {"query_instruction": ASK, "passage_instruction": SAY}


def test_triplets_and_groups_become_instructed_rows(tables: dict[str, Path]) -> None:
    spec = composed(
        {"triplets": "triplets", **ASKED, "limit": 1_000},
        {"groups": "groups", "mined_from": "pairs", **ASKED},
        rows=1_006,
    )
    table, facts = compose(spec, tables)
    again, _ = compose(spec, tables)
    assert table.equals(again)
    rows = table.to_pylist()
    assert facts == {
        "seed": 3,
        "parts": [
            {"part": "triplets", "subset": "triplets", "rows": 1_000},
            {"part": "groups", "subset": "pairs", "rows": 6},
        ],
    }
    numbers = [int(row["query"].removeprefix("anchor ")) for row in rows[:1_000]]
    assert numbers == sorted(set(numbers)) and max(numbers) > 2_000
    for row, number in zip(rows, numbers, strict=False):
        assert (row["positive"], row["negative"]) == (f"positive {number}", f"negative {number}")
        assert row["subset"] == "triplets"
    assert {row["query_instruction"] for row in rows} == {ASK}
    assert {row[f"{side}_instruction"] for row in rows for side in ("positive", "negative")} == {SAY}
    for number, row in enumerate(rows[1_000:]):
        assert row["query"] == f"pairs query {number}" and row["subset"] == "pairs"
        assert row["positive"] in [f"T pairs answer {number} {i}" for i in range(3)]
        assert row["negative"] in [f"pairs other {number} {i}" for i in range(2)]


def test_several_rows_per_query_have_different_positives(tables: dict[str, Path]) -> None:
    table, _ = compose(composed({"groups": "groups", **ASKED, "per_query": 9, "limit": 5}), tables)
    assert table.num_rows == 15 and len(set(table["positive"].to_pylist())) == 15
    assert len(set(table["query"].to_pylist())) == 5
    pairs, _ = compose(composed({"groups": "groups", **ASKED, "per_query": 2}), tables)
    assert pairs.num_rows == 24 and len(set(pairs["negative"].to_pylist())) == 24  # two negatives suffice for two rows


def test_a_group_without_negative_and_a_wrong_number_of_rows_are_named(tables: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="12 rows were made and the entry says rows: 5; its parts have changed"):
        compose(composed({"groups": "groups", **ASKED}, rows=5), tables)
    groups = [{**GROUPS[0], "negative_passages": []}]
    table = from_columns(
        {key: [g[key] for g in groups] for key in groups[0]}, "x", SPEC.model_copy(update={"kind": "groups"}), "x"
    )
    write_table(table, tmp_path / "bare.parquet", {"rows": 1})
    with pytest.raises(InputError, match=r"bare\.parquet: the group 'pairs:q0' has no negative passage; mine some"):
        compose(composed({"groups": "bare", **ASKED}), {"bare": tmp_path / "bare.parquet"})


PARTS = {"triplets": {"kind": "triplets", **FACTS, "local": {"files": ["t.jsonl"]}}}
PARTS["groups"] = {"kind": "groups", **FACTS, "mined": {"parts": [{"triplets": "triplets"}]}}


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"triplets": "triplet", **ASKED}, "mine.composed.parts.0.triplets: unknown data set 'triplet'; did you mean triplets"),
        ({"triplets": "groups", **ASKED}, "'groups' has groups; name an entry of kind triplets."),
        ({"groups": "triplets", **ASKED}, "'triplets' has triplets; name an entry of kind groups."),
        ({"groups": "groups", "mined_from": "triplet", **ASKED}, "mined_from: unknown part 'triplet'; did you mean triplets"),
        ({"triplets": "triplets", "groups": "groups", **ASKED}, "a part names one of triplets and groups; give exactly one"),
        ({"triplets": "triplets", "per_query": 2, **ASKED}, "mined_from and per_query are about groups"),
        ({"triplets": "triplets", **ASKED, "query_instruction": " "}, "query_instruction"),
    ],
)  # fmt: skip
def test_a_composed_entry_is_checked_before_anything_is_read(
    tmp_path: Path, part: dict[str, Any], sentence: str
) -> None:
    entry = {"kind": "instructed", **FACTS, "composed": {"parts": [part]}}
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump({**PARTS, "mine": entry}), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_datasets(path)
    assert sentence in str(error.value)


def test_a_composed_entry_names_all_that_it_is_made_from(tmp_path: Path) -> None:
    part = {"groups": "groups", "mined_from": "triplets", **ASKED}
    path = tmp_path / "datasets.yaml"
    entry = {"kind": "instructed", **FACTS, "composed": {"parts": [part]}}
    path.write_text(yaml.safe_dump({**PARTS, "mine": entry}), encoding="utf-8")
    specs = load_datasets(path)
    assert mined_inputs(specs["mine"]) == ["triplets", "groups"]
    assert "composed" not in specs["triplets"].model_dump(mode="json")  # or every fetched table would be stale


def test_demo_rows_are_of_training_only_and_their_answers_answer() -> None:
    rows, world = demo_world.table("instructed"), {name: demo_world.table(name) for name in ("passages", "train-qrels")}
    assert len(set(rows["query_instruction"] + rows["positive_instruction"])) == 3
    titled = zip(*(world["passages"][key] for key in ("_id", "title", "text")), strict=True)
    number = {f"{title} {text}": name for name, title, text in titled}
    questions = [at for at, subset in enumerate(rows["subset"]) if subset == "questions"]
    asked = dict(zip(demo_world.table("train-queries")["text"], demo_world.table("train-queries")["_id"], strict=True))
    judged = world["train-qrels"]
    grades = {(q, d): grade for q, d, grade in zip(judged["query_id"], judged["doc_id"], judged["score"], strict=True)}
    training = set(judged["doc_id"])
    near = 0
    for at in questions:
        query, positive, negative = asked[rows["query"][at]], number[rows["positive"][at]], number[rows["negative"][at]]
        assert grades[query, positive] == 2 and grades.get((query, negative), 0) < 2
        assert {positive, negative} <= training
        near += (query, negative) in grades
    assert near > len(questions) / 2
    assert not set(rows["query"]) & set(demo_world.table("test-queries")["text"])
