"""From cells in a paper's numbers to cells of the grid at hand.

On the paper's own backbone (the same last layer and full width) numbers mean themselves. On another one, and unless a
selector is absolute, a layer or dim means its counterpart on the grid at hand (`analysis.matching.counterpart`; several
numbers of the paper may mean one). Bounds such as <=32 are bounds on l/L and d/H.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from matryobench.analysis.matching import counterpart
from matryobench.claims.spec import Cells, Paper
from matryobench.grid import Cell

EPSILON = 1e-9


@dataclass(frozen=True)
class Grids:
    """The paper whose numbers selectors use, and the cells, depth L, width H and sizes (if named) at hand."""

    paper: Paper
    cells: frozenset[Cell]
    shape: tuple[int, int]
    sizes: Mapping[str, Cell] | None = None

    @property
    def reference(self) -> tuple[int, int]:
        """The paper's last layer and full width."""
        return self.paper.grid.layers[-1], self.paper.grid.dims[-1]

    @property
    def same(self) -> bool:
        """Whether the numbers of the paper mean themselves."""
        return self.shape == self.reference


@dataclass(frozen=True)
class Selection:
    """The cells in ascending order; `unmatched` names what has no counterpart in the grid at hand."""

    cells: tuple[Cell, ...]
    unmatched: tuple[str, ...] = ()


def select(cells: Cells, grids: Grids) -> Selection:
    """The cells of the grid at hand that a selector means."""
    if cells.sizes and grids.sizes is not None:
        named = [(name, grids.sizes.get(name)) for name in cells.sizes]
        found = {cell for _, cell in named if cell in grids.cells}
        return Selection(tuple(sorted(found)), tuple(name for name, cell in named if cell not in grids.cells))
    pairs = {f"({layer}, {dim})": (layer, dim) for layer, dim in cells.pairs}
    pairs |= {name: grids.paper.sizes[name] for name in cells.sizes}
    if pairs:
        matched = {name: _pair(pair, cells, grids) for name, pair in pairs.items()}
        found = {cell for cell in matched.values() if cell in grids.cells}
        return Selection(tuple(sorted(found)), tuple(name for name, cell in matched.items() if cell not in grids.cells))
    layers, no_layer = _axis(cells.layers, 0, cells, grids)
    dims, no_dim = _axis(cells.dims, 1, cells, grids)
    inside = sorted(cell for cell in grids.cells if cell[0] in layers and cell[1] in dims)
    return Selection(tuple(inside), tuple([f"layer {v}" for v in no_layer] + [f"dim {v}" for v in no_dim]))


def _pair(pair: Cell, cells: Cells, grids: Grids) -> Cell | None:
    found = [_counterpart(value, axis, cells, grids) for axis, value in enumerate(pair)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _axis(named: str | list[int], axis: int, cells: Cells, grids: Grids) -> tuple[Collection[int], list[int]]:
    """The values of an axis (0: layers, 1: dims) that are meant, and the numbers without a counterpart."""
    values = {cell[axis] for cell in grids.cells}
    if isinstance(named, list):
        found = {value: _counterpart(value, axis, cells, grids) for value in named}
        return {one for one in found.values() if one is not None}, [v for v, one in found.items() if one is None]
    last = grids.shape[axis]
    if named == "all":
        return values, []
    if named in ("last", "below-last"):
        return {value for value in values if (value == last) == (named == "last")}, []
    sign = named.rstrip("0123456789")
    scale = 1.0 if _literal(cells, grids) else last / grids.reference[axis]
    bound = int(named[len(sign) :]) * scale
    slack = EPSILON * bound * (1 if "=" in sign else -1)
    if sign.startswith("<"):
        return {value for value in values if value <= bound + slack}, []
    return {value for value in values if value >= bound - slack}, []


def _counterpart(value: int, axis: int, cells: Cells, grids: Grids) -> int | None:
    values = sorted({cell[axis] for cell in grids.cells})
    if _literal(cells, grids):
        return value if value in values else None
    return counterpart(("layer", "dim")[axis], value, grids.reference[axis], values, grids.shape[axis])


def _literal(cells: Cells, grids: Grids) -> bool:
    return grids.same or cells.match == "absolute"
