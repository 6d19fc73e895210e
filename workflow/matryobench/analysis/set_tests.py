"""Two methods on the shared cells of one test set: which test, from which resamples, and the average over sets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from matryobench.analysis import intervals, paired
from matryobench.analysis.cells import AVERAGE
from matryobench.analysis.intervals import Difference, Estimate, Replicated
from matryobench.analysis.set_scores import Line, ScoredSet
from matryobench.errors import InputError, unknown_name
from matryobench.grid import Cell

Test = Literal["t", "randomisation", "bootstrap", "percentile"]
NAMES: dict[Test, str] = {
    "t": "paired t-test over queries",
    "randomisation": "randomisation test over queries",
    "bootstrap": "bootstrap over pairs, normal",
    "percentile": "bootstrap over pairs, percentiles",
}
OF_TASK: dict[str, tuple[Test, ...]] = {"retrieval": ("t", "randomisation"), "sts": ("bootstrap", "percentile")}
"""The tests of a task, its default first."""
ERROR_REPLICATES = 2_000
"""Resamples for a standard error, which then varies by 1.6 % from one seed to another."""
D_Z, IN_ERRORS = "Cohen's d_z", "difference / standard error"

_WEIGHTS = 1  # what seeds are drawn for, beside items

Pair = tuple[Line, Line]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Options:
    """How to test: seed of the resamples, error rate, equivalence margin in units of the metric, test (None: the task's
    default) and number of resamples (None: what the test needs). Raises InputError for values that make no test.
    """

    seed: int
    alpha: float = 0.05
    margin: float = 0.01
    test: Test | None = None
    replicates: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise InputError(f"comparison: alpha {self.alpha:g} is not between 0 and 0.5; 0.05 is usual.")
        if not 0 < self.margin < math.inf:
            raise InputError(f"comparison: margin {self.margin:g} is not a number above 0; 0.01 is usual.")
        if self.test is not None and self.test not in get_args(Test):
            raise unknown_name("comparison", "test", self.test, get_args(Test))
        if self.replicates is not None and self.replicates < 100:
            raise InputError(f"comparison: {self.replicates} resamples are too few for any test; take at least 100.")

    def test_of(self, task: str) -> Test:
        """The test for a task; InputError where the one asked for is not for it."""
        valid = OF_TASK[task]
        if self.test is not None and self.test not in valid:
            raise InputError(f"comparison: the test {self.test} is not for {task}; take {' or '.join(valid)}.")
        return self.test or valid[0]


@dataclass(frozen=True)
class Comparison:
    """A pair of lines on one set, or on the average of some.

    `flipped` (cells, B) are means under random signs, where p comes from them. `first` and `second` are the values
    (cells, seeds) of line and reference, `over_seeds` (cells, B) replicates of their difference over seeds x items, None
    where one of the two has a single seed.
    """

    pair: Pair
    task: str
    dataset: str
    metric: str
    test: Test
    cells: tuple[Cell, ...]
    result: Difference
    flipped: Floats | None
    first: Floats
    second: Floats
    over_seeds: Floats | None
    effect: Floats
    effect_name: str
    n_items: int

    def p(self) -> Floats:
        """Two-sided p (cells,) of no difference."""
        if self.flipped is None:
            return self.result.p()
        return paired.randomisation_p(self.result.difference, self.flipped)

    def seeds_interval(self, alpha: float) -> tuple[Floats, Floats]:
        """Ends of the 1 - alpha interval over seeds x items; NaN where a single seed says nothing about others."""
        if self.over_seeds is None:
            unknown = np.full(len(self.cells), np.nan)
            return unknown, unknown
        return intervals.from_seeds(self.first, self.second, self.over_seeds).interval(alpha)


def compare_on(one: ScoredSet, pairs: Sequence[Pair], options: Options) -> Iterator[Comparison]:
    """Every pair (line, its reference) on the cells that both have of the set, in order.

    The resamples depend on the seed, their number and the set's name only. Raises InputError where a pair shares no
    cell, where the test is not for the task, and where its resamples cannot resolve p among the cells.
    """
    test = options.test_of(one.task)
    places = {line: one.places(line) for pair in pairs for line in pair}
    shared = {pair: _shared(one, pair, places[pair[0]].cells, places[pair[1]].cells) for pair in pairs}
    count = _count(test, max(map(len, shared.values())), options)
    seeded = any(min(len(places[line].seeds) for line in pair) > 1 for pair in pairs)
    drawn = None
    if one.gold is not None:
        drawn = paired.replicates(one.gold, one.scores.astype(np.float32, copy=False), _items(one, options), count)
    elif seeded:
        drawn = paired.resampled_means(one.scores.astype(np.float64, copy=False), _items(one, options), count)
    for pair in pairs:
        first, second = (places[line].at(shared[pair]) for line in pair)
        over_seeds = None
        if drawn is not None and min(first.shape[1], second.shape[1]) > 1:
            over_seeds = _over_seeds(drawn, first, second, options)
        values = one.values[first], one.values[second]
        difference = values[0].mean(axis=1) - values[1].mean(axis=1)
        result: Difference
        flipped = None
        if one.gold is not None:
            assert drawn is not None
            replicates = drawn[first].mean(axis=1) - drawn[second].mean(axis=1)
            result = Replicated(difference, replicates)
            if test == "bootstrap":
                result = intervals.from_replicates(difference, replicates)
            effect, name = intervals.ratio(difference, result.error), IN_ERRORS
        else:
            by_item = one.scores[first].mean(axis=1) - one.scores[second].mean(axis=1)
            result = intervals.from_items(by_item)
            if test == "randomisation":
                flipped = paired.flipped_means(by_item, _items(one, options), count)
            effect, name = intervals.ratio(difference, result.error) / math.sqrt(by_item.shape[1]), D_Z
        yield Comparison(
            pair=pair, task=one.task, dataset=one.dataset, metric=one.metric, test=test, cells=shared[pair],
            result=result, flipped=flipped, first=values[0], second=values[1], over_seeds=over_seeds,
            effect=effect, effect_name=name, n_items=one.scores.shape[1],
        )  # fmt: skip


def average(tested: Sequence[Comparison]) -> Comparison:
    """The plain mean of one pair over two or more sets of one metric and the same cells and seeds.

    The sets share no items, so their resamples are joined as they come; they share the trainings, and so the draws of
    seeds.
    """
    one = tested[0]
    result: Difference
    if isinstance(one.result, Replicated):
        held = [cast(Replicated, other.result) for other in tested]
        result = Replicated(_mean([r.difference for r in held]), _mean([r.replicates for r in held]))
    else:
        result = intervals.mean_of([cast(Estimate, other.result) for other in tested])
    flipped = [other.flipped for other in tested if other.flipped is not None]
    over_seeds = [other.over_seeds for other in tested if other.over_seeds is not None]
    return Comparison(
        pair=one.pair, task=one.task, dataset=AVERAGE, metric=one.metric, test=one.test, cells=one.cells,
        result=result, flipped=_mean(flipped) if flipped else None,
        first=_mean([other.first for other in tested]), second=_mean([other.second for other in tested]),
        over_seeds=_mean(over_seeds) if over_seeds else None,
        effect=intervals.ratio(result.difference, result.error), effect_name=IN_ERRORS,
        n_items=sum(other.n_items for other in tested),
    )  # fmt: skip


def _shared(one: ScoredSet, pair: Pair, first: Sequence[Cell], second: Sequence[Cell]) -> tuple[Cell, ...]:
    cells = tuple(sorted(set(first) & set(second)))
    if not cells:
        raise InputError(
            f"{one.dataset}: {pair[0].method} and {pair[1].method} share no cell; evaluate both at the same layers and "
            "dims."
        )
    return cells


def _count(test: Test, cells: int, options: Options) -> int:
    """Number of resamples; for tests that count them, enough for a family of `cells` tests."""
    if test in ("t", "bootstrap"):
        return options.replicates or ERROR_REPLICATES
    return paired.enough(cells, options.alpha, options.replicates)


def _items(one: ScoredSet, options: Options) -> np.random.Generator:
    return np.random.default_rng([options.seed, *one.dataset.encode()])


def _over_seeds(drawn: Floats, first: NDArray[np.intp], second: NDArray[np.intp], options: Options) -> Floats:
    """Seeds of the two are drawn on their own: equal numbers do not make two methods' trainings alike. Every set meets
    the same draws, as it meets the same trainings.
    """
    generator = np.random.default_rng([options.seed, _WEIGHTS])
    sides = []
    for places in (first, second):
        weights = intervals.drawn_seeds(places.shape[1], generator, drawn.shape[1])
        sides.append(intervals.over_seeds(drawn[places], weights))
    return np.asarray(sides[0] - sides[1], dtype=np.float64)


def _mean(values: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(values, axis=0), dtype=np.float64)
