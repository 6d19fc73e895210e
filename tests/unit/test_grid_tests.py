"""Grids of two methods compared cell by cell: the table, its families and averages, folders, printing, bad input."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from rich.console import Console
from scipy import stats

from matryobench.analysis import cells, grid_tests, intervals, paired, set_tests
from matryobench.analysis.grid_tests import compare_lines, compare_with, lines_of
from matryobench.analysis.run_comparison import compare_runs
from matryobench.analysis.set_scores import Source
from matryobench.analysis.set_tests import Options
from matryobench.errors import InputError
from matryobench.printing.comparisons import print_comparison

CELLS = [(1, 8), (1, 16), (2, 8), (2, 16)]
PAIRS = {"first": 120, "second": 200}
STS_SETS = dict.fromkeys(PAIRS, "spearman_cosine")
OPTIONS = Options(seed=1, replicates=300)
Gold = dict[str, NDArray[np.float64]]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def gold_scores() -> Gold:
    return {name: np.round(rng(count).uniform(0, 5, count), 1) for name, count in PAIRS.items()}


def write_run(
    folder: Path, task: str, scores: Mapping[tuple[str, int, int], NDArray[np.float64]], **identity: Any
) -> None:
    """An evaluation folder: item scores of (dataset, layer, dim) and the values that they give, as evaluations write."""
    line = {"method": "ref", "variant": "paper", "recipe": "v1", "backend": "native", "seed": 0} | identity
    run_id = line.pop("run_id", folder.name)
    gold, rows, items = gold_scores(), [], []
    for (dataset, layer, dim), values in scores.items():
        item = values.astype(np.float32)
        if task == "sts":
            value = float(stats.spearmanr(gold[dataset], item).statistic)
            own = {"item": np.arange(len(item), dtype=np.int32), "layer": layer, "dim": dim, "similarity": item}
        else:
            value = float(item.astype(float).mean())
            queries = [f"q{number}" for number in range(len(item))]
            own = {"query": queries, "query_layer": layer, "layer": 2, "dim": dim, "ndcg@10": item}
        metric = {"sts": "spearman_cosine", "retrieval": "ndcg@10"}[task]
        place = {"query_layer": layer, "layer": layer if task == "sts" else 2, "dim": dim}
        score = {"dataset": dataset, "metric": metric, "value": value, "n_items": len(item), "run_id": run_id}
        rows.append({"experiment": "tiny", "task": task, **line, **place, **score})
        items.append(pd.DataFrame({"run_id": run_id, "dataset": dataset, **own}))
    cells.write(pd.DataFrame(rows), folder / "cells.parquet")
    pd.concat(items).to_parquet(folder / "items.parquet", index=False)


def sts_scores(noise: float, seed: int) -> dict[tuple[str, int, int], NDArray[np.float64]]:
    return {
        (name, *cell): gold + noise * rng(seed * 100 + number).normal(size=len(gold))
        for name, gold in gold_scores().items()
        for number, cell in enumerate(CELLS)
    }


def query_scores(shift: float, seed: int, sets: Sequence[str] = ("search",)) -> dict[tuple[str, int, int], Any]:
    return {
        (name, *cell): rng(7 + place).normal(0.5, 0.2, 60) + shift + 0.1 * rng(seed * 100 + number).normal(size=60)
        for place, name in enumerate(sets)
        for number, cell in enumerate(CELLS)
    }


def table_of(folder: Path) -> tuple[pd.DataFrame, list[Path]]:
    tables = sorted(folder.glob("*/cells.parquet"))
    return cells.collect(tables), [one.with_name("items.parquet") for one in tables]


@pytest.fixture(scope="module")
def sts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs ref and good with three seeds, same (the scores of ref's first seed again), short (without layer 2)."""
    folder = tmp_path_factory.mktemp("tiny") / "evaluation"
    for seed in (0, 1, 2):
        write_run(folder / f"sts-ref-s{seed}", "sts", sts_scores(2.0, seed), seed=seed)
        write_run(folder / f"sts-good-s{seed}", "sts", sts_scores(0.5, seed + 10), method="good", seed=seed)
    write_run(folder / "sts-same-s0", "sts", sts_scores(2.0, 0), method="same", recipe="v2")
    write_run(folder / "sts-ref-v2-s0", "sts", sts_scores(2.0, 0), recipe="v2")
    short = {key: value for key, value in sts_scores(2.0, 5).items() if key[1] == 1}
    write_run(folder / "sts-short-s0", "sts", short, method="short", recipe="v2")
    for name, scores in gold_scores().items():
        path = folder.parent / "data" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pd.DataFrame({"score": scores}).to_parquet(path)
    return folder


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "evaluation"
    for seed in (0, 1):
        write_run(folder / f"retrieval-ref-s{seed}", "retrieval", query_scores(0.0, seed, ("search", "ask")), seed=seed)
        better = query_scores(0.1, seed + 10, ("search", "ask"))
        write_run(folder / f"retrieval-up-s{seed}", "retrieval", better, method="up", seed=seed)
    return folder


