"""Tests and intervals of differences: agreement with scipy, error rates under the null, coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from matryobench.analysis import intervals, paired
from matryobench.analysis.intervals import Estimate, Replicated

Floats = NDArray[np.float64]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_means_over_items_are_tested_as_scipy_tests_them() -> None:
    first, second = rng(1).uniform(size=(2, 3, 40))
    own = intervals.from_items(first - second)
    theirs = stats.ttest_rel(first, second, axis=1)
    assert own.p() == pytest.approx(theirs.pvalue)
    low, high = own.interval(0.1)
    assert low == pytest.approx(theirs.confidence_interval(0.9).low)
    assert high == pytest.approx(theirs.confidence_interval(0.9).high)
    above = stats.ttest_1samp(first - second, -0.1, axis=1, alternative="greater").pvalue
    below = stats.ttest_1samp(first - second, 0.1, axis=1, alternative="less").pvalue
    assert own.tost(0.1) == pytest.approx(np.maximum(above, below))


def test_differences_without_spread_are_told_from_0_and_from_the_margin() -> None:
    flat = intervals.from_items(np.array([[0.0] * 5, [0.1] * 5, [-0.1] * 5]))
    assert flat.error.tolist() == [0, 0, 0]
    assert flat.p().tolist() == [1, 0, 0]
    assert flat.tost(0.2).tolist() == [0, 0, 0] and flat.tost(0.05).tolist() == [0, 1, 1]
    same = intervals.from_replicates(np.zeros(1), np.zeros((1, 50)))
    assert same.p().tolist() == [1] and same.tost(0.01).tolist() == [0]
    assert intervals.ratio(flat.difference, flat.error).tolist() == [0, np.inf, -np.inf]


def test_a_bootstrapped_error_is_read_as_normal() -> None:
    replicates = rng(1).normal(0.03, 0.02, size=(1, 999))
    own = intervals.from_replicates(np.array([0.03]), replicates)
    normal = stats.norm(0.03, replicates.std(ddof=1))
    assert own.p() == pytest.approx(2 * normal.cdf(0.0))
    assert own.interval(0.05) == pytest.approx(normal.interval(0.95))
    assert own.tost(0.05) == pytest.approx(normal.sf(0.05), rel=1e-3)  # the other side adds nothing


def test_percentiles_by_hand() -> None:
    own = Replicated(np.array([0.0]), np.r_[-0.3, np.full(97, 0.05), 0.2][None])
    assert own.p() == pytest.approx([2 * 2 / 100])
    assert own.tost(0.1) == pytest.approx([2 / 100]) and own.tost(0.05) == pytest.approx([99 / 100])
    low, high = own.interval(0.5)
    assert (low.tolist(), high.tolist()) == ([0.05], [0.05])


@given(st.floats(-0.05, 0.05), st.floats(1e-4, 0.05), st.integers(2, 60))
def test_equivalence_is_the_wider_interval_inside_the_margin(difference: float, error: float, df: int) -> None:
    one = Estimate(np.array([difference]), np.array([error]), np.array([float(df)]))
    low, high = one.interval(0.1)
    assert (one.tost(0.02) < 0.05).tolist() == [(low[0] > -0.02) and (high[0] < 0.02)]


def test_the_mean_over_sets_is_welchs_test() -> None:
    first, second = rng(1).normal(0.1, 1, size=(2, 30)), rng(2).normal(0.2, 3, size=(2, 12))
    own = intervals.mean_of([intervals.from_items(first), intervals.from_items(second)])
    # mean(x) + mean(y) is the difference of mean(x) and mean(-y)
    theirs = stats.ttest_ind(first, -second, axis=1, equal_var=False)
    assert own.difference == pytest.approx((first.mean(axis=1) + second.mean(axis=1)) / 2)
    assert own.df == pytest.approx(theirs.df) and own.p() == pytest.approx(theirs.pvalue)
    normal = [Estimate(np.zeros(1), np.array([error]), np.array([np.inf])) for error in (3.0, 4.0)]
    assert intervals.mean_of(normal).error.tolist() == [2.5] and intervals.mean_of(normal).df.tolist() == [np.inf]


def test_draws_of_seeds_have_the_variance_of_a_mean_over_seeds() -> None:
    for values in ([0.1, 0.5], [0.1, 0.5, 0.2, 0.9]):
        weights = intervals.drawn_seeds(len(values), rng(1), 20_000)
        assert weights.sum(axis=1) == pytest.approx(1)
        assert (weights @ values).var() == pytest.approx(np.var(values, ddof=1) / len(values), rel=0.03)


def test_where_items_say_the_same_the_seeds_test_is_welchs() -> None:
    first, second = rng(1).normal(0.5, 0.1, size=(2, 1, 4))
    drawn = []
    for values, generator in ((first, rng(3)), (second, rng(4))):
        replicates = np.repeat(values[:, :, None], 8000, axis=2)  # every resample of items gives the value itself
        drawn.append(intervals.over_seeds(replicates, intervals.drawn_seeds(4, generator, 8000)))
    own = intervals.from_seeds(first, second, drawn[0] - drawn[1])
    theirs = stats.ttest_ind(first, second, axis=1, equal_var=False)
    assert own.df == pytest.approx(theirs.df, rel=0.05) and own.p() == pytest.approx(theirs.pvalue, rel=0.05)
    assert intervals.from_seeds(first, first, np.zeros((1, 9))).df.tolist() == pytest.approx([6])


# The randomisation test


def test_randomisation_is_scipys_permutation_of_paired_samples() -> None:
    differences = np.round(rng(3).normal(0.3, 1, size=(2, 9)), 2)

    def exact(values: Floats) -> float:
        result = stats.permutation_test(
            (values, np.zeros(9)), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
        )
        return float(result.pvalue)

    flipped = paired.flipped_means(differences, rng(1), 20_000)
    own = paired.randomisation_p(differences.mean(axis=1), flipped)
    assert own == pytest.approx([exact(one) for one in differences], abs=0.012)  # 3.4 standard errors
    assert np.unique(np.round(flipped[0], 9)).size <= 2**9


def test_randomisation_is_the_t_test_on_normal_data() -> None:
    differences = rng(5).normal(0.15, 1, size=(12, 200))
    own = paired.randomisation_p(differences.mean(axis=1), paired.flipped_means(differences, rng(1), 10_000))
    assert own == pytest.approx(intervals.from_items(differences).p(), abs=0.02)


def test_randomisation_knows_no_difference_and_the_least_p() -> None:
    flat = paired.flipped_means(np.array([[0.0] * 30, [0.1] * 30]), rng(1), 999)
    assert paired.randomisation_p(np.array([0.0, 0.1]), flat).tolist() == [1.0, 1 / 1000]


def test_sign_flips_and_means_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng(1).normal(size=(3, 20))
    flips, means = paired.flipped_means(values, rng(5), 60), paired.resampled_means(values, rng(5), 60)
    monkeypatch.setattr(paired, "BLOCK", 16)
    assert paired.flipped_means(values, rng(5), 60) == pytest.approx(flips, abs=1e-15)
    assert paired.resampled_means(values, rng(5), 60) == pytest.approx(means, abs=1e-15)


def test_resampled_means_have_scipys_standard_error() -> None:
    values = rng(1).exponential(size=(1, 80))
    theirs = stats.bootstrap((values[0],), np.mean, n_resamples=4000, rng=2)
    assert paired.resampled_means(values, rng(3), 4000).std(ddof=1) == pytest.approx(theirs.standard_error, rel=0.05)


# Error rates and coverage by simulation. 400 trials at 5 %: 99.9 % of counts lie within 1.8 % .. 9 %.

TRIALS = 400
LOW, HIGH = 0.018, 0.09


def spearman_trials(correlations: tuple[float, float], pairs: int, draws: int) -> tuple[Floats, Floats, float]:
    """Differences (trials,), their replicates (trials, draws), and the true difference, of two bivariate normal models."""
    draw = rng(17)
    truth = 6 / np.pi * (np.arcsin(correlations[0] / 2) - np.arcsin(correlations[1] / 2))
    differences, replicates = np.empty(TRIALS), np.empty((TRIALS, draws))
    for trial in range(TRIALS):
        gold, *noise = draw.normal(size=(3, pairs))
        similarities = np.stack(
            [r * gold + np.sqrt(1 - r**2) * own for r, own in zip(correlations, noise, strict=True)]
        )
        drawn = paired.replicates(gold, similarities.astype(np.float32), draw, draws)
        ones = np.ones((1, pairs), dtype=np.int64)
        observed = paired.resampled_spearman(ones, gold, similarities.astype(np.float32))[:, 0]
        differences[trial], replicates[trial] = observed[0] - observed[1], drawn[0] - drawn[1]
    return differences, replicates, float(truth)


def test_bootstrap_error_rates_and_coverage() -> None:
    differences, replicates, truth = spearman_trials((0.9, 0.7), 120, 300)
    for one in (intervals.from_replicates(differences, replicates), Replicated(differences, replicates)):
        low, high = one.interval(0.05)
        assert LOW <= ((truth < low) | (truth > high)).mean() <= HIGH
        assert LOW <= (one.tost(truth) < 0.05).mean() <= HIGH  # the difference is just the margin, 5 errors away
        assert (one.tost(2 * truth) < 0.05).mean() > 0.8
    differences, replicates, truth = spearman_trials((0.6, 0.6), 120, 300)
    assert truth == 0
    for one in (intervals.from_replicates(differences, replicates), Replicated(differences, replicates)):
        assert LOW <= (one.p() < 0.05).mean() <= HIGH


def test_query_tests_keep_their_error_rates() -> None:
    hard = rng(1).uniform(size=(TRIALS, 60))  # queries differ in difficulty; two models' errors differ in spread
    first = np.clip(hard + 0.3 * rng(2).normal(size=hard.shape), 0, 1)
    second = np.clip(hard + 0.3 * rng(3).normal(size=hard.shape), 0, 1)
    differences = first - second
    t = intervals.from_items(differences)
    flipped = paired.flipped_means(differences, rng(4), 499)
    assert LOW <= (t.p() < 0.05).mean() <= HIGH
    assert LOW <= (paired.randomisation_p(t.difference, flipped) < 0.05).mean() <= HIGH
    low, high = t.interval(0.05)
    assert LOW <= ((low > 0) | (high < 0)).mean() <= HIGH
    at_margin = intervals.from_items(differences + 0.2)
    assert LOW <= (at_margin.tost(0.2) < 0.05).mean() <= HIGH
    assert (t.tost(0.2) < 0.05).mean() > 0.9


def test_holm_keeps_the_error_rate_of_a_grid() -> None:
    shared = rng(1).normal(size=(TRIALS, 1, 50))  # cells of one grid are scored on the same queries
    differences = shared + rng(2).normal(size=(TRIALS, 16, 50))
    wrong = sum((paired.holm(intervals.from_items(one).p()) < 0.05).any() for one in differences)
    assert wrong / TRIALS <= HIGH


def test_intervals_over_seeds_cover_further_trainings_and_those_over_items_do_not() -> None:
    """Values are model + query + training + noise; the truth is the difference of the models, which is 0."""
    covered = {"items": 0, "seeds": 0}
    draw = rng(9)
    trials, seeds, items = 300, 3, 80
    for _ in range(trials):
        queries = draw.normal(size=items)
        trainings = 0.05 * draw.normal(size=(2, seeds, 1))
        values = queries + trainings + 0.2 * draw.normal(size=(2, seeds, items))
        drawn = paired.resampled_means(values.reshape(-1, items), draw, 300).reshape(2, 1, seeds, 300)
        sides = [intervals.over_seeds(one, intervals.drawn_seeds(seeds, draw, 300)) for one in drawn]
        means = values.mean(axis=2)
        over = intervals.from_seeds(means[:1], means[1:], sides[0] - sides[1])
        fixed = intervals.from_items((values[0] - values[1]).mean(axis=0, keepdims=True))
        for name, one in (("items", fixed), ("seeds", over)):
            low, high = one.interval(0.05)
            covered[name] += bool(low[0] <= 0 <= high[0])
    assert covered["seeds"] / trials >= 0.93  # two degrees of freedom per side: on the wide side
    assert covered["items"] / trials < 0.75
