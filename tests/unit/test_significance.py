"""Paired tests: exact statistics, agreement with scipy, the error rate under the null, and bad input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from matryobench.analysis import cells, paired, significance
from matryobench.analysis.items import read_gold
from matryobench.errors import InputError

SIZES = {"Demi": (1, 8), "Short": (2, 16)}
STS_SETS = {"first": "spearman_cosine", "second": "spearman_cosine"}
PAIRS = {"first": 60, "second": 90}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_holm_by_hand() -> None:
    # ascending .005 x 4, .01 x 3, .03 x 2, .04 x 1, and never below the one before
    assert paired.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([0.9, 0.8]).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_p_values_and_bonferroni_and_keeps_their_order(p: list[float]) -> None:
    adjusted = paired.holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


@given(st.integers(0, 10_000), st.integers(5, 30), st.integers(2, 9))
def test_resampled_spearman_is_scipys_on_the_repeated_pairs(seed: int, pairs: int, levels: int) -> None:
    draw = rng(seed)
    gold = draw.integers(0, levels, pairs).astype(float)
    gold[:2] = 0, 1
    similarities = np.stack([gold + draw.normal(size=pairs), draw.integers(0, levels, pairs)]).astype(np.float32)
    similarities[1, :2] = 0, 1
    counts = np.stack([draw.multinomial(pairs - 2, np.full(pairs, 1 / pairs)) for _ in range(4)])
    counts[:, :2] += 1  # never a constant resample
    found = paired.resampled_spearman(counts, gold, similarities)
    for resample, count in enumerate(counts):
        taken = np.repeat(np.arange(pairs), count)
        expected = [stats.spearmanr(gold[taken], one[taken]).statistic for one in similarities]
        assert found[:, resample] == pytest.approx(expected, abs=1e-12)


def test_replicates_are_distributed_as_those_of_scipys_bootstrap() -> None:
    draw = rng(1)
    gold = np.round(draw.uniform(0, 5, 150), 1)
    first, second = gold + draw.normal(size=150), gold + draw.normal(size=150, scale=2)

    def difference(g: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float(stats.spearmanr(g, a).statistic - stats.spearmanr(g, b).statistic)

    theirs = stats.bootstrap(
        (gold, first, second), difference, paired=True, vectorized=False, n_resamples=800, method="percentile", rng=3
    )
    own = paired.replicates(gold, np.stack([first, second]).astype(np.float32), rng(4), 4000)
    interval = np.quantile(own[0] - own[1], [0.025, 0.975])
    assert interval == pytest.approx(list(theirs.confidence_interval), abs=0.25 * theirs.standard_error)
    assert np.std(own[0] - own[1]) == pytest.approx(theirs.standard_error, rel=0.1)


def test_replicates_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    gold = rng(1).normal(size=20)
    similarities = rng(2).normal(size=(3, 20)).astype(np.float32)
    whole = paired.replicates(gold, similarities, rng(5), 50)
    monkeypatch.setattr(paired, "BLOCK", 60)
    assert np.array_equal(paired.replicates(gold, similarities, rng(5), 50), whole)


def test_bootstrap_p_by_hand() -> None:
    assert paired.bootstrap_p(np.ones(99)) == pytest.approx(2 / 100)
    assert paired.bootstrap_p(np.r_[np.ones(95), -np.ones(4)]) == pytest.approx(2 * 5 / 100)
    assert paired.bootstrap_p(np.zeros(99)) == 1.0


def test_t_test_is_scipys_and_knows_models_that_never_differ() -> None:
    first, second = rng(1).uniform(size=(2, 40))
    assert paired.t_test(first, second) == stats.ttest_rel(first, second).pvalue
    assert paired.t_test(first, first) == 1.0
    assert paired.t_test(np.array([0.5, 0.75]), np.array([0.25, 0.5])) == 0.0  # the same difference everywhere


def test_false_positive_rates_are_near_alpha() -> None:
    draw = rng(11)
    rejected = {"bootstrap": 0, "t": 0}
    trials = 300
    for _ in range(trials):
        gold = np.round(draw.uniform(0, 5, 150), 1)
        # equal correlation, but other scales: what permuting raw similarities could not handle
        noise = draw.normal(size=(2, 150)) * 1.5
        similarities = np.stack([gold + noise[0], 0.9 + 0.01 * (gold + noise[1])]).astype(np.float32)
        values = paired.replicates(gold, similarities, draw, 300)
        rejected["bootstrap"] += paired.bootstrap_p(values[0] - values[1]) < 0.05
        hard = draw.uniform(size=150)  # queries differ in difficulty, models do not
        scores = np.clip(hard + 0.3 * draw.normal(size=(2, 150)), 0, 1)
        rejected["t"] += paired.t_test(scores[0], scores[1]) < 0.05
    for test, count in rejected.items():
        assert 0.025 <= count / trials <= 0.08, test


# Frames and items of small runs, in the form that evaluations write


def sts_world(folder: Path) -> tuple[pd.DataFrame, list[Path], dict[str, NDArray[np.float64]]]:
    """Runs: ref (two seeds), good (two seeds, far better), same (the reference's seed 0 again), per-cell (a run each)."""
    gold = {name: np.round(rng(count).uniform(0, 5, count), 1) for name, count in PAIRS.items()}
    noise = {"ref": 3.0, "good": 0.5, "same": 3.0, "per-cell": 3.0}
    rows, paths = [], []
    for method, scale in noise.items():
        for seed in (0, 1) if method in ("ref", "good") else (0,):
            runs = [[cell] for cell in SIZES.values()] if method == "per-cell" else [list(SIZES.values())]
            for at, grid in enumerate(runs):
                run_id = f"{method}-s{seed}-{at}"
                items = []
                for dataset, scores in gold.items():
                    for layer, dim in grid:
                        name = "ref" if method == "same" else method
                        draw = rng(sum(map(ord, f"{name}{seed}{dataset}{layer}")))
                        similarity = (scores + scale * draw.normal(size=len(scores))).astype(np.float32)
                        value = float(stats.spearmanr(scores, similarity).statistic)
                        rows.append(row("sts", dataset, "spearman_cosine", method, seed, layer, dim, value, run_id))
                        columns = {"run_id": run_id, "dataset": dataset, "item": np.arange(len(scores), dtype=np.int32)}
                        items.append(pd.DataFrame({**columns, "layer": layer, "dim": dim, "similarity": similarity}))
                paths.append(folder / f"{run_id}.parquet")
                pd.concat(items).to_parquet(paths[-1], index=False)
    return pd.DataFrame(rows, columns=list(cells.COLUMNS)), paths, gold


def row(
    task: str, dataset: str, metric: str, method: str, seed: int, layer: int, dim: int, value: float, run_id: str
) -> tuple[Any, ...]:
    run = ("tiny", task, dataset, metric, method, "paper", "v1", "native", seed)
    return (*run, layer, layer, dim, value, 10, run_id)


def compare(frame: pd.DataFrame, items: Sequence[Path], gold: dict[str, Any], **changes: Any) -> pd.DataFrame:
    settings: dict[str, Any] = {"sizes": SIZES, "sets": STS_SETS, "reference": "ref", "seed": 1, "replicates": 999}
    return significance.compare_sts(frame, items, gold, **settings | changes)


def one(table: pd.DataFrame, method: str, dataset: str = "first", size: str = "Demi") -> pd.Series:
    rows = table[(table["method"] == method) & (table["dataset"] == dataset) & (table["size"] == size)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_sts_table_compares_every_method_at_every_size_and_set(tmp_path: Path) -> None:
    frame, items, gold = sts_world(tmp_path)
    table = compare(frame, items, gold)
    assert list(table.columns) == list(significance.COLUMNS)
    assert len(table) == 3 * 2 * 2 and "ref" not in set(table["method"])
    good = one(table, "good")
    means = frame[(frame["dataset"] == "first") & (frame["layer"] == 1)].groupby("method")["value"].mean()
    assert good["difference"] == means["good"] - means["ref"]
    assert (good["layer"], good["dim"], good["n_items"], good["test"]) == (1, 8, 60, significance.BOOTSTRAP)
    assert table[table["method"] == "good"]["significant"].all()
    assert not table[table["method"] == "per-cell"]["significant"].any()
    assert table["p_holm"].to_numpy() == pytest.approx(paired.holm(table["p"]))


def test_a_model_that_equals_the_reference_has_p_1(tmp_path: Path) -> None:
    frame, items, gold = sts_world(tmp_path)
    single = frame[frame["seed"] == 0]
    same = one(compare(single, items, gold), "same")
    assert same["difference"] == 0 and same["p"] == 1 and not same["significant"]


def test_p_of_a_set_depends_on_the_seed_only(tmp_path: Path) -> None:
    frame, items, gold = sts_world(tmp_path)
    whole = one(compare(frame, items, gold), "per-cell", "second")["p"]
    assert one(compare(frame, items, gold, sets={"second": "spearman_cosine"}), "per-cell", "second")["p"] == whole
    assert one(compare(frame, items[::-1], gold), "per-cell", "second")["p"] == whole
    assert one(compare(frame, items, gold, seed=2), "per-cell", "second")["p"] != whole


def test_a_large_family_takes_enough_resamples_by_itself() -> None:
    assert paired.enough(10, 0.05, None) == paired.REPLICATES
    many = paired.enough(1000, 0.05, None)
    assert 1000 * 2 / (1 + many) < 0.05
    with pytest.raises(InputError, match="999 resamples cannot show a difference among 168 tests"):
        paired.enough(168, 0.05, 999)


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    frame, items, gold = sts_world(tmp_path)
    with pytest.raises(InputError, match="reference method 'nobody' has no run"):
        compare(frame, items, gold, reference="nobody")
    with pytest.raises(InputError, match="items of run ref-s0-0 on first .* are in no file"):
        compare(frame, items[1:], gold)
    with pytest.raises(InputError, match="also in another items file"):
        compare(frame, [*items, items[0]], gold)
    with pytest.raises(InputError, match="give -?0.* and the cells table"):  # pairs in another order
        compare(frame, items, {**gold, "first": gold["first"][::-1].copy()})
    with pytest.raises(InputError, match="has 60 items and the set 59 pairs"):
        compare(frame, items, {**gold, "first": gold["first"][1:]})
    with pytest.raises(InputError, match="unknown gold scores of set 'second'"):
        compare(frame, items, {"first": gold["first"]})
    without = frame[~((frame["method"] == "ref") & (frame["layer"] == 2))]
    with pytest.raises(InputError, match="'ref' was not evaluated at size Short of recipe v1 on first"):
        compare(without, items, gold)
    with pytest.raises(InputError, match="only the reference"):
        compare(frame[frame["method"] == "ref"], items, gold)
    two = frame.assign(variant=np.where(frame["run_id"] == "ref-s1-0", "released", "paper"))
    with pytest.raises(InputError, match="has the variants paper, released; name one"):
        compare(two, items, gold)
    assert set(compare(two, items, gold, variant="paper")["method"]) == {"ref", "good", "same", "per-cell"}
    with pytest.raises(InputError, match="unknown variant of the reference 'ref' 'repaired'"):
        compare(two, items, gold, variant="repaired")


def test_items_files_that_are_none_are_named(tmp_path: Path) -> None:
    frame, items, gold = sts_world(tmp_path)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="broken.parquet cannot be read as parquet"):
        compare(frame, [broken, *items], gold)
    with pytest.raises(InputError, match="absent.parquet does not exist"):
        compare(frame, [tmp_path / "absent.parquet", *items], gold)
    pd.read_parquet(items[0]).drop(columns="similarity").to_parquet(broken)
    with pytest.raises(InputError, match=r"lacks the column\(s\) similarity"):
        compare(frame, [broken, *items], gold)
    scores = pd.read_parquet(items[0])
    scores.loc[0, "similarity"] = np.nan
    scores.to_parquet(items[0])
    with pytest.raises(InputError, match="run ref-s0-0, first, layer 1, dim 8 has a score that is not a finite number"):
        compare(frame, items, gold)
    pd.concat([scores.fillna(0.5), scores.head(1).fillna(0.5)]).to_parquet(items[0])
    with pytest.raises(InputError, match="scores an item twice"):
        compare(frame, items, gold)


def retrieval_world(folder: Path, other_query: bool = False) -> tuple[pd.DataFrame, list[Path]]:
    rows, paths = [], []
    for method, shift in (("ref", 0.0), ("better", 0.2)):
        for seed in (0, 1):
            run_id = f"{method}-s{seed}"
            draw = rng(ord(method[0]) + seed)
            parts = []
            for layer, dim in SIZES.values():
                queries = [f"q{at}" for at in range(50)]
                if other_query and method == "better":
                    queries[0] = "another"
                scores = {
                    name: draw.uniform(size=50).astype(np.float32) + np.float32(shift) for name in ("ndcg@10", "mrr@10")
                }
                order = draw.permutation(50)
                columns = {"run_id": run_id, "dataset": "search", "query": pd.Categorical(np.array(queries)[order])}
                place = {"query_layer": layer, "layer": 2, "dim": dim}
                parts.append(pd.DataFrame({**columns, **place, **{k: v[order] for k, v in scores.items()}}))
                for metric, own in scores.items():
                    value = float(own.mean())
                    rows.append(row("retrieval", "search", metric, method, seed, layer, dim, value, run_id))
            paths.append(folder / f"{run_id}.parquet")
            pd.concat(parts).to_parquet(paths[-1], index=False)
    return pd.DataFrame(rows, columns=list(cells.COLUMNS)), paths


def test_retrieval_is_the_paired_t_test_of_seed_means_by_query(tmp_path: Path) -> None:
    frame, items = retrieval_world(tmp_path)
    sets = {"search": "mrr@10"}
    table = significance.compare_retrieval(frame, items, sizes=SIZES, sets=sets, reference="ref")
    held = pd.concat([pd.read_parquet(path) for path in items], ignore_index=True)
    held = held[held["query_layer"] == 2].assign(method=held["run_id"].str.split("-").str[0])
    means = held.pivot_table(index="query", columns="method", values="mrr@10", aggfunc="mean", observed=True)
    expected = stats.ttest_rel(means["better"], means["ref"])
    short = one(table, "better", "search", "Short")
    assert short["p"] == pytest.approx(expected.pvalue, rel=1e-4)
    assert short["difference"] == pytest.approx((means["better"] - means["ref"]).mean(), abs=1e-6)
    assert short["metric"] == "mrr@10" and short["test"] == significance.T_TEST and short["significant"]


def test_runs_on_different_queries_are_refused(tmp_path: Path) -> None:
    frame, items = retrieval_world(tmp_path, other_query=True)
    with pytest.raises(InputError, match="search: runs ref-s0 and better-s0 were scored on different queries"):
        significance.compare_retrieval(frame, items, sizes=SIZES, sets={"search": "mrr@10"}, reference="ref")


def test_written_tables_read_back(tmp_path: Path) -> None:
    frame, items = retrieval_world(tmp_path)
    table = significance.compare_retrieval(frame, items, sizes=SIZES, sets={"search": "ndcg@10"}, reference="ref")
    path = tmp_path / "out" / "significance.parquet"
    significance.write(table, path)
    assert significance.read(path).equals(table)
    assert path.with_suffix(".csv").read_text().splitlines()[0] == ",".join(significance.COLUMNS)
    with pytest.raises(InputError, match="is not a significance table"):
        significance.read(items[0])
    with pytest.raises(InputError, match="does not exist"):
        significance.read(tmp_path / "no.parquet")


def test_the_note_names_reference_test_and_family(tmp_path: Path) -> None:
    frame, items = retrieval_world(tmp_path)
    table = significance.compare_retrieval(frame, items, sizes=SIZES, sets={"search": "ndcg@10"}, reference="ref")
    assert significance.note(table, {"ref": "Starbucks"}) == (
        "Differs from Starbucks at the same size, p < 0.05 after Holm's correction over the 2 comparisons of the table "
        "(retrieval: paired t-test over queries)."
    )


def test_gold_scores_come_in_the_order_of_the_pairs(tmp_path: Path) -> None:
    pd.DataFrame({"first": ["a", "b"], "second": ["c", "d"], "score": [2.5, 1.0]}).to_parquet(tmp_path / "set.parquet")
    assert read_gold(tmp_path / "set.parquet").tolist() == [2.5, 1.0]
    pd.DataFrame({"first": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"lacks the column\(s\) score"):
        read_gold(tmp_path / "other.parquet")