def compare(folder: Path, **changes: Any) -> pd.DataFrame:
    frame, items = table_of(folder)
    settings: dict[str, Any] = {"sets": STS_SETS, "reference": "ref", "options": OPTIONS}
    return compare_with(frame, items, gold_scores(), **settings | changes)


def block(table: pd.DataFrame, method: str, dataset: str) -> pd.DataFrame:
    return table[(table["method"] == method) & (table["dataset"] == dataset)].reset_index(drop=True)


def test_sts_grids_are_compared_cell_by_cell(sts: Path) -> None:
    table = compare(sts)
    assert tuple(table.columns) == grid_tests.COLUMNS
    assert {(m, d): len(rows) for (m, d), rows in table.groupby(["method", "dataset"])} == {
        (m, d): 2 if m == "short" else 4 for m in ("good", "same", "short") for d in ("first", "second", "average")
    }
    frame, _ = table_of(sts)
    for dataset in ("first", "second", "average"):
        good = block(table, "good", dataset)
        means = frame[frame["dataset"] == dataset].groupby(["recipe", "method", "layer", "dim"])["value"].mean()
        expected = (means["v1", "good"] - means["v1", "ref"]).to_numpy()
        assert list(zip(good["layer"], good["dim"], strict=True)) == CELLS
        assert good["difference"].to_numpy() == pytest.approx(expected, abs=1e-6)
        assert good["differs"].all() and not good["equivalent"].any() and (good["low"] > 0).all()
        assert (good["seeds"] == 3).all() and (good["reference_seeds"] == 3).all()
        assert (good["low_seeds"] < good["difference"]).all() and (good["high_seeds"] > good["difference"]).all()
        assert good["n_items"].tolist() == [sum(PAIRS.values()) if dataset == "average" else PAIRS[dataset]] * 4


def test_the_errors_are_those_of_the_bootstrap_of_the_seed_means(sts: Path) -> None:
    good = block(compare(sts), "good", "first")
    gold, cell = gold_scores()["first"], ("first", 2, 16)
    stack = np.stack([sts_scores(0.5, 10 + s)[cell] for s in range(3)] + [sts_scores(2.0, s)[cell] for s in range(3)])
    drawn = paired.replicates(gold, stack.astype(np.float32), rng(5), 4000)
    error = (drawn[:3].mean(axis=0) - drawn[3:].mean(axis=0)).std(ddof=1)
    row = good.iloc[3]
    assert row["difference"] / row["effect"] == pytest.approx(error, rel=0.12)
    assert row["effect_name"] == set_tests.IN_ERRORS
    assert row["p"] == pytest.approx(2 * stats.norm.sf(row["effect"]))
    assert (row["high"] - row["low"]) / 2 == pytest.approx(stats.norm.isf(0.025) * row["difference"] / row["effect"])


def test_equal_scores_are_equivalent_and_a_single_seed_has_no_interval_over_seeds(sts: Path) -> None:
    same = compare(sts)
    same = same[same["method"] == "same"]
    assert (same["difference"] == 0).all() and (same["p"] == 1).all() and not same["differs"].any()
    assert same["equivalent"].all() and (same["effect"] == 0).all()
    assert same[["low_seeds", "high_seeds"]].isna().all(axis=None)


def test_each_grid_is_a_family(sts: Path) -> None:
    table = compare(sts)
    for _, rows in table.groupby(grid_tests.GRID):
        assert rows["p_holm"].to_numpy() == pytest.approx(paired.holm(rows["p"]))
        assert rows["p_bh"].to_numpy() == pytest.approx(stats.false_discovery_control(rows["p"]))
        assert (rows["tests"] == len(rows)).all()
    assert (table["differs"] == (table["p_holm"] < 0.05)).all()
    assert (table["equivalent"] == (table["p_tost"] < 0.05)).all()


