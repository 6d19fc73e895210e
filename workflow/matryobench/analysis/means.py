"""What tables say about the grid of one dataset and metric: means over seeds, layers, dims and bands, and best cells.

What is compared is what is printed: "best" follows the values rounded to `decimals`, so that a reader can recount it
from the page. Missing cells never enter a mean silently: a mean is given only to rows that have all of its cells, or,
with `shared`, to all rows over the cells that all of them have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from matryobench.analysis.cells import LINE, over_seeds, select
from matryobench.errors import InputError

_OTHER = {"layer": "dim", "dim": "layer"}
_CELL = ["recipe", "layer", "dim"]


@dataclass(frozen=True)
class Band:
    """The dims `low`..`high` of a grid under the title that tables print."""

    title: str
    low: int
    high: int


def grid(
    frame: pd.DataFrame, *, dataset: str, metric: str, decimals: int = 4, titles: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Per recipe, layer, method, variant and dim: title, mean, sd (n - 1; NaN for one seed), seeds, shown, best, sole.

    `shown`, `best` and `sole` are those of `mark` within one (recipe, layer, dim). `titles` maps methods to titles and
    gives their order (default: the names, alphabetically). Raises InputError for a method without a title, and as
    `cells.select` does.
    """
    cells = over_seeds(select(frame, dataset, metric))
    titles = titles_of(cells["method"], titles)
    cells["title"] = cells["method"].map(titles)
    cells["rank"] = cells["method"].map({method: place for place, method in enumerate(titles)})
    cells = mark(cells, _CELL, decimals)
    return cells.sort_values(["recipe", "layer", "rank", "variant", "dim"], ignore_index=True).drop(columns="rank")


def titles_of(methods: Iterable[str], titles: Mapping[str, str] | None) -> dict[str, str]:
    """`titles`, which must have all of `methods` (else InputError); None: the methods under their own names."""
    held = sorted(set(methods))
    bare = [] if titles is None else [name for name in held if name not in titles]
    if bare:
        raise InputError(f"cells table: no title for the method(s) {', '.join(bare)}; add one for each of them.")
    return {name: name for name in held} if titles is None else dict(titles)


def mark(values: pd.DataFrame, rivals: Sequence[str], decimals: int) -> pd.DataFrame:
    """`values` with shown (`mean` at the printed precision), best (highest of at least two shown), sole (no tie).

    Rows with equal entries in the columns `rivals` are compared with each other.
    """
    values = values.assign(shown=[float(f"{value:.{decimals}f}") for value in values["mean"]])
    shown = values.groupby(list(rivals))["shown"]
    values["best"] = (values["shown"] == shown.transform("max")) & (shown.transform("size") > 1)
    winners = values.groupby(list(rivals))["best"].transform("sum")
    values["sole"] = values["best"] & (winners == 1)
    return values


def marginal_means(cells: pd.DataFrame, over: str, *, shared: bool = False) -> pd.DataFrame:
    """Means of a `grid` over one axis ("layer" or "dim") per recipe, method, variant and the other axis: mean, cells.

    Only rows that have all cells of their recipe there; with `shared`, all rows, over the cells that all of them have.
    """
    at = _OTHER[over]
    cells = _shared(cells) if shared else cells
    by = [*LINE, "title", at]
    means = cells.groupby(by, as_index=False, sort=False).agg(mean=("mean", "mean"), cells=("mean", "size"))
    full = means["recipe"].map(cells.groupby("recipe")[over].nunique())
    return means if shared else means[means["cells"] == full].reset_index(drop=True)


def bands_of(dims: Sequence[int], ends: Sequence[int]) -> list[Band]:
    """All dims of a grid, then the bands up to and including each of `ends` and the one above the last of them.

    Bands without a dim of the grid are left out; a title names the dims that the band holds: "d ≤ 32", "d = 64".
    """
    held = sorted(set(dims))
    found = [Band("all dims", held[0], held[-1])]
    for below, end in pairwise([0, *sorted(set(ends)), max(held[-1], *ends)]):
        inside = [dim for dim in held if below < dim <= end]
        if inside:
            low, high = inside[0], inside[-1]
            title = f"d = {low}\N{EN DASH}{high}"
            if low == high:
                title = f"d = {low}"
            elif low == held[0]:
                title = f"d ≤ {high}"
            elif high == held[-1]:
                title = f"d ≥ {low}"
            found.append(Band(title, low, high))
    return found if len(found) > 2 else found[:1]  # a lone band is all dims again


def band_means(cells: pd.DataFrame, bands: Sequence[Band], *, shared: bool = False) -> pd.DataFrame:
    """Means of a `grid` over the cells of each band per recipe, method and variant: band (its title), mean, cells.

    Only rows that have all cells of their recipe there; with `shared`, all rows, over the cells that all of them have.
    """
    cells = _shared(cells) if shared else cells
    found = []
    for band in bands:
        inside = cells[cells["dim"].between(band.low, band.high)]
        by = [*LINE, "title"]
        means = inside.groupby(by, as_index=False, sort=False).agg(mean=("mean", "mean"), cells=("mean", "size"))
        full = means["recipe"].map(inside[_CELL].drop_duplicates().groupby("recipe").size())
        found.append(means[means["cells"] == full].assign(band=band.title))
    return pd.concat(found, ignore_index=True)


def wins(cells: pd.DataFrame) -> pd.DataFrame:
    """Per recipe, method, variant of a `grid`: its cells, those with a rival (compared), strictly_best, tied_best."""
    compared = cells.groupby(_CELL)["mean"].transform("size") > 1
    marked = cells.assign(compared=compared, tied=cells["best"] & ~cells["sole"])
    return marked.groupby([*LINE, "title"], as_index=False, sort=False).agg(
        cells=("mean", "size"), compared=("compared", "sum"), strictly_best=("sole", "sum"), tied_best=("tied", "sum")
    )


def is_partial(cells: pd.DataFrame) -> bool:
    """Whether some row of a `grid` lacks a cell of its recipe."""
    held = cells.groupby(LINE)["mean"].transform("size")
    by_recipe = cells.groupby("recipe")
    return bool((held < by_recipe["layer"].transform("nunique") * by_recipe["dim"].transform("nunique")).any())


def _shared(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of a `grid` that all rows of their recipe have."""
    rows = cells[LINE].drop_duplicates().groupby("recipe").size()
    held = cells.groupby(_CELL)["mean"].transform("size")
    return cells[held == cells["recipe"].map(rows)]
