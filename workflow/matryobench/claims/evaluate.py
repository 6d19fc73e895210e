"""Verdicts: the claims tested on a cells table, the published one or one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from matryobench.analysis.cells import AVERAGE, NATIVE, check
from matryobench.analysis.cells import select as select_rows
from matryobench.claims.predicates import NOT, PARTLY, REPRODUCED, UNTESTED, Outcome, apply
from matryobench.claims.selectors import Grids
from matryobench.claims.series import Missing, resolve
from matryobench.claims.spec import Claim, Claims
from matryobench.grid import Cell

VERDICTS = (REPRODUCED, PARTLY, NOT, UNTESTED)


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, with the outcome of each predicate that could be tested, and why others could not.

    `dataset` is the one that was used, `matching` says how cells were found, and `figure` names the figure to look at.
    """

    claim: str
    verdict: str
    outcomes: tuple[Outcome, ...] = ()
    untested: tuple[str, ...] = ()
    dataset: str = ""
    matching: str = ""
    figure: str = ""

    @property
    def counts(self) -> str:
        """Units that agree, per predicate: "39/40 cells"."""
        return ", ".join(f"{one.agree}/{one.total} {one.unit}" for one in self.outcomes)

    @property
    def failing(self) -> tuple[str, ...]:
        """The units that do not agree."""
        return tuple(text for one in self.outcomes for text in one.failing)

    @property
    def evidence(self) -> str:
        """The numbers, what could not be tested, and what differs from the paper's cells or test set."""
        notes = [f"not tested: {reason}" for reason in self.untested]
        return ". ".join([*(one.numbers for one in self.outcomes), *notes, *([self.matching] if self.matching else [])])


@dataclass(frozen=True)
class Setting:
    """What is known of the runs beside their cells table; all of it may be left out.

    shape: last layer and full width of the backbone (none: the largest of the task's rows). sizes: named cells per
    task (none: those at the same relative depth and width as the paper's). stand_ins: test set in place of the one
    that a claim names. variants: the variant that stands for a method. averages: the test sets that the average of a
    (task, metric) is over, which the verdict then names.
    """

    shape: tuple[int, int] | None = None
    sizes: Mapping[str, Mapping[str, Cell]] = field(default_factory=dict)
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)
    averages: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)


def evaluate(claims: Claims, frame: pd.DataFrame, setting: Setting | None = None) -> list[Verdict]:
    """A verdict for every claim, in their order, from the native rows of a cells table (means over seeds).

    Raises InputError for an invalid table; what it lacks makes a claim untestable, with the reason.
    """
    frame = check(frame)
    frame = frame[frame["backend"] == NATIVE]
    return [_verdict(name, claims, frame, setting or Setting()) for name in claims.claims]


def evaluate_published(claims: Claims, frames: Mapping[str, pd.DataFrame]) -> list[Verdict]:
    """A verdict for every claim from the published numbers: cells tables by the names in the claims' `published`."""
    checked = {name: check(frame) for name, frame in frames.items()}
    found = []
    for name, claim in claims.claims.items():
        if claim.published is None:
            found.append(Verdict(name, UNTESTED, untested=("the paper has no numbers for it",)))
        elif claim.published not in checked:
            found.append(Verdict(name, UNTESTED, untested=(f"the published table {claim.published} is not there",)))
        else:
            found.append(_verdict(name, claims, checked[claim.published], Setting()))
    return found


def _verdict(name: str, claims: Claims, frame: pd.DataFrame, setting: Setting) -> Verdict:
    claim = claims.claims[name]
    dataset = claim.dataset
    if not ((frame["task"] == claim.task) & (frame["dataset"] == dataset)).any():
        dataset = setting.stand_ins.get(dataset, dataset)
    figure = claim.figure.replace("{dataset}", dataset)
    try:
        rows = _rows(frame, claim, dataset)
    except Missing as reason:
        return Verdict(name, UNTESTED, untested=(str(reason),), figure=figure)
    grids = _grids(name, claims, frame, rows, setting)
    outcomes, untested = [], []
    for one in claim.checks:
        try:
            found = resolve(rows, one.series(), task=claim.task, recipes=claim.recipes, variants=setting.variants)
            outcomes.append(apply(one, found, grids))
        except Missing as reason:
            untested.append(str(reason))
    notes = [] if dataset == claim.dataset else [f"{dataset} stands in for {claim.dataset}"]
    if dataset == AVERAGE and outcomes and (claim.task, claim.metric) in setting.averages:
        notes.append(f"The average is over {', '.join(setting.averages[claim.task, claim.metric])}")
    if not grids.same and outcomes:
        notes.append(_matching(claim, grids))
    verdict = combine([one.verdict for one in outcomes], bool(untested))
    return Verdict(name, verdict, tuple(outcomes), tuple(dict.fromkeys(untested)), dataset, ". ".join(notes), figure)


def combine(verdicts: Sequence[str], some_untested: bool) -> str:
    """The verdict on several predicates: that of all of them where they agree, else `partly`; a claim of which a part
    could not be tested is at best `partly`."""
    if not verdicts:
        return UNTESTED
    if len(set(verdicts)) > 1 or (some_untested and verdicts[0] == REPRODUCED):
        return PARTLY
    return verdicts[0]


def _rows(frame: pd.DataFrame, claim: Claim, dataset: str) -> pd.DataFrame:
    """The rows of the claim's task, dataset and metric, with `layer` the query layer."""
    rows = frame[frame["task"] == claim.task]
    if rows.empty:
        raise Missing(f"task {claim.task} was not run")
    rows = rows[rows["dataset"] == dataset]
    if rows.empty:
        raise Missing(f"test set {dataset} was not evaluated")
    rows = rows[rows["metric"] == claim.metric]
    if rows.empty:
        raise Missing(f"metric {claim.metric} was not computed on {dataset}")
    return select_rows(rows, dataset, claim.metric)


def _grids(name: str, claims: Claims, frame: pd.DataFrame, rows: pd.DataFrame, setting: Setting) -> Grids:
    claim = claims.claims[name]
    task = frame[frame["task"] == claim.task]
    shape = setting.shape or (int(task["query_layer"].max()), int(task["dim"].max()))
    cells = frozenset((int(layer), int(dim)) for layer, dim in zip(rows["layer"], rows["dim"], strict=True))
    return Grids(claims.papers[claim.paper], cells, shape, setting.sizes.get(claim.task))


def _matching(claim: Claim, grids: Grids) -> str:
    (layers, width), (own_layers, own_width) = grids.reference, grids.shape
    how = {cells.match for one in claim.checks for cells in one.all_cells()}
    manner = "relative depth and width" if how == {"relative"} else "their numbers, as in the paper"
    if len(how) > 1:
        manner = "relative depth and width, or by their numbers where the claim says so"
    return f"Cells found by {manner}: {own_layers} layers, {own_width} wide for {layers}, {width}"