def test_a_pair_is_tested_alike_whatever_else_is(sts: Path) -> None:
    frame, items = table_of(sts)
    good, ref = (line for line in lines_of(frame[frame["recipe"] == "v1"]))
    for options in (OPTIONS, replace(OPTIONS, test="percentile", replicates=None)):
        whole = compare(sts, options=options)
        alone = compare_lines([Source(frame, items)], [(good, ref)], gold_scores(), sets=STS_SETS, options=options)
        pd.testing.assert_frame_equal(alone, whole[whole["method"] == "good"].reset_index(drop=True))
        backwards = compare_lines([Source(frame, items)], [(ref, good)], gold_scores(), sets=STS_SETS, options=options)
        assert backwards["difference"].to_numpy() == pytest.approx(-alone["difference"].to_numpy())
        assert backwards["p"].to_numpy() == pytest.approx(alone["p"].to_numpy())
        assert backwards["p_tost"].to_numpy() == pytest.approx(alone["p_tost"].to_numpy())
    assert not compare(sts, options=replace(OPTIONS, seed=2))["p"].equals(compare(sts)["p"])


def test_percentiles_take_enough_resamples_and_agree_with_the_normal(sts: Path) -> None:
    normal, percentile = compare(sts), compare(sts, options=Options(seed=1, test="percentile"))
    assert percentile["p"].min() == pytest.approx(2 / (1 + paired.REPLICATES))
    assert percentile["low"].to_numpy() == pytest.approx(normal["low"].to_numpy(), abs=0.02)
    assert (percentile["differs"] == normal["differs"]).mean() > 0.9
    with pytest.raises(InputError, match="100 resamples cannot show a difference among 4 tests"):
        compare(sts, options=Options(seed=1, test="percentile", replicates=100))


def test_queries_are_tested_on_seed_means_by_students_t(retrieval: Path) -> None:
    table = compare(retrieval, sets={"search": "ndcg@10", "ask": "ndcg@10"})
    first, second = query_scores(0.1, 10), query_scores(0.1, 11)
    base = query_scores(0.0, 0), query_scores(0.0, 1)
    key = ("search", 2, 8)
    up, ref = (first[key] + second[key]) / 2, (base[0][key] + base[1][key]) / 2
    row = block(table, "up", "search").iloc[2]
    theirs = stats.ttest_rel(up, ref)
    assert row["p"] == pytest.approx(theirs.pvalue, rel=1e-3)
    assert [row["low"], row["high"]] == pytest.approx(list(theirs.confidence_interval()), abs=1e-6)
    assert row["effect"] == pytest.approx((up - ref).mean() / (up - ref).std(ddof=1), rel=1e-4)
    assert (row["effect_name"], row["test"]) == (set_tests.D_Z, set_tests.NAMES["t"])
    tost = max(
        stats.ttest_1samp(up - ref, -0.01, alternative="greater").pvalue,
        stats.ttest_1samp(up - ref, 0.01, alternative="less").pvalue,
    )
    assert row["p_tost"] == pytest.approx(tost, rel=1e-3)
    mean = block(table, "up", "average").iloc[2]
    own = [query_scores(0.1, 10, ("search", "ask")), query_scores(0.1, 11, ("search", "ask"))]
    its = [query_scores(0.0, 0, ("search", "ask")), query_scores(0.0, 1, ("search", "ask"))]
    differences = [
        np.mean([one[name, 2, 8] for one in own], axis=0) - np.mean([one[name, 2, 8] for one in its], axis=0)
        for name in ("search", "ask")
    ]
    expected = intervals.mean_of([intervals.from_items(one[None]) for one in differences])
    assert mean["p"] == pytest.approx(expected.p()[0], rel=1e-3)


def test_the_randomisation_test_is_near_the_t_test(retrieval: Path) -> None:
    sets = {"search": "ndcg@10", "ask": "ndcg@10"}
    t, own = (compare(retrieval, sets=sets, options=Options(seed=1, test=test)) for test in ("t", "randomisation"))
    assert own["p"].to_numpy() == pytest.approx(t["p"].to_numpy(), abs=0.01)
    pd.testing.assert_frame_equal(
        own[["difference", "low", "high", "p_tost"]], t[["difference", "low", "high", "p_tost"]]
    )
    assert set(own["test"]) == {set_tests.NAMES["randomisation"]}


