"""The grids of an experiment as the compact data of the page's explorer: scores, and tests of differences."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.analysis.cells import AVERAGE, NATIVE, read, select
from matryobench.analysis.grid_tests import COLUMNS as GRID_TESTS
from matryobench.errors import InputError
from matryobench.report.captions import metric_title, set_title, task_title

if TYPE_CHECKING:
    import pandas as pd

    from matryobench.plan import Plan

DIGITS = 7  # after the point: differences of printed values are exact to more digits than are shown
AT_SIZES = {
    "task",
    "dataset",
    "metric",
    "recipe",
    "layer",
    "dim",
    "method",
    "variant",
    "reference",
    "difference",
    "p_holm",
}


def explorer(plan: Plan, cells_file: Path, tests: Iterable[Path] = ()) -> dict[str, Any]:
    """What the explorer shows: titles, first baselines, and per task, set, metric, recipe and line the grid of each seed.

    A grid is a list of rows (layers of the query side) of columns (dims), None where the cell was not evaluated. `tests`
    are tables of paired tests (.csv); those that are none are left out. Raises InputError for a bad cells table.
    """
    frame = read(cells_file)
    grids = [one for task in _tasks(plan, frame) for one in _grids(plan, frame[frame["task"] == task])]
    methods = {name: method.title for name, method in plan.methods.items()}
    return {
        "tasks": {task: task_title(task) for task in frame["task"].unique()},
        "sets": {name: set_title(name) for name in frame["dataset"].unique()},
        "metrics": {name: metric_title(name) for name in frame["metric"].unique()},
        "methods": {name: methods.get(name, name) for name in frame["method"].unique()},
        "baselines": {name: list(task.baselines) for name, task in plan.tasks.items()},
        "grids": grids,
        "tests": [row for path in tests for row in _tests(path)],
    }


def _tasks(plan: Plan, frame: pd.DataFrame) -> list[str]:
    held = list(frame["task"].unique())
    return [task for task in plan.tasks if task in held] + [task for task in held if task not in plan.tasks]


def _grids(plan: Plan, frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The grids of one task: averages first, methods in the registry's order, variants as the table has them."""
    order = {name: at for at, name in enumerate(plan.methods)}
    pairs = sorted(
        frame[["dataset", "metric"]].drop_duplicates().itertuples(index=False, name=None),
        key=lambda pair: (pair[0] != AVERAGE, pair[0]),
    )
    for dataset, metric in pairs:
        own = frame[(frame["dataset"] == dataset) & (frame["metric"] == metric)]
        for backend in sorted(own["backend"].unique(), key=lambda name: (name != NATIVE, name)):
            rows = select(own, dataset, metric, backend=backend)
            lines = sorted(
                rows.groupby(["recipe", "method", "variant"], sort=False),
                key=lambda line: (line[0][0], order.get(line[0][1], len(order)), line[0][2]),
            )
            for (recipe, method, variant), line in lines:
                yield {
                    "task": str(line["task"].iloc[0]), "set": dataset, "metric": metric, "recipe": recipe,
                    "method": method, "variant": variant, "backend": backend, **_values(line),
                }  # fmt: skip


def _values(line: pd.DataFrame) -> dict[str, Any]:
    layers, dims = sorted(int(x) for x in line["layer"].unique()), sorted(int(x) for x in line["dim"].unique())
    seeds: dict[str, list[list[float | None]]] = {}
    for seed, rows in line.groupby("seed"):
        held = {(layer, dim): round(value, DIGITS) for layer, dim, value in rows[["layer", "dim", "value"]].to_numpy()}
        seeds[str(seed)] = [[held.get((layer, dim)) for dim in dims] for layer in layers]
    return {"layers": layers, "dims": dims, "seeds": seeds}


def _tests(path: Path) -> Iterator[list[Any]]:
    """The rows of a table of paired tests: the two lines, the cell, the interval if it has one, p after Holm, equivalence."""
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        names = set(reader.fieldnames or ())
        if not (names >= set(GRID_TESTS) or names >= AT_SIZES):
            return
        for line, row in enumerate(reader, 2):
            try:
                yield [
                    row["task"], row["dataset"], row["metric"],
                    row["recipe"], row["method"], row["variant"],
                    row.get("reference_recipe") or row["recipe"], row["reference"], row["reference_variant"],
                    int(row["layer"]), int(row["dim"]),
                    _number(row.get("low")), _number(row.get("high")), _number(row["p_holm"]), row.get("equivalent") == "True",
                    _number(row.get("alpha")),
                ]  # fmt: skip
            except (TypeError, ValueError):
                raise InputError(f"{path} line {line}: a number is not one; make the table of tests again.") from None


def _number(text: str | None) -> float | None:
    value = float(text) if text else math.nan
    return float(f"{value:.6g}") if math.isfinite(value) else None
