"""The predicates: pure functions of the values of series, each giving what was counted and what the numbers are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from matryobench.claims.selectors import EPSILON, Grids, Selection, select
from matryobench.claims.series import Found, Missing
from matryobench.claims.spec import (
    AnyCheck,
    Best,
    Cells,
    Compare,
    Dip,
    Direction,
    Mean,
    Order,
    Outliers,
    Rule,
    Trend,
)
from matryobench.grid import Cell

REPRODUCED, PARTLY, NOT, UNTESTED = "reproduced", "partly", "not reproduced", "cannot be tested here"

_SIGNS = {"above": "above", "below": "below", "equal": "equal to", "not-above": "not above", "not-below": "not below"}


THIN = 0.5
"""Least share of the claimed cells that must have been tested for more than `partly`."""


@dataclass(frozen=True)
class Outcome:
    """What a predicate found: of `total` units `agree` agree and `failing` do not; `numbers` is the evidence."""

    unit: str
    agree: int
    total: int
    failing: tuple[str, ...]
    numbers: str
    verdict: str


@dataclass(frozen=True)
class _Evaluated:
    """The cells that were tested, what evidence adds about the others, and whether they are too few."""

    cells: list[Cell]
    note: str
    thin: bool


SIGNS: tuple[Direction, ...] = ("above", "equal", "below")


def holds(difference: float, direction: Direction, margin: float) -> bool:
    """Whether a difference has the direction; values that differ by rounding of float64 alone are equal."""
    match direction:
        case "above":
            return difference > margin + EPSILON
        case "below":
            return difference < -margin - EPSILON
        case "not-above":
            return difference <= margin + EPSILON
        case "not-below":
            return difference >= -margin - EPSILON
        case _:
            return abs(difference) <= margin + EPSILON


def apply(check: AnyCheck, found: Sequence[Found], grids: Grids) -> Outcome:
    """Tests a predicate on its series (in the order of `check.series()`). Raises Missing where no unit is left."""
    match check:
        case Compare():
            return _compare(check, found, grids)
        case Best():
            return _best(check, found, grids)
        case Mean():
            return _mean(check, found, grids)
        case Order():
            return _order(check, found, grids)
        case Trend():
            return _trend(check, found[0], grids)
        case Dip():
            return _dip(check, found[0], grids)
        case Outliers():
            return _outliers(check, found, grids)


def place(cell: Cell) -> str:
    """How evidence names a cell."""
    return f"({cell[0]}, {cell[1]})"


def _compare(check: Compare, found: Sequence[Found], grids: Grids) -> Outcome:
    method, baselines = found[0], found[1:]
    tested = _evaluated(check.cells, found, grids)
    cells = tested.cells
    wanted: dict[Cell, Direction] = dict.fromkeys(cells, check.direction)
    for one in reversed(check.exceptions):  # the first that has a cell counts
        chosen = select(one.cells, grids)
        own = [cell for cell in chosen.cells if cell in wanted]
        wanted |= dict.fromkeys(own, one.direction)
        lost = len(chosen.cells) - len(own)
        note = _unmatched(chosen, "exceptions without a counterpart")
        note += f"; {lost} exceptions were not run" if lost else ""
        thin = len(own) < THIN * (len(chosen.cells) + len(chosen.unmatched))
        tested = replace(tested, note=tested.note + note, thin=tested.thin or thin)
    failing, parts = [], []
    for cell in cells:
        wrong = [b for b in baselines if not holds(_gap(method, b, cell), wanted[cell], check.margin)]
        if wrong:
            values = ", ".join(f"{b.values[cell]:.4f}" for b in wrong)
            failing.append(f"{place(cell)} {method.values[cell]:.4f} vs {values}")
    for b in baselines:
        gaps = [_gap(method, b, cell) for cell in cells]
        signs = [sum(holds(gap, sign, 0.0) for gap in gaps) for sign in SIGNS]
        parts.append(
            f"{method.name} against {b.name}: above in {signs[0]}, equal in {signs[1]}, below in {signs[2]} of"
            f" {len(cells)} cells, mean {_average(method, cells):.4f} against {_average(b, cells):.4f}"
        )
    return _outcome(check.rule, "cells", len(cells), failing, "; ".join(parts), tested)


def _best(check: Best, found: Sequence[Found], grids: Grids) -> Outcome:
    method, rivals = found[0], found[1:]
    tested = _evaluated(check.cells, found, grids)
    cells = tested.cells
    failing, tied = [], 0
    for cell in cells:
        values = [rival.values[cell] for rival in rivals]
        best = rivals[values.index(max(values))]
        if not holds(_gap(method, best, cell), "above", 0.0):
            tied += holds(_gap(method, best, cell), "equal", 0.0)
            failing.append(f"{place(cell)} {method.values[cell]:.4f} vs {best.values[cell]:.4f} of {best.method}")
    names = ", ".join(rival.name for rival in rivals)
    text = f"{method.name} strictly best in {len(cells) - len(failing)} of {len(cells)} cells"
    text += f" ({tied} more tied)" if tied else ""
    return _outcome(check.rule, "cells", len(cells), failing, f"{text} among {names}", tested)


def _mean(check: Mean, found: Sequence[Found], grids: Grids) -> Outcome:
    method, baselines = found[0], found[1:]
    tested = _evaluated(check.cells, found, grids)
    cells = tested.cells
    own, failing, parts = _average(method, cells), [], []
    for b in baselines:
        other = _average(b, cells)
        parts.append(f"{b.name} {other:.4f} ({own - other:+.4f})")
        if not holds(own - other, check.direction, check.margin):
            failing.append(f"mean {own:.4f} is not {_wanted(check.direction, check.margin)} {other:.4f} of {b.method}")
    text = f"mean over {len(cells)} cells: {method.name} {own:.4f}, {', '.join(parts)}"
    return _outcome(check.rule, "means", len(baselines), failing, text, tested)


def _order(check: Order, found: Sequence[Found], grids: Grids) -> Outcome:
    tested = _evaluated(check.cells, found, grids)
    cells = tested.cells
    means = [(one, _average(one, cells)) for one in found]
    failing = [
        f"{a.name} {low:.4f} to {b.name} {high:.4f}"
        for (a, low), (b, high) in pairwise(means)
        if not holds(high - low, "above", check.margin)
    ]
    text = " < ".join(f"{one.name} {mean:.4f}" for one, mean in means)
    return _outcome(
        check.rule, "pairs", len(means) - 1, failing, f"mean over {len(cells)} cells, claimed {text}", tested
    )


def _trend(check: Trend, one: Found, grids: Grids) -> Outcome:
    tested = _evaluated(check.cells, [one], grids)
    cells = tested.cells
    axis = 1 if check.along == "dims" else 0
    changes: dict[int, list[tuple[Cell, Cell, float]]] = {}
    for line in sorted({cell[1 - axis] for cell in cells}):
        steps = list(pairwise([cell for cell in cells if cell[1 - axis] == line]))
        if steps:
            changes[line] = [(a, b, _change(one, a, b, check.relative)) for a, b in steps]
    if not changes:
        raise Missing(f"the grid has no two {check.along} of those that the claim compares")
    failing, bad = [], 0
    for steps_of in changes.values():
        wrong = [step for step in steps_of if not _within(step[2], check)]
        bad += bool(wrong)
        failing += [f"{place(a)} to {place(b)} {_signed(change, check.relative)}" for a, b, change in wrong]
    values = [change for steps_of in changes.values() for _, _, change in steps_of]
    unit = "layers" if check.along == "dims" else "dims"
    bounds = [f"{word} {_signed(bound, check.relative)}" for word, bound in
              (("at least", check.least), ("at most", check.most)) if bound is not None]  # fmt: skip
    text = (
        f"{one.name}, {len(values)} steps along {check.along} in {len(changes)} {unit}: changes from"
        f" {_signed(min(values), check.relative)} to {_signed(max(values), check.relative)}, claimed {' and '.join(bounds)}"
    )
    return _outcome(check.rule, unit, len(changes), failing, text, tested, agree=len(changes) - bad)


def _dip(check: Dip, one: Found, grids: Grids) -> Outcome:
    tested = _evaluated(check.cells, [one], grids)
    failing, parts = [], []
    for layer, dim in tested.cells:
        dims = sorted(d for la, d in one.values if la == layer)
        at = dims.index(dim)
        if not 0 < at < len(dims) - 1:
            continue
        before, value, after = (one.values[layer, d] for d in dims[at - 1 : at + 2])
        shown = f"layer {layer}: {before:.4f} @{dims[at - 1]}, {value:.4f} @{dim}, {after:.4f} @{dims[at + 1]}"
        parts.append(shown)
        if holds(value - min(before, after), "below", check.margin) != check.present:
            failing.append(shown)
    if not parts:
        raise Missing("the grid has no dim on both sides of that of the dip")
    text = f"{one.name}, {'a dip' if check.present else 'no dip'} of more than {check.margin:g} claimed; {'; '.join(parts)}"
    return _outcome(check.rule, "layers", len(parts), failing, text, tested)


def _outliers(check: Outliers, found: Sequence[Found], grids: Grids) -> Outcome:
    seen: dict[tuple[str, Cell], str] = {}
    wanted: set[tuple[str, Cell]] = set()
    tested = _evaluated(check.cells, found, grids)
    cells = tested.cells
    for one in found:
        for cell in cells:
            smaller = [one.values[c] for c in cells if c != cell and c[0] <= cell[0] and c[1] <= cell[1]]
            if smaller and holds(one.values[cell] - max(smaller), "below", check.margin):
                shown = f"{one.method} {place(cell)} {one.values[cell]:.4f}, a smaller cell {max(smaller):.4f}"
                seen[one.method, cell] = shown
        pairs = Cells(pairs=check.expected.get(one.method, []), match=check.cells.match)
        chosen = select(pairs, grids).cells if pairs.pairs else ()
        wanted |= {(one.method, cell) for cell in chosen if cell in cells}
    if not wanted:
        raise Missing("none of the expected cells is in the grid")
    failing = [f"{method} {place(cell)} is no outlier" for method, cell in sorted(wanted - seen.keys())]
    failing += [f"{shown} was not expected" for key, shown in sorted(seen.items()) if key not in wanted]
    text = f"more than {check.margin:g} below a smaller cell: {'; '.join(seen.values()) or 'none'}"
    return _outcome(check.rule, "cells", len(wanted | seen.keys()), failing, text, tested)


def _evaluated(cells: Cells, found: Iterable[Found], grids: Grids) -> _Evaluated:
    """The selected cells that all series have. Raises Missing where there is none."""
    chosen = select(cells, grids)
    if not chosen.cells:
        names = ", ".join(chosen.unmatched) or f"layers {cells.layers} with dims {cells.dims}"
        raise Missing(f"the grid has no counterpart of {names}")
    held = [cell for cell in chosen.cells if all(cell in one.values for one in found)]
    if not held:
        raise Missing("the methods were not evaluated on a common cell of those that the claim names")
    note = f"; only {len(held)} of {len(chosen.cells)} such cells were run" if len(held) < len(chosen.cells) else ""
    thin = len(held) < THIN * (len(chosen.cells) + len(chosen.unmatched))
    return _Evaluated(held, note + _unmatched(chosen, "no counterpart of"), thin)


def _unmatched(chosen: Selection, words: str) -> str:
    return f"; {words} {', '.join(chosen.unmatched)}" if chosen.unmatched else ""


def _gap(a: Found, b: Found, cell: Cell) -> float:
    return a.values[cell] - b.values[cell]


def _average(one: Found, cells: Sequence[Cell]) -> float:
    return sum(one.values[cell] for cell in cells) / len(cells)


def _within(change: float, check: Trend) -> bool:
    low, high = check.least, check.most
    return (low is None or change >= low - EPSILON) and (high is None or change <= high + EPSILON)


def _change(one: Found, a: Cell, b: Cell, relative: bool) -> float:
    change = one.values[b] - one.values[a]
    scale = max(abs(one.values[a]), abs(one.values[b])) if relative else 1.0
    return change / scale if scale else 0.0  # both 0: no change


def _signed(change: float, relative: bool) -> str:
    return f"{change:+.1%}" if relative else f"{change:+.4f}"


def _wanted(direction: Direction, margin: float) -> str:
    return _SIGNS[direction] + (f" (margin {margin:g})" if margin else "")


def _outcome(
    rule: Rule,
    unit: str,
    total: int,
    failing: Sequence[str],
    numbers: str,
    tested: _Evaluated,
    agree: int | None = None,
) -> Outcome:
    agree = total - len(failing) if agree is None else agree
    share = agree / total
    verdict = REPRODUCED if share >= rule.reproduced - EPSILON else PARTLY if share >= rule.partly - EPSILON else NOT
    note = tested.note
    if tested.thin and verdict == REPRODUCED:
        verdict, note = PARTLY, f"{note}; too few of the claimed cells for more than {PARTLY!r}"
    return Outcome(unit, agree, total, tuple(failing), numbers + note, verdict)