def test_the_average_is_over_the_sets_that_are_named(sts: Path) -> None:
    assert "average" not in set(compare(sts, averaged=["first"])["dataset"])
    with pytest.raises(InputError, match="unknown set to average 'third'"):
        compare(sts, averaged=["third"])


def test_written_tables_read_back(sts: Path, tmp_path: Path) -> None:
    table = compare(sts)
    grid_tests.write(table, tmp_path / "tests.parquet")
    pd.testing.assert_frame_equal(grid_tests.read(tmp_path / "tests.parquet"), table)
    assert (tmp_path / "tests.csv").read_text().startswith(",".join(grid_tests.COLUMNS))
    with pytest.raises(InputError, match="is not a table of grid tests"):
        grid_tests.read(sts / "sts-ref-s0" / "cells.parquet")
    with pytest.raises(InputError, match="does not exist"):
        grid_tests.read(tmp_path / "no.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be read as a table of grid tests"):
        grid_tests.read(tmp_path / "broken.parquet")


def test_the_note_says_what_intervals_cover(sts: Path) -> None:
    table = compare(sts)
    assert "(sts: bootstrap over pairs, normal)" in grid_tests.note(table)
    assert grid_tests.note(table).endswith("except where a method has a single seed.")
    assert "with a single seed, nothing is known about other trainings" in grid_tests.note(
        block(table, "same", "first")
    )
    assert grid_tests.note(block(table, "good", "first")).endswith("stand beside those over items.")


def test_what_does_not_fit_together_is_refused(sts: Path, tmp_path: Path) -> None:
    frame, items = table_of(sts)
    with pytest.raises(InputError, match="unknown reference method 'nobody'"):
        compare(sts, reference="nobody")
    with pytest.raises(InputError, match="unknown variant of the reference 'ref' 'released'"):
        compare(sts, variant="released")
    with pytest.raises(InputError, match="the test t is not for sts; take bootstrap or percentile"):
        compare(sts, options=replace(OPTIONS, test="t"))
    with pytest.raises(InputError, match="unknown gold scores of set 'second'"):
        compare_with(frame, items, {"first": gold_scores()["first"]}, sets=STS_SETS, reference="ref", options=OPTIONS)
    turned = {name: scores[::-1].copy() for name, scores in gold_scores().items()}
    with pytest.raises(InputError, match="evaluate the run again"):
        compare_with(frame, items, turned, sets=STS_SETS, reference="ref", options=OPTIONS)
    with pytest.raises(InputError, match="are in no file given"):
        compare_with(frame, items[1:], gold_scores(), sets=STS_SETS, reference="ref", options=OPTIONS)
    with pytest.raises(InputError, match="only the reference"):
        only = frame[frame["method"] == "ref"]
        compare_with(only, items, gold_scores(), sets=STS_SETS, reference="ref", options=OPTIONS)
    holed = frame[~((frame["method"] == "good") & (frame["seed"] == 1) & (frame["dim"] == 8))]
    with pytest.raises(InputError, match=r"good \(paper, v1\) has cells without seed 1, such as layer 1, dim 8"):
        compare_with(holed, items, gold_scores(), sets=STS_SETS, reference="ref", options=OPTIONS)
    apart = frame[~((frame["method"] == "same") & (frame["layer"] == 1))]
    lines = {(line.method, line.recipe): line for line in lines_of(frame)}
    pair = (lines["same", "v2"], lines["short", "v2"])
    with pytest.raises(InputError, match="first: same and short share no cell"):
        compare_lines([Source(apart, items)], [pair], gold_scores(), sets=STS_SETS, options=OPTIONS)
    with pytest.raises(InputError, match="no test set is named"):
        compare_lines([Source(frame, items)], [pair], gold_scores(), sets={}, options=OPTIONS)
    for wrong in ({"alpha": 0.7}, {"margin": 0.0}, {"margin": float("nan")}, {"test": "anova"}, {"replicates": 5}):
        with pytest.raises(InputError, match="comparison: "):
            replace(OPTIONS, **wrong)


# Folders


