"""Paired tests of two models on the same items, and Holm's correction of their p values.

Means over queries: Student's paired t, or the randomisation test, which draws the sign of every query's difference.

Spearman's correlation is no mean over items, so it is tested by the percentile bootstrap: pairs of texts are drawn with
replacement, for all models at once, and the difference of the correlations is taken in each resample (R. R. Wilcox,
"Comparing dependent robust correlations", British Journal of Mathematical and Statistical Psychology 69, 2016). The
alternative, permuting which model a pair's similarity belongs to, tests that the two models' similarities are
exchangeable. They are not, even where the correlations are equal: cosines of two models differ in location, scale and
noise, and a permutation test of a correlation is then not of the right size (C. J. DiCiccio and J. P. Romano, "Robust
permutation tests for correlation and regression coefficients", JASA 112, 2017).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matryobench.errors import InputError

REPLICATES = 10_000
"""Least number of resamples per set; a large family takes more, see `enough`."""
BLOCK = 1 << 16  # numbers per array of a block of resamples: 0.5 MB, so that a block stays in the cache


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjusted p values (m,) of the family `p` (m,), in its order (S. Holm, Scandinavian Journal of
    Statistics 6, 1979): at most alpha where the hypothesis is rejected at a family-wise error rate of alpha.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def t_test(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """p of the two-sided paired t-test of two models' values on the same n >= 2 items; 1 where they never differ."""
    from scipy.stats import ttest_rel

    differences = first - second
    if np.all(differences == differences[0]):  # no spread: t is 0 / 0 or infinite
        return 1.0 if differences[0] == 0 else 0.0
    return float(ttest_rel(first, second).pvalue)


