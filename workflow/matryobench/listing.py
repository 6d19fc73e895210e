"""Printing a plan."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table

from matryobench.plan import Plan


def print_plan(plan: Plan) -> None:
    """Prints the runs in training order and the counts of runs, evaluations and datasets."""
    console = Console(width=None if Console().is_terminal else 160)
    table = Table(title=f"{plan.experiment.name}: {plan.experiment.description}", title_justify="left")
    columns = (
        "order",
        "run",
        "method",
        "variant",
        "recipe",
        "backend",
        "seed",
        "starts from",
        "layers",
        "cells evaluated",
    )
    for column in columns:
        table.add_column(
            column, justify="right" if column in ("order", "seed", "layers", "cells evaluated") else "left"
        )
    for number, run in enumerate(plan.runs, 1):
        depth = str(run.layers or plan.shape.layers or "all")
        table.add_row(
            str(number), run.run_id, run.method, run.variant, run.recipe, run.backend, str(run.seed.name),
            run.starts_from or run.pretraining or "backbone", depth, str(len(run.evaluated)),
        )  # fmt: skip
    console.print(table)
    for name, task in plan.tasks.items():
        runs = plan.runs_of(name)
        counts = Counter(run.method for run in runs)
        cells, sets = sum(len(run.evaluated) for run in runs), task.sets
        console.print(
            f"{name}: {len(runs)} training runs: {', '.join(f'{method} {n}' for method, n in counts.items())}"
        )
        console.print(
            f"{name}: {cells} cells evaluated on {len(sets)} test sets ({', '.join(sets)}): {cells * len(sets)} scores"
        )
    names = plan.dataset_names()
    console.print(f"{len(names)} datasets: {', '.join(names)}")