def test_two_folders_are_compared_with_the_gold_scores_beside_them(sts: Path) -> None:
    table = compare_runs(sts / "sts-good-s0", sts / "sts-ref-s0", options=OPTIONS)
    assert set(table["dataset"]) == {"first", "second", "average"}
    assert set(zip(table["method"], table["reference"], table["seeds"], strict=True)) == {("good", "ref", 1)}
    seeds = compare_runs(str(sts / "sts-good-s*"), str(sts / "sts-ref-s*"), data=sts.parent / "data", options=OPTIONS)
    whole = compare(sts)
    pd.testing.assert_frame_equal(seeds, whole[whole["method"] == "good"].reset_index(drop=True))


def test_the_same_run_evaluated_twice_is_equivalent_and_may_have_one_id(retrieval: Path, tmp_path: Path) -> None:
    again = {key: values + 1e-4 * rng(1).normal(size=60) for key, values in query_scores(0.0, 0, ("search",)).items()}
    write_run(tmp_path / "other" / "retrieval-ref-s0", "retrieval", again)
    table = compare_runs(tmp_path / "other" / "retrieval-ref-s0", retrieval / "retrieval-ref-s0", options=OPTIONS)
    assert set(table["dataset"]) == {"search"} and set(table["metric"]) == {"ndcg@10"}
    assert table["equivalent"].all() and not table["differs"].any()


def test_folders_that_do_not_fit_are_refused(sts: Path, retrieval: Path, tmp_path: Path) -> None:
    ref = sts / "sts-ref-s0"
    with pytest.raises(InputError, match=r"no-run has no cells\.parquet"):
        compare_runs(tmp_path / "no-run", ref, options=OPTIONS)
    with pytest.raises(InputError, match="names no evaluation folder"):
        compare_runs(f"{tmp_path}/x-*", ref, options=OPTIONS)
    with pytest.raises(InputError, match="is of the task sts and .* of retrieval; compare runs of one task"):
        compare_runs(ref, retrieval / "retrieval-ref-s0", options=OPTIONS)
    with pytest.raises(InputError, match=r"names runs of several recipes \(v1, v2\)"):
        compare_runs(f"{sts}/sts-ref-*", ref, options=OPTIONS)
    with pytest.raises(InputError, match="unknown metric 'map'"):
        one = retrieval / "retrieval-ref-s0"
        compare_runs(one, retrieval / "retrieval-up-s0", metric="map", options=OPTIONS)
    write_run(tmp_path / "other", "retrieval", query_scores(0.0, 0, ("elsewhere",)))
    with pytest.raises(InputError, match="no test set in common"):
        compare_runs(retrieval / "retrieval-ref-s0", tmp_path / "other", options=OPTIONS)
    write_run(tmp_path / "fewer", "retrieval", {k: v[:50] for k, v in query_scores(0.0, 0).items()})
    with pytest.raises(InputError, match="were scored on different items"):
        compare_runs(retrieval / "retrieval-ref-s0", tmp_path / "fewer", options=OPTIONS)
    with pytest.raises(InputError, match=r"first\.parquet does not exist"):
        compare_runs(ref, sts / "sts-good-s0", data=tmp_path, options=OPTIONS)


def test_the_printed_grid_marks_what_differs_and_what_is_equivalent() -> None:
    rows = [
        ("up", 1, 8, 0.0312, True, False), ("up", 1, 16, -0.0421, True, False),
        ("up", 2, 8, 0.0001, False, True), ("up", 2, 16, 0.0090, False, False),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["method", "layer", "dim", "difference", "differs", "equivalent"]).assign(
        dataset="search", metric="ndcg@10", recipe="v1", variant="paper", reference="ref", reference_variant="paper",
        reference_recipe="v1", alpha=0.05, margin=0.01, n_items=60, seeds=1, reference_seeds=2, low_seeds=np.nan,
        test="paired t-test over queries",
    )  # fmt: skip
    stream = io.StringIO()
    print_comparison(table, Console(file=stream, width=160, color_system=None))
    text = stream.getvalue()
    assert "search, ndcg@10: up minus ref\n" in text
    for shown in ("+0.0312*", "-0.0421*", "+0.0001 =", "+0.0090"):
        assert shown in text
    assert "4 cells, 60 items, 1 and 2 seed(s): 1 above, 1 below, 1 equivalent, 1 undecided" in text
    stream = io.StringIO()
    same = table.head(3).assign(reference="up", reference_variant="released", reference_recipe="v2")
    print_comparison(same, Console(file=stream, width=160, color_system=None))
    assert "up (paper) [v1] minus up (released) [v2]" in stream.getvalue()
