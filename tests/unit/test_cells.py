"""The cells table: what is refused, that files are exact and deterministic, and how runs become one table."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matryobench.analysis import cells
from matryobench.errors import InputError

BASE: dict[str, Any] = {
    "experiment": "tiny", "task": "sts", "dataset": "stsb", "metric": "spearman_cosine", "method": "bert",
    "variant": "paper", "recipe": "v1", "backend": "native", "seed": 0, "query_layer": 1, "layer": 1, "dim": 8,
    "value": 0.5, "n_items": 10, "run_id": "r1",
}  # fmt: skip


def row(**changes: Any) -> dict[str, Any]:
    changes.setdefault("query_layer", changes.get("layer", 1))
    return BASE | changes


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(cells.COLUMNS))


def run(method: str, values: dict[str, float], run_id: str | None = None, **changes: Any) -> pd.DataFrame:
    """One cell of a run on several datasets."""
    return table(
        *(row(method=method, dataset=k, value=v, run_id=run_id or method, **changes) for k, v in values.items())
    )


def saved(folder: Path, *tables: pd.DataFrame) -> list[Path]:
    paths = [folder / f"run{place}.parquet" for place in range(len(tables))]
    for path, one in zip(paths, tables, strict=True):
        cells.write(one, path)
    return paths


def refusal(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence and ". " not in sentence, sentence
    return sentence


def test_a_valid_table_comes_back_in_column_order_with_plain_types() -> None:
    shuffled = table(row(), row(dim=16))[list(reversed(cells.COLUMNS))]
    checked = cells.check(shuffled)
    assert tuple(checked.columns) == cells.COLUMNS
    assert checked["value"].dtype == "float64" and checked["layer"].dtype == "int64"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": math.nan}, "line 2: value nan is not a finite number"),
        ({"value": math.inf}, "line 2: value inf is not a finite number"),
        ({"value": "high"}, "line 2: value 'high' is not a finite number"),
        ({"value": None}, "line 2: value None is not a finite number"),
        ({"layer": 1.5}, "line 2: layer 1.5 must be a whole number of at least 1"),
        ({"layer": 0}, "line 2: layer 0 must be a whole number of at least 1"),
        ({"dim": -8}, "line 2: dim -8 must be a whole number of at least 1"),
        ({"n_items": 0}, "line 2: n_items 0 must be a whole number of at least 1"),
        ({"method": " "}, "line 2: method ' ' is empty"),
        ({"variant": None}, "line 2: variant None is empty"),
        ({"backend": "Native"}, "line 2: backend 'Native' is not a backend; write one of native, "),
    ],
)
def test_a_bad_entry_is_named_with_its_line(change: dict[str, Any], words: str) -> None:
    frame = pd.DataFrame([row(), row(dim=16) | change], dtype="object")
    assert words in refusal(cells.check, frame, "t.csv")


def test_missing_and_extra_columns_are_named() -> None:
    frame = table(row()).drop(columns=["seed", "dim"]).assign(score=1.0)
    sentence = refusal(cells.check, frame, "t.csv")
    assert "lacks the column(s) seed, dim and has the unknown column(s) score" in sentence
    assert "no rows" in refusal(cells.check, table())
    doubled = pd.concat([table(row()), table(row())[["dim"]]], axis=1)
    assert "has a column twice" in refusal(cells.check, doubled)


def test_two_rows_for_one_cell_are_refused_even_from_different_runs() -> None:
    frame = table(row(), row(dim=16), row(run_id="r2", value=0.9))
    sentence = refusal(cells.check, frame, "t.csv")
    assert (
        "t.csv lines 1 and 3 both score stsb spearman_cosine of bert (paper, v1, seed 0) at layer 1, dim 8" in sentence
    )
    cells.check(table(row(), row(seed=1), row(recipe="v2"), row(variant="released"), row(query_layer=2)))


def test_parquet_and_csv_hold_the_same_table_whatever_the_row_order(tmp_path: Path) -> None:
    rows = [row(layer=la, dim=d, value=1 / (la + d)) for la in (1, 2, 10) for d in (8, 16, 128)]
    cells.write(table(*rows), tmp_path / "a.parquet")
    random.Random(3).shuffle(rows)
    cells.write(table(*rows), tmp_path / "b.parquet")
    for suffix in (".parquet", ".csv"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    pd.testing.assert_frame_equal(cells.read(tmp_path / "a.parquet"), cells.read(tmp_path / "a.csv"))
    assert list(cells.read(tmp_path / "a.csv")["layer"]) == [1, 1, 1, 2, 2, 2, 10, 10, 10]


@settings(max_examples=25, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["NA", "null", "a,b", 'a"b', "ff->mrl", "é"]))
def test_csv_keeps_every_float_and_every_name(
    tmp_path_factory: pytest.TempPathFactory, value: float, name: str
) -> None:
    path = tmp_path_factory.mktemp("cells") / "t.parquet"
    cells.write(table(row(value=value, variant=name)), path)
    again = cells.read(path.with_suffix(".csv"))
    assert again["value"][0] == value and again["variant"][0] == name


def test_a_refused_table_leaves_no_file(tmp_path: Path) -> None:
    refusal(cells.write, table(row(value=math.nan)), tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="parquet"):
        cells.write(table(row()), tmp_path / "t.csv")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    broken, bare, csv = tmp_path / "broken.parquet", tmp_path / "bare.csv", tmp_path / "t.csv"
    broken.write_bytes(b"PAR1 nothing")
    bare.write_text("")
    assert "does not exist" in refusal(cells.read, tmp_path / "none.parquet")
    assert "give its .parquet or .csv file" in refusal(cells.read, tmp_path / "t.json")
    assert "broken.parquet cannot be read" in refusal(cells.read, broken)
    assert "bare.csv cannot be read" in refusal(cells.read, bare)
    cells.write(table(row(), row(dim=16)), tmp_path / "t.parquet")
    csv.write_text(csv.read_text().replace(",16,0.5,", ",16,oops,"))
    assert "t.csv line 3: value 'oops'" in refusal(cells.read, csv)


def test_collect_adds_the_mean_over_sets_per_run_and_cell(tmp_path: Path) -> None:
    bert = run("bert", {"sts12": 0.2, "sts13": 0.6}, n_items=10)
    parts = [  # bert-s: one run per trained cell
        run("bert-s", {"sts12": 0.1, "sts13": 0.2}, run_id="s1", layer=1),
        run("bert-s", {"sts12": 0.3, "sts13": 0.8}, run_id="s2", layer=2),
    ]
    frame = cells.collect(saved(tmp_path, bert, *parts))
    average = frame[frame["dataset"] == "average"].set_index(["method", "layer"])
    assert average["value"].to_dict() == pytest.approx({("bert", 1): 0.4, ("bert-s", 1): 0.15, ("bert-s", 2): 0.55})
    assert set(average["n_items"]) == {20}
    assert average["run_id"].to_dict() == {("bert", 1): "bert", ("bert-s", 1): "s1", ("bert-s", 2): "s2"}
    assert len(frame) == 9


def test_collect_does_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    paths = saved(tmp_path, *(run(name, {"a": 0.1 * place, "b": 0.7}) for place, name in enumerate("xyz")))
    pd.testing.assert_frame_equal(cells.collect(paths), cells.collect(paths[::-1]))


def test_named_sets_decide_what_is_averaged(tmp_path: Path) -> None:
    paths = saved(tmp_path, run("bert", {"a": 0.2, "b": 0.4, "c": 0.9}))
    frame = cells.collect(paths, sets={"sts": ["a", "b"]})
    assert frame.loc[frame["dataset"] == "average", "value"].to_list() == pytest.approx([0.3])
    assert "average" not in set(cells.collect(paths, sets={"sts": ["a", "b", "d"]})["dataset"])
    assert "average" in set(cells.collect(paths, sets={"retrieval": ["d"]})["dataset"])


def test_metrics_are_averaged_apart(tmp_path: Path) -> None:
    mixed = table(row(dataset="a"), row(dataset="b"), row(dataset="m", metric="mrr@10", value=0.1))
    frame = cells.collect(saved(tmp_path, mixed))
    average = frame[frame["dataset"] == "average"].set_index("metric")["value"]
    assert average.to_dict() == {"spearman_cosine": 0.5, "mrr@10": 0.1}


def test_collect_refuses_what_would_mix_or_repeat(tmp_path: Path) -> None:
    both = {"a": 0.1, "b": 0.2}
    sentence = refusal(cells.collect, saved(tmp_path, run("x", both), run("y", {"a": 0.1})))
    assert "run1.parquet: run 'y'" in sentence and "b (spearman_cosine) is in only one" in sentence
    sentence = refusal(cells.collect, saved(tmp_path, run("x", both), run("x", both)))
    assert "run0.parquet and" in sentence and "both score a spearman_cosine of x" in sentence
    holed = pd.concat([run("x", both), run("x", {"a": 0.3}, layer=2)])
    assert "cell (layer 2, dim 8) on 1 of 2 sets" in refusal(cells.collect, saved(tmp_path, holed))
    twofold = pd.concat([run("x", both), run("x", both, seed=1)])
    assert "run 'x' has several values of seed" in refusal(cells.collect, saved(tmp_path, twofold))
    assert "already holds averages" in refusal(cells.collect, saved(tmp_path, run("x", {"average": 0.1})))
    assert "no cells tables" in refusal(cells.collect, [])


def test_select_names_what_the_table_has() -> None:
    frame = table(row(), row(dataset="sts12"))
    assert "did you mean sts12" in refusal(cells.select, frame, "sts-12", "spearman_cosine")
    assert "unknown metric 'ndcg'" in refusal(cells.select, frame, "stsb", "ndcg")
    assert len(cells.select(frame, "stsb", "spearman_cosine")) == 1
    tasks = table(row(), row(task="retrieval", dim=16))
    assert "tasks retrieval, sts" in refusal(cells.select, tasks, "stsb", "spearman_cosine")


def test_select_puts_the_query_layer_on_the_axis_and_refuses_two_document_layers() -> None:
    fixed = table(*(row(query_layer=layer, layer=6, value=layer / 10) for layer in (1, 2, 6)))
    selected = cells.select(fixed, "stsb", "spearman_cosine")
    assert selected["layer"].to_list() == [1, 2, 6] and selected["value"].to_list() == [0.1, 0.2, 0.6]
    sides = table(row(layer=2, query_layer=1), row(layer=1, query_layer=1))
    sentence = refusal(cells.select, sides, "stsb", "spearman_cosine")
    assert "at layer 1, dim 8 is also scored with another document layer" in sentence
    sentence = refusal(cells.select, table(row(layer=1), row(layer=6, query_layer=1)), "stsb", "spearman_cosine")
    assert "at query layer 1, document layer 6, dim 8 is also scored" in sentence


def test_select_takes_native_rows_of_some_methods_unless_told_otherwise() -> None:
    frame = table(row(), row(backend="tevatron", value=0.4), row(method="mse"), row(method="mse", seed=1))
    assert set(cells.select(frame, "stsb", "spearman_cosine")["backend"]) == {"native"}
    other = cells.select(frame, "stsb", "spearman_cosine", backend="tevatron")
    assert other["value"].to_list() == [0.4]
    assert len(cells.select(frame, "stsb", "spearman_cosine", methods=["mse"])) == 2
    sentence = refusal(cells.select, frame, "stsb", "spearman_cosine", methods=["mse", "msr"])
    assert "unknown method 'msr'; did you mean mse" in sentence
    sentence = refusal(cells.select, frame, "stsb", "spearman_cosine", backend="sentence-transformers")
    assert sentence.endswith("unknown backend 'sentence-transformers'; valid names are: native, tevatron.")
    sentence = refusal(cells.check, pd.concat([frame, table(row(backend="tevatron"))]), "t.csv")
    assert "of bert (paper, v1, tevatron, seed 0) at layer 1" in sentence


def retrieval_run(method: str, points: list[tuple[int, int, int]], shift: float = 0.0, **changes: Any) -> pd.DataFrame:
    """A run scored with three metrics on three sets; value = set / 10 + metric / 100 + shift, sets of 10, 20, 30."""
    return table(
        *(
            row(task="retrieval", method=method, run_id=f"{method}-{changes.get('backend', '')}", dataset=dataset,
                metric=metric, query_layer=query_layer, layer=layer, dim=dim, n_items=10 * (at + 1),
                value=at / 10 + place / 100 + shift, **changes)
            for at, dataset in enumerate(("msmarco", "nq", "scifact"))
            for place, metric in enumerate(("ndcg@10", "mrr@10", "recall@100"))
            for query_layer, layer, dim in points
        )
    )  # fmt: skip


def test_retrieval_runs_are_averaged_over_the_named_sets_per_metric_and_backend(tmp_path: Path) -> None:
    both_sides = [(1, 1, 8), (1, 1, 16), (2, 2, 8), (2, 2, 16)]
    paths = saved(
        tmp_path, retrieval_run("bert", both_sides), retrieval_run("bert", both_sides, 0.2, backend="tevatron"),
        retrieval_run("fix-doc", [(1, 2, 8), (2, 2, 8)], 0.1), run("bert", {"stsb": 0.7}, run_id="sts"),
    )  # fmt: skip
    frame = cells.collect(paths, sets={"retrieval": ["nq", "scifact"]})
    average = frame[frame["dataset"] == "average"]
    native = average[(average["method"] == "bert") & (average["backend"] == "native")]
    values = native.groupby("metric")["value"].unique().map(list).to_dict()
    assert {name: value for name, (value,) in values.items()} == pytest.approx(
        {"ndcg@10": 0.15, "mrr@10": 0.16, "recall@100": 0.17, "spearman_cosine": 0.7}
    )
    assert set(average.loc[average["task"] == "retrieval", "n_items"]) == {50}
    of = cells.select(frame, "average", "ndcg@10", methods=["fix-doc"])
    assert of[["layer", "dim", "value"]].to_numpy().tolist() == [
        [1, 8, pytest.approx(0.25)],
        [2, 8, pytest.approx(0.25)],
    ]
    reference = cells.select(frame, "average", "mrr@10", backend="tevatron")
    assert reference["value"].to_list() == pytest.approx([0.36] * 4)


def test_a_run_that_lacks_a_metric_at_a_cell_is_refused(tmp_path: Path) -> None:
    whole = retrieval_run("fix-doc", [(1, 2, 8), (2, 2, 8)])
    lacking = whole[~((whole["metric"] == "mrr@10") & (whole["query_layer"] == 1))]
    sentence = refusal(cells.collect, saved(tmp_path, lacking))
    assert "has cell (query layer 1, document layer 2, dim 8) on 0 of 3 sets (mrr@10)" in sentence
    mixed = pd.concat([retrieval_run("bert", [(1, 1, 8)]), retrieval_run("bert", [(2, 2, 8)], backend="tevatron")])
    mixed["run_id"] = "one"
    assert "has several values of backend" in refusal(cells.collect, saved(tmp_path, mixed))


def test_seeds_are_summarised_per_cell() -> None:
    frame = table(*(row(seed=seed, value=value) for seed, value in enumerate((0.1, 0.2, 0.6))), row(dim=16))
    summary = cells.over_seeds(frame).set_index("dim")
    expected = {"mean": 0.3, "sd": math.sqrt((0.04 + 0.01 + 0.09) / 2), "low": 0.1, "high": 0.6, "seeds": 3}
    assert {name: summary[name][8] for name in expected} == pytest.approx(expected)
    assert math.isnan(summary["sd"][16]) and summary["seeds"][16] == 1