def bootstrap_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p of "the difference is 0" from its bootstrap replicates (B,), by inverting the percentile interval.

    Twice the smaller share of replicates on one side of 0; both counts start at 1, so p is never below 2 / (B + 1)
    (A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", 1997, section 4.4).
    """
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(differences)))


def enough(tests: int, alpha: float, replicates: int | None) -> int:
    """Resamples with which the least possible p, 2 in (1 + resamples), stays below alpha after Holm's correction."""
    if replicates is None:
        return max(REPLICATES, math.ceil(4 * tests / alpha))
    if 2 * tests / (1 + replicates) >= alpha:
        raise InputError(
            f"significance: {replicates} resamples cannot show a difference among {tests} tests at {alpha:g}; take at "
            f"least {math.ceil(4 * tests / alpha)}."
        )
    return replicates


def bootstrap_tost(differences: NDArray[np.float64], margin: float) -> float:
    """p of "the difference lies outside -margin .. margin" from its bootstrap replicates (B,), as `bootstrap_p` counts:
    the larger of the two one-sided ones (D. J. Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987).
    """
    outside = max(int((differences <= -margin).sum()), int((differences >= margin).sum()))
    return (1 + outside) / (1 + len(differences))


def flipped_means(differences: NDArray[np.float64], generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Means (cells, count) of the differences (cells, n) under `count` draws of the items' signs, each +1 or -1 evenly.

    Draw b gives an item the same sign in all cells.
    """
    items = differences.shape[1]
    found = np.empty((len(differences), count))
    height = max(1, min(count, 16 * BLOCK // items))
    for start in range(0, count, height):
        drawn = generator.integers(0, 256, size=(min(height, count - start), -(-items // 8)), dtype=np.uint8)
        positive = np.unpackbits(drawn, axis=1, count=items).astype(np.float64)
        found[:, start : start + len(drawn)] = differences @ (2 * positive - 1).T / items
    return found


def randomisation_p(observed: NDArray[np.float64], flipped: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two-sided p (cells,) of the observed means (cells,) among those of `flipped_means` (cells, count).

    The observed one counts as a draw, so p is never 0 (B. Phipson and G. K. Smyth, Statistical Applications in Genetics
    and Molecular Biology 9, 2010); draws that differ from it by rounding only count as equal.
    """
    reached = np.abs(flipped) >= (np.abs(observed) * (1 - 1e-12))[:, None]
    return np.asarray((1 + reached.sum(axis=1)) / (1 + flipped.shape[1]), dtype=np.float64)


def resampled_means(values: NDArray[np.float64], generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Means (rows, count) of values (rows, n) in `count` resamples of the items, the same for all rows."""
    found = np.empty((len(values), count))
    for start, counts in _resamples(values.shape[1], generator, count, 16 * BLOCK):
        found[:, start : start + len(counts)] = values @ counts.T.astype(np.float64) / values.shape[1]
    return found


@dataclass(frozen=True)
class _Order:
    """Values (n,) in ascending order: `order` sorts them; the places `tied` hold one of several equal values, whose
    run starts at `first` and ends at `last` (all as places in the order).
    """

    order: NDArray[np.intp]
    tied: NDArray[np.intp]
    first: NDArray[np.intp]
    last: NDArray[np.intp]


def replicates(
    gold: NDArray[np.float64], similarities: NDArray[np.float32], generator: np.random.Generator, count: int
) -> NDArray[np.float64]:
    """Spearman's correlations (models, count) of gold (n,) and similarities (models, n) in `count` resamples of pairs.

    Column b of all models belongs to the same resample. Raises InputError as `resampled_spearman` does.
    """
    found = np.empty((len(similarities), count))
    orders = [_ordered(values) for values in (gold, *similarities)]
    for start, counts in _resamples(len(gold), generator, count, BLOCK):
        found[:, start : start + len(counts)] = _spearman(counts, orders)
    return found


def resampled_spearman(
    counts: NDArray[np.int64], gold: NDArray[np.float64], similarities: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Spearman's correlations (models, resamples) where resample b takes pair i counts[b, i] times; mid-ranks for ties.

    gold (n,), similarities (models, n), counts (resamples, n) with equal row sums. A model's similarities have the same
    order in all resamples, so they are sorted once. Raises InputError where a resample holds one value only.
    """
    return _spearman(counts, [_ordered(values) for values in (gold, *similarities)])


def _resamples(
    items: int, generator: np.random.Generator, count: int, block: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Resamples with replacement in blocks of about `block` numbers: place of the first, times each item is taken."""
    size = max(1, min(count, block // items))
    for start in range(0, count, size):
        height = min(size, count - start)
        drawn = generator.integers(0, items, size=(height, items)) + items * np.arange(height)[:, None]
        yield start, np.bincount(drawn.ravel(), minlength=height * items).reshape(height, items)


def _ordered(values: NDArray[np.floating]) -> _Order:
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(starts, append=len(values))
    first, last = np.repeat(starts, lengths), np.repeat(starts + lengths - 1, lengths)
    tied = np.flatnonzero(first != last)
    return _Order(order, tied, first[tied], last[tied])


def _spearman(counts: NDArray[np.int64], orders: Sequence[_Order]) -> NDArray[np.float64]:
    """Pearson's correlation of the mid-ranks of orders[0] with those of each other one, in whole numbers throughout."""
    total = int(counts[0].sum())
    cubes = np.einsum("bn,bn,bn->b", counts, counts, counts)
    gold = orders[0]
    ranks, gold_ties = _ranks(counts, gold, cubes)
    weighted = np.empty_like(counts)  # count x centred rank of the gold score, which sums to 0
    weighted[:, gold.order] = ranks - total
    weighted *= counts
    found = np.empty((len(orders) - 1, len(counts)))
    for row, one in enumerate(orders[1:]):
        ranks, ties = _ranks(counts, one, cubes)
        products = np.einsum("bn,bn->b", ranks, np.take(weighted, one.order, axis=1, mode="clip"))
        squares = [(total**3 - t).astype(np.float64) for t in (gold_ties, ties)]  # 12 x the sums of squared ranks
        if not (squares[0].all() and squares[1].all()):
            raise InputError("paired test: a resample of pairs holds only one score; test on a set with more pairs.")
        found[row] = 3 * products / np.sqrt(squares[0] * squares[1])
    return found


def _ranks(
    counts: NDArray[np.int64], one: _Order, cubes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """2 x mid-rank - 1 (resamples, n) in ascending order, and per resample the sum of t^3 over its runs of t equal values.

    `cubes` is that sum without ties of the values themselves, where a pair's own repetitions are the only ties.
    """
    taken = np.take(counts, one.order, axis=1, mode="clip")
    upper = np.cumsum(taken, axis=1)
    before = upper[:, one.first] - taken[:, one.first]
    through = upper[:, one.last]
    ranks = 2 * upper - taken  # the mid-rank of ranks a + 1 .. b is (a + b + 1) / 2
    ranks[:, one.tied] = before + through
    leads = one.tied == one.first
    runs = through[:, leads] - before[:, leads]
    return ranks, cubes - (taken[:, one.tied] ** 3).sum(axis=1) + (runs**3).sum(axis=1)
