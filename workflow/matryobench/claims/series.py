"""The values of the series of a predicate: which recipe and variant stand for a method, mean over seeds per cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from matryobench.analysis.cells import over_seeds
from matryobench.claims.spec import PUBLISHED, Series
from matryobench.grid import Cell
from matryobench.objectives.registry import load_methods
from matryobench.tasks import TRAINED_AS

Values = dict[Cell, float]


class Missing(Exception):
    """Why a claim cannot be tested on a cells table; the message is that reason."""


@dataclass(frozen=True)
class Found:
    """The values of a series and the name that evidence gives it: method, with variant and recipe."""

    name: str
    method: str
    values: Values


def resolve(
    rows: pd.DataFrame,
    series: Sequence[Series],
    *,
    task: str,
    recipes: Sequence[str] = (),
    variants: Mapping[str, str] | None = None,
) -> list[Found]:
    """The values of each series, in order, from the selected rows of one dataset and metric (see `cells.select`).

    Series without recipes of their own share one: the first of `recipes` that was run or, without these, the one in
    which all of them have most cells in common. `variants` chooses a method's variant; else it is the first of the
    series' own that was run, the task's default, the published one, or the first by name.
    Raises Missing for a method, recipe or variant that the rows lack.
    """
    frame = over_seeds(rows)
    parts = [part for one in series for part in one.parts()]
    for method in dict.fromkeys(part.method for part in parts):
        if method not in set(frame["method"]):
            raise Missing(f"method {method} was not run")
    common = _common_recipe(frame, [part for part in parts if not part.recipes], recipes)
    return [_found(frame, one, common, task, variants or {}) for one in series]


def _common_recipe(frame: pd.DataFrame, parts: Sequence[Series], recipes: Sequence[str]) -> str:
    if not parts:
        return ""
    names = list(dict.fromkeys(part.method for part in parts))
    held = {recipe: set(rows["method"]) for recipe, rows in frame.groupby("recipe")}
    if recipes:
        run = [name for name in recipes if name in held]
        if not run:
            raise Missing(f"recipe {' or '.join(recipes)} was not run")
        lacking = [name for name in names if name not in held[run[0]]]
        if lacking:
            raise Missing(f"method {lacking[0]} was not run with recipe {run[0]}")
        return run[0]
    whole = [str(recipe) for recipe, methods in held.items() if methods.issuperset(names)]
    if not whole:
        raise Missing(f"no recipe has all of {', '.join(names)}")
    return min(whole, key=lambda recipe: (-_shared_cells(frame[frame["recipe"] == recipe], names), recipe))


def _shared_cells(rows: pd.DataFrame, methods: Sequence[str]) -> int:
    by_method = [set(zip(own["layer"], own["dim"], strict=True)) for _, own in _of(rows, methods).groupby("method")]
    return len(set.intersection(*by_method))


def _of(rows: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    return rows[rows["method"].isin(methods)]


def _found(frame: pd.DataFrame, one: Series, common: str, task: str, chosen: Mapping[str, str]) -> Found:
    rows = frame[frame["method"] == one.method]
    recipe = common
    if one.recipes:
        run = [name for name in one.recipes if name in set(rows["recipe"])]
        if not run:
            raise Missing(f"method {one.method} was not run with recipe {' or '.join(one.recipes)}")
        recipe = run[0]
    rows = rows[rows["recipe"] == recipe]
    variant = _variant(sorted(set(rows["variant"])), one, task, chosen)
    rows = rows[rows["variant"] == variant]
    values = dict(zip(zip(rows["layer"], rows["dim"], strict=True), rows["mean"], strict=True))
    own: Values = {(int(layer), int(dim)): float(value) for (layer, dim), value in values.items()}
    name = f"{one.method} ({recipe}, {variant})" if variant != recipe else f"{one.method} ({variant})"
    if one.minus is None:
        return Found(name, one.method, own)
    other = _found(frame, one.minus, common, task, chosen)
    shared = {cell: own[cell] - other.values[cell] for cell in own.keys() & other.values.keys()}
    return Found(f"{name} - {other.name}", one.method, shared)


def _variant(held: Sequence[str], one: Series, task: str, chosen: Mapping[str, str]) -> str:
    if one.variants:
        run = [name for name in one.variants if name in held]
        if not run:
            raise Missing(f"variant {' or '.join(one.variants)} of {one.method} was not run")
        return run[0]
    default = load_methods()[one.method].default_for(TRAINED_AS[task])
    wanted = (chosen.get(one.method, default), default, PUBLISHED)
    return next((name for name in wanted if name in held), held[0])
