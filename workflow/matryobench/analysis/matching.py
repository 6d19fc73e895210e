"""Which cell of one grid is compared with which cell of another: the same cell, or the same relative depth and width.

Between backbones of one shape (L layers of width H) only equal cells match. Otherwise layers match where l/L is nearest
and dims where d/H is nearest in octaves (log2); a pair counts only if each is the other's nearest, ties go to the smaller
number. So every cell has at most one counterpart, and a layer or dim without one is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import pandas as pd

from matryobench.analysis import published as papers
from matryobench.analysis.cells import over_seeds, select
from matryobench.errors import InputError
from matryobench.grid import Cell

CELL = ["layer", "dim"]
ROW = ["recipe", "method", "variant"]
COLUMNS = (
    *(*ROW, "layer", "dim", "ours", "low", "high", "seeds"),
    *("published_recipe", "published_variant", "published_layer", "published_dim", "published", "flagged"),
)


@dataclass(frozen=True)
class Scale:
    """Our layers and dims with their counterparts; `same` where both backbones have one shape and values compare."""

    layers: dict[int, int]
    dims: dict[int, int]
    same: bool

    def words(self) -> str:
        """The rule and what it gave, for titles and figures."""
        if self.same:
            return "cell by cell"
        layers = ", ".join(f"{own}→{other}" for own, other in self.layers.items())
        dims = ", ".join(f"{own}→{other}" for own, other in self.dims.items())
        return f"matched by relative depth and width, nearest l/L and log2(d/H): layers {layers}; dims {dims}"


def scale(
    layers: Iterable[int], dims: Iterable[int], other_layers: Iterable[int], other_dims: Iterable[int],
    shape: Cell, other_shape: Cell, place: str = "cells table",
) -> Scale:  # fmt: skip
    """Matches the layers and dims of two grids on backbones of `shape` and `other_shape`, each (L, H).

    Raises InputError where no layer or no dim has a counterpart, and for a layer or dim outside its backbone.
    """
    own, other = (sorted(set(layers)), sorted(set(dims))), (sorted(set(other_layers)), sorted(set(other_dims)))
    for held, size in ((own, shape), (other, other_shape)):
        for kind, numbers, most in zip(("layer", "dim"), held, size, strict=True):
            if numbers and numbers[-1] > most:
                raise InputError(
                    f"{place}: {kind} {numbers[-1]} is beyond a backbone of {size[0]} layers and width {size[1]}; "
                    "give the shape of the backbone that was evaluated."
                )
    if tuple(shape) == tuple(other_shape):
        found = [{number: number for number in mine if number in yours} for mine, yours in zip(own, other, strict=True)]
    else:
        depth = _mutual(own[0], other[0], lambda a, b: abs(Fraction(a, shape[0]) - Fraction(b, other_shape[0])))
        width = _mutual(own[1], other[1], lambda a, b: _octaves(Fraction(a, shape[1]) / Fraction(b, other_shape[1])))
        found = [depth, width]
    for kind, pairs in zip(("layer", "dim"), found, strict=True):
        if not pairs:
            raise InputError(f"{place}: no {kind} has a counterpart in the other grid; evaluate one that it has.")
    return Scale(found[0], found[1], tuple(shape) == tuple(other_shape))


def matched(
    frame: pd.DataFrame,
    published: pd.DataFrame,
    *,
    dataset: str,
    metric: str,
    shape: Cell | None = None,
    published_shape: Cell = papers.SHAPE,
    comparable: bool | None = None,
) -> tuple[pd.DataFrame, Scale]:
    """Our cells (means over seeds) beside the published ones: the columns COLUMNS, a row per line of ours and cell.

    A recipe is compared with the published one of its name, else with the only one there is; a variant likewise, and
    with its counterpart where widths are listed (see `published.is_counterpart`). Layers are those of the query side.
    `low`, `high` reach over our seeds, and `flagged` marks suspect published values. `shape` is (L, H) of our backbone
    (default: the largest layer and dim of the table). `comparable` False says that values do not compare although the
    shapes are equal.
    Raises InputError as `cells.select` and `scale` do, and where nothing matches.
    """
    own, other = over_seeds(select(frame, dataset, metric)), over_seeds(select(published, dataset, metric))
    shape = shape or (int(own["layer"].max()), int(own["dim"].max()))
    rule = scale(own["layer"], own["dim"], other["layer"], other["dim"], shape, published_shape)
    lines = _lines(own, other)
    if lines.empty:
        raise InputError(
            f"cells table: none of its recipes and methods is among the published ones of {dataset} {metric}; compare a "
            f"table with one of the methods {', '.join(sorted(set(other['method'])))}."
        )
    names = {"layer": "published_layer", "dim": "published_dim", "recipe": "published_recipe"}
    other = other.rename(columns={**names, "variant": "published_variant", "mean": "published"})
    own = own.rename(columns={"mean": "ours"}).merge(lines, on=ROW)
    own["published_layer"], own["published_dim"] = own["layer"].map(rule.layers), own["dim"].map(rule.dims)
    keys = ["method", "published_recipe", "published_variant", "published_layer", "published_dim"]
    rows = own.merge(other[[*keys, "published"]], on=keys)
    if rows.empty:
        raise InputError(f"cells table: no cell of {dataset} {metric} is published; evaluate one that is.")
    suspect = papers.flagged()
    suspect = suspect[(suspect["dataset"] == dataset) & (suspect["metric"] == metric)]
    held = set(suspect[["method", "recipe", "layer", "dim"]].itertuples(index=False, name=None))
    at = rows[["method", "published_recipe", "published_layer", "published_dim"]].itertuples(index=False, name=None)
    rows["flagged"] = [tuple(key) in held for key in at]
    whole = rows.astype({"published_layer": "int64", "published_dim": "int64"})
    rule = rule if comparable is not False else Scale(rule.layers, rule.dims, same=False)
    return whole.sort_values([*ROW, *CELL], ignore_index=True)[list(COLUMNS)], rule


def _lines(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Our (recipe, method, variant) with the published recipe and variant that each is compared with."""
    known = other[ROW].drop_duplicates()
    recipes = sorted(set(known["recipe"]))
    found = []
    for recipe, mine in own.groupby("recipe"):
        to = recipe if recipe in recipes else recipes[0] if len(recipes) == 1 else None
        theirs = known[known["recipe"] == to]
        for _, line in mine[["method", "variant"]].drop_duplicates().iterrows():
            variants = sorted(theirs.loc[theirs["method"] == line["method"], "variant"])
            if line["variant"] not in variants:
                variants = [one for one in variants if papers.is_counterpart(line["method"], one, line["variant"])]
            else:
                variants = [line["variant"]]
            if len(variants) == 1:
                found.append((recipe, line["method"], line["variant"], to, variants[0]))
    return pd.DataFrame(found, columns=[*ROW, "published_recipe", "published_variant"])


def _mutual(own: list[int], other: list[int], distance: Callable[[int, int], Fraction]) -> dict[int, int]:
    nearest, back = {}, {}
    for a in own:
        nearest[a] = min((distance(a, b), b) for b in other)[1]
    for b in other:
        back[b] = min((distance(a, b), a) for a in own)[1]
    return {a: b for a, b in nearest.items() if back[b] == a}


def _octaves(ratio: Fraction) -> Fraction:
    """A ratio that is the same for twice and half: it orders as |log2(ratio)| does, and is exact."""
    return max(ratio, 1 / ratio)
