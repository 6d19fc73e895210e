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
    for column in ("order", "run", "method", "variant", "recipe", "seed", "starts from", "layers", "cells evaluated"):
        table.add_column(
            column, justify="right" if column in ("order", "seed", "layers", "cells evaluated") else "left"
        )
    for number, run in enumerate(plan.runs, 1):
        depth = str(run.layers or plan.shape.layers or "all")
        table.add_row(
            str(number), run.run_id, run.method, run.variant, run.recipe, str(run.seed.name),
            run.starts_from or "backbone", depth, str(len(run.evaluated)),
        )  # fmt: skip
    console.print(table)
    counts = Counter(run.method for run in plan.runs)
    sets = plan.sts.evaluate
    cells = sum(len(run.evaluated) for run in plan.runs)
    console.print(f"{len(plan.runs)} training runs: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    console.print(f"{cells} cells evaluated on {len(sets)} test sets ({', '.join(sets)}): {cells * len(sets)} scores")
    console.print(f"{len(plan.dataset_names())} datasets: {', '.join(plan.dataset_names())}")
