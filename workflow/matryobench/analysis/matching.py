"""Which cell of one grid is compared with which cell of another: the same cell, or the same relative depth and width.

Between backbones of one shape (L layers of width H) only equal cells match. Otherwise the counterpart of a layer is the one
with the nearest l/L, that of a dim the one with the nearest d/H in octaves (log2), the smaller of two equally near ones; one
further away than half a step of the published grids (a twelfth of the depth, half an octave of the width) is none. Two grids
are compared where each cell is the other's counterpart, so that every cell has at most one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import pandas as pd

from matryobench.analysis import published as papers
from matryobench.analysis.cells import over_seeds, select
from matryobench.errors import InputError
from matryobench.grid import Cell

Kind = Literal["layer", "dim"]

FAR_LAYER = Fraction(1, 12)
"""The largest difference of l/L between counterparts."""
FAR_DIM = 2
"""The largest ratio of d/H between them, squared so that it is exact: half an octave."""

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


def counterpart(kind: Kind, number: int, size: int, candidates: Iterable[int], other_size: int) -> int | None:
    """The layer (or dim) of another backbone that stands for a layer (dim) of one with `size` layers (width `size`).

    The nearest of `candidates` on the backbone of `other_size`, None where that is too far away or there is none.
    """
    share = Fraction(number, size)

    def distance(other: int) -> Fraction:
        theirs = Fraction(other, other_size)
        # a ratio that is the same for twice and half orders as |log2| does, and is exact
        return abs(share - theirs) if kind == "layer" else max(share / theirs, theirs / share)

    nearest = min(((distance(other), other) for other in candidates), default=None)
    if nearest is None:
        return None
    near = nearest[0] <= FAR_LAYER if kind == "layer" else nearest[0] ** 2 <= FAR_DIM
    return nearest[1] if near else None


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
        depth = _mutual("layer", own[0], shape[0], other[0], other_shape[0])
        width = _mutual("dim", own[1], shape[1], other[1], other_shape[1])
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


def _mutual(kind: Kind, own: list[int], size: int, other: list[int], other_size: int) -> dict[int, int]:
    there = {a: counterpart(kind, a, size, other, other_size) for a in own}
    back = {b: counterpart(kind, b, other_size, own, size) for b in other}
    return {a: b for a, b in there.items() if b is not None and back[b] == a}
