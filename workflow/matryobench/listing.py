"""Printing a plan, what it costs, and a calibration."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from matryobench.estimating.devices import device_named
from matryobench.estimating.jobs import estimate
from matryobench.estimating.savings import REPORTED, Saving, savings_of
from matryobench.estimating.summary import Cost, costs, summary_record
from matryobench.plan import Plan


def print_plan(plan: Plan) -> None:
    """Prints the runs in training order and the counts of runs, evaluations and datasets."""
    console = _console()
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


def print_costs(plan: Plan, device: str | None, devices: int, explain: bool, as_json: bool) -> None:
    """Prints what the plan costs on a device (None: the config's), for `explain` also without each saving; or as JSON.

    Raises InputError for an unknown device, a calibration that cannot be read, and a backbone of unknown sizes.
    """
    compute = plan.experiment.compute
    chosen = device_named(device or compute.device, compute.calibration)
    found = estimate(plan, chosen.gpu)
    stages = costs(found, chosen, devices)
    savings = savings_of(plan, chosen) if explain else []
    if as_json:
        record = summary_record(found, chosen, devices, stages)
        if explain:
            record["savings"] = [vars(saving) for saving in savings]
        print(json.dumps(record, indent=1))
        return
    console = _console()
    title = f"{plan.experiment.name} on {devices} x {chosen.name}"
    table = Table(title=title, title_justify="left")
    hours = "GPU hours" if chosen.gpu else "CPU hours"
    columns = ("stage", "jobs", "tokens", "FLOPs", hours, "host hours", "disk", "memory", "GPU memory", "wall hours")
    for column in columns:
        table.add_column(column, justify="left" if column == "stage" else "right")
    for one in stages:
        table.add_row(
            one.stage, str(one.jobs), short(one.tokens), short(one.operations), _hours(one.device_hours),
            _hours(one.host_hours), _bytes(one.disk), _bytes(one.memory), _bytes(one.device_memory),
            _hours(one.wall_hours), end_section=one is stages[-2],
        )  # fmt: skip
    console.print(table)
    kind = "measured" if chosen.precise else "assumed"
    console.print(f"speed, {kind}: {chosen.basis}", soft_wrap=True)
    console.print(
        "wall: a list schedule that respects what waits for what; each stage as if alone, the total with overlap;"
        + (" jobs without a GPU wait for none" if chosen.gpu else " a job holds one processor"),
        soft_wrap=True,
    )
    for dataset, guess in sorted(found.guesses.items()):
        console.print(f"not known: {dataset}: {guess}", soft_wrap=True)
    if explain:
        _print_savings(console, savings, stages[-1])
        if any(task.published in ("sts", "retrieval") for task in plan.tasks.values()):
            console.print(f"for comparison: {REPORTED}", soft_wrap=True)


def print_calibration(record: Mapping[str, Any], out: Path) -> None:
    """Prints the probes of a calibration, with what the fitted speeds give for them."""
    console = _console()
    table = Table(title=f"{record['device']}: {record['clock']}, {record['wall_seconds']} s", title_justify="left")
    for column in ("probe", "seconds", "spread", "fitted", "fitted / measured"):
        table.add_column(column, justify="left" if column == "probe" else "right")
    for probe in record["probes"]:
        seconds, fitted = probe["seconds"], probe["fitted"]
        shown = f"{seconds:.4g}", f"{probe['spread']:.0%}", f"{fitted:.4g}", f"{fitted / seconds:.2f}"
        table.add_row(probe["probe"], *shown)
    console.print(table)
    console.print(f"defaults, not measured: {', '.join(record['not_measured'])}", soft_wrap=True)
    console.print(f"{len(record['seconds'])} speeds -> {out}", soft_wrap=True)


def _print_savings(console: Console, savings: Sequence[Saving], total: Cost) -> None:
    table = Table(title="hours of devices without each of what saves them, one at a time", title_justify="left")
    for column in ("without", "device hours", "times"):
        table.add_column(column, justify="left" if column == "without" else "right")
    table.add_row("(as it is)", _hours(total.device_hours), "1.00")
    for saving in savings:
        table.add_row(saving.without, _hours(saving.device_hours), f"{saving.device_hours / total.device_hours:.2f}")
    console.print(table)


def short(value: float) -> str:
    """A count with three digits and a letter for its size: 1.23 G."""
    for size, letter in ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}"


def _hours(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(value: float) -> str:
    return f"{short(value)}B" if value else "-"


def _console() -> Console:
    return Console(width=None if Console().is_terminal else 160)
