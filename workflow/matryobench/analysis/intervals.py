"""Estimated differences of two methods over many cells: intervals, two-sided tests, equivalence tests.

Two forms with the same questions. `Estimate` knows a standard error and degrees of freedom: Student's t for means over
items, the normal distribution for a bootstrapped standard error (B. Efron and R. J. Tibshirani, "An Introduction to the
Bootstrap", 1993, chapters 12 and 13). `Replicated` holds bootstrap replicates and reads percentiles off them, which
needs far more of them: where many cells are tested, p must be resolved to alpha / cells.

Equivalence is two one-sided tests (TOST; D. J. Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987): the
difference is shown to lie within the margin where the 1 - 2 alpha interval does.

Seeds x items: both are drawn again, crossed (A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1,
2007), which errs on the wide side by the seeds' interaction with items. One seed fewer than there are is drawn, so that
the variance between seeds is not underestimated by (S - 1) / S (J. N. K. Rao and C. F. J. Wu, JASA 83, 1988), and the
interval is Student's with Satterthwaite's degrees of freedom, as two or three seeds say little about their spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from matryobench.analysis import paired

Floats = NDArray[np.float64]


class Difference(Protocol):
    """An estimated difference in each of some cells."""

    @property
    def difference(self) -> Floats:
        """The estimate (cells,)."""

    @property
    def error(self) -> Floats:
        """Its standard error (cells,)."""

    def p(self) -> Floats:
        """Two-sided p (cells,) of "the difference is 0"."""

    def tost(self, margin: float) -> Floats:
        """p (cells,) of "the difference lies outside -margin .. margin"."""

    def interval(self, alpha: float) -> tuple[Floats, Floats]:
        """Ends (cells,), (cells,) of the 1 - alpha confidence interval."""


@dataclass(frozen=True)
class Estimate:
    """Differences (cells,) with standard errors (cells,) and degrees of freedom (cells,), infinite for the normal.

    Where the standard error is 0, p is 0 or 1 by what the difference is, as in `paired.t_test`.
    """

    difference: Floats
    error: Floats
    df: Floats

    def p(self) -> Floats:
        """See `Difference`."""
        from scipy.stats import t

        return np.asarray(np.minimum(1.0, 2 * t.sf(np.abs(ratio(self.difference, self.error)), self.df)))

    def tost(self, margin: float) -> Floats:
        """See `Difference`."""
        from scipy.stats import t

        above = t.sf(ratio(self.difference + margin, self.error), self.df)
        below = t.cdf(ratio(self.difference - margin, self.error), self.df)
        return np.asarray(np.maximum(above, below), dtype=np.float64)

    def interval(self, alpha: float) -> tuple[Floats, Floats]:
        """See `Difference`."""
        from scipy.stats import t

        half = t.isf(alpha / 2, self.df) * self.error
        return self.difference - half, self.difference + half


@dataclass(frozen=True)
class Replicated:
    """Differences (cells,) with their bootstrap replicates (cells, B); all answers are percentiles of these."""

    difference: Floats
    replicates: Floats

    @property
    def error(self) -> Floats:
        """The replicates' standard deviation."""
        return _spread(self.replicates)

    def p(self) -> Floats:
        """See `Difference` and `paired.bootstrap_p`."""
        return np.array([paired.bootstrap_p(one) for one in self.replicates])

    def tost(self, margin: float) -> Floats:
        """See `Difference` and `paired.bootstrap_tost`."""
        return np.array([paired.bootstrap_tost(one, margin) for one in self.replicates])

    def interval(self, alpha: float) -> tuple[Floats, Floats]:
        """See `Difference`."""
        low, high = np.quantile(self.replicates, [alpha / 2, 1 - alpha / 2], axis=1)
        return low, high


def ratio(difference: Floats, error: Floats) -> Floats:
    """difference / error (cells,); where the error is 0, 0 for no difference and else infinite with its sign."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / error)


def from_items(differences: Floats) -> Estimate:
    """The mean of paired differences (cells, n >= 2) of n items, as in the paired t-test."""
    cells, items = differences.shape
    error = differences.std(axis=1, ddof=1) / np.sqrt(items)
    error[(differences == differences[:, :1]).all(axis=1)] = 0.0  # not what rounding leaves
    return Estimate(differences.mean(axis=1), error, np.full(cells, items - 1.0))


def from_replicates(difference: Floats, replicates: Floats) -> Estimate:
    """Differences (cells,) with the standard error of their bootstrap replicates (cells, B), as normal."""
    return Estimate(difference, _spread(replicates), np.full(len(difference), np.inf))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The plain mean of differences on sets that share no items; degrees of freedom are Satterthwaite's."""
    squares = np.stack([one.error for one in estimates]) ** 2
    df = _satterthwaite(squares.sum(axis=0), squares, np.stack([one.df for one in estimates]))
    difference = np.mean([one.difference for one in estimates], axis=0)
    return Estimate(difference, np.sqrt(squares.sum(axis=0)) / len(estimates), df)


def drawn_seeds(seeds: int, generator: np.random.Generator, count: int) -> Floats:
    """Weights (count, seeds), rows summing to 1, of the seeds in `count` draws of seeds - 1 of them; seeds >= 2."""
    drawn = generator.integers(0, seeds, size=(count, seeds - 1)) + seeds * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * seeds).reshape(count, seeds) / (seeds - 1)


def over_seeds(replicates: Floats, weights: Floats) -> Floats:
    """Item replicates (cells, seeds, B) of each seed -> (cells, B) replicates over seeds x items; weights (B, seeds)."""
    return np.asarray(np.einsum("csb,bs->cb", replicates, weights))


def from_seeds(first: Floats, second: Floats, replicates: Floats) -> Estimate:
    """mean(first) - mean(second), from values (cells, seeds) of each, with the standard error over seeds x items.

    `replicates` (cells, B) are the differences of `over_seeds`. The variance between seeds has one degree of freedom less
    than there are seeds, that over items is taken as known.
    """
    parts = np.stack([values.var(axis=1, ddof=1) / values.shape[1] for values in (first, second)])
    error = _spread(replicates)
    df = np.array([[values.shape[1] - 1.0] for values in (first, second)])
    # The bootstrap's total may come out below its parts by chance; degrees of freedom are at most all that there are.
    total = np.maximum(error**2, parts.sum(axis=0))
    return Estimate(first.mean(axis=1) - second.mean(axis=1), error, _satterthwaite(total, parts, df))


def _satterthwaite(total: Floats, parts: Floats, df: Floats) -> Floats:
    """Degrees of freedom of a sum of variances, from its uncertain parts (k, cells) with df (k, cells); infinite where
    all are known (F. E. Satterthwaite, Biometrics Bulletin 2, 1946).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(total > 0, total**2 / (parts**2 / df).sum(axis=0), np.inf), dtype=np.float64)


def _spread(replicates: Floats) -> Floats:
    error = replicates.std(axis=1, ddof=1)
    error[(replicates == replicates[:, :1]).all(axis=1)] = 0.0
    return np.asarray(error, dtype=np.float64)
