"""The gradient-coverage map: which (layer, dim) cells each loss trains, and with what total weight.

A term of a loss is evaluated at exactly one layer and width; that cell is trained. Its gradient reaches every
coordinate below that width, so narrower cells of the layer are trained *through* it. The map has both, for the base
loss and for the alignment terms apart. Weights are the factors in front of the terms, times the share of steps in which
a sampled term occurs. They do not say how large a term's gradient is, nor do they count what a term is divided by inside
(batch, scores). Layer 0 is the embedding output.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from matryobench.analysis import frames
from matryobench.errors import InputError

if TYPE_CHECKING:
    from matryobench.plan import Plan, Run

KEY = ("task", "method", "variant", "recipe", "side", "layer", "dim")
WEIGHTS = ("base", "alignment", "base_through", "alignment_through")
COLUMNS = (*KEY, "evaluated", *WEIGHTS, "terms")
BASE = "base"  # the name of the base loss's terms; all others are alignment

Line = tuple[str, str, str]
"""A method, its variant and a recipe."""

Terms = Sequence[Mapping[str, Any]]
"""A run's terms as run.json has them under trained_cells: layer, dim, term, weight, probability, side."""


def shown_runs(plan: Plan) -> list[Run]:
    """The runs that the map is made of: of each model the native one of the first seed, as all seeds train the same."""
    first = plan.experiment.seeds[0]
    return [run for run in plan.runs if run.backend == "native" and run.seed == first]


def declared(plan: Plan, shape: tuple[int, int] | None = None) -> dict[str, Terms]:
    """Run id -> its terms, from the objectives' own declaration; nothing has to be trained.

    `shape` is (L, H) of a backbone that is not in the mirror. Raises InputError where it is not known.
    """
    from matryobench.objectives.build import objective_of

    layers, width = shape or (plan.shape.layers, plan.shape.hidden)
    if layers is None or width is None:
        raise InputError(f"{plan.place}: backbone: its layers and width are not known yet; run `matryobench fetch`.")
    return {
        run.run_id: [vars(term) for term in objective_of(plan, run, run.layers or layers, width).coverage()]
        for run in shown_runs(plan)
    }


def recorded(plan: Plan, records: Iterable[Path]) -> dict[str, Terms]:
    """Run id -> its terms, as the finished runs' run.json have them (`records` may hold more runs than the map needs).

    Raises InputError for a file that is not such a record, and for a run of the map without one.
    """
    wanted = {run.run_id for run in shown_runs(plan)}
    found: dict[str, Terms] = {}
    for path in records:
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            name, terms = record["run_id"], [_term(term) for term in record["trained_cells"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: is no run.json with 'trained_cells'; train the run again.") from error
        if name in wanted:
            found[name] = terms
    missing = sorted(wanted - set(found))
    if missing:
        raise InputError(f"{plan.place}: run {missing[0]} has no run.json among the given ones; train it first.")
    return found


def table(plan: Plan, terms: Mapping[str, Terms]) -> pd.DataFrame:
    """The map as a tidy table with COLUMNS: a row per task, method, variant, recipe, side and cell.

    Cells are all layers x dims that some run of the task is evaluated at or trains; where a method has a model per cell
    or layer, they are only those of its models, each with the cells that it is evaluated at or trains. `base` and
    `alignment` are the total weights of terms at exactly this cell, `..._through` those of all terms of the layer that
    are at least as wide, so that every coordinate of the cell gets their gradient. `side` is "both", or "query" and
    "passage" where they differ. `terms` names what is evaluated at the cell. `terms` (argument): as `declared` or
    `recorded` give it.
    """
    places = {run.run_id: _places(run, terms[run.run_id]) for run in shown_runs(plan)}
    rows = []
    for run in shown_runs(plan):
        shared = [places[other.run_id] for other in shown_runs(plan) if other.task == run.task and run.cell is None]
        layers, dims = (set().union(*axis) for axis in zip(places[run.run_id], *shared, strict=True))
        rows += _rows(run, terms[run.run_id], sorted(layers), sorted(dims))
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(list(KEY), ignore_index=True)


def renamed(frame: pd.DataFrame, names: Mapping[Line, Line]) -> pd.DataFrame:
    """The rows of these (method, variant, recipe) under other names, for scores that have those, such as published ones.

    `names`: name wanted -> name in the table. Raises InputError for one that the table lacks.
    """
    parts = []
    for wanted, held in names.items():
        rows = frame[(frame[["method", "variant", "recipe"]] == list(held)).all(axis=1)]
        if rows.empty:
            raise InputError(
                f"coverage table: {held[0]} ({held[1]}, recipe {held[2]}) is missing; name a run of the plan."
            )
        parts.append(rows.assign(method=wanted[0], variant=wanted[1], recipe=wanted[2]))
    return pd.concat(parts).sort_values(list(KEY), ignore_index=True)


def write(frame: pd.DataFrame, path: Path) -> None:
    """Writes the table as .csv, whole or not at all."""
    frames.write_csv(frame, path)


def read(path: Path) -> pd.DataFrame:
    """The table that `write` wrote; InputError names the file (and the columns that it lacks)."""
    with frames.reading(path, "a coverage table"):
        frame = pd.read_csv(path, keep_default_na=False)
    if list(frame.columns) != list(COLUMNS) or frame.empty:
        raise InputError(f"{path} is not a coverage table; it needs rows and the columns {', '.join(COLUMNS)}.")
    return frame


def _term(term: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded term; a record without `side` was written for STS, where there is none."""
    found = {"side": "both", **term}
    return {key: found[key] for key in ("layer", "dim", "term", "weight", "probability", "side")}


def _places(run: Run, terms: Terms) -> tuple[set[int], set[int]]:
    """The layers and the dims that a run is evaluated at or trains."""
    layers = {layer for layer, _ in run.evaluated} | {int(term["layer"]) for term in terms}
    return layers, {dim for _, dim in run.evaluated} | {int(term["dim"]) for term in terms}


def _rows(run: Run, terms: Terms, layers: list[int], dims: list[int]) -> list[dict[str, Any]]:
    name = {"task": run.task, "method": run.method, "variant": run.variant, "recipe": run.recipe}
    cells = [(layer, dim) for layer in layers for dim in dims]
    maps = {}
    for side in ("query", "passage"):
        own = [term for term in terms if term["side"] in ("both", side)]
        maps[side] = [_weights([term for term in own if term["layer"] == layer], dim) for layer, dim in cells]
    if maps["query"] == maps["passage"]:
        maps = {"both": maps["query"]}
    return [
        {**name, "side": side, "layer": cell[0], "dim": cell[1], "evaluated": cell in run.evaluated, **weights}
        for side, found in maps.items()
        for cell, weights in zip(cells, found, strict=True)
    ]


def _weights(terms: Terms, dim: int) -> dict[str, Any]:
    totals = dict.fromkeys(WEIGHTS, 0.0)
    named: dict[str, float] = {}
    for term in terms:
        kind, weight = BASE if term["term"] == BASE else "alignment", term["weight"] * term["probability"]
        if term["dim"] >= dim:
            totals[f"{kind}_through"] += weight
        if term["dim"] == dim:
            totals[kind] += weight
            named[term["term"]] = named.get(term["term"], 0.0) + weight
    return {**totals, "terms": ", ".join(f"{name} {weight:.4g}" for name, weight in sorted(named.items()))}
