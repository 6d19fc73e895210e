"""Compares what `matryobench plan` estimates with what an experiment really took.

    python tools/compare_estimate.py RESULTS [--calibration FILE | --device cpu] [--wall] [--json FILE]

RESULTS is a finished experiment's folder. Seconds are those of its jobs' benchmarks/*/*.tsv: processor time, which other work
on the machine disturbs less, or with --wall from start to end. Jobs without a benchmark are left out on both sides and
counted. Disk is that of the files of each stage, memory the largest resident set of each stage's jobs.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from matryobench.errors import InputError
from matryobench.estimating.devices import Device, device_named
from matryobench.estimating.jobs import Estimate, estimate
from matryobench.estimating.work import STAGES, Job
from matryobench.plan import Plan

# Rule -> folder of its benchmarks, where it is not the rule's own name.
FOLDERS = {"continue_pretraining": "pretrain"}
# What a job without a key calls its benchmark.
NAMES = {
    "pretrain": "backbone",
    "fetch_backbone": "backbone",
    "collect": "cells",
    "cover": "coverage",
    "judge": "claims",
    "measure_cost": "deployment",
    "sum_training_costs": "training-costs",
    "report": "report",
    "run_notebook": "analysis",
}
KEPT = {
    "fetch": ("data",),
    "tokenise": ("tokens",),
    "pretrain": ("backbone", "pretraining"),
    "train": ("runs",),
    "evaluate": ("evaluation",),
    "analyse": ("tables", "figures", "notebooks", "report.html"),
}


@dataclass
class Stage:
    """Sums over the jobs of a stage that were measured; bytes of disk are of all its files."""

    jobs: int = 0
    without: int = 0
    estimated: float = 0.0
    real: float = 0.0
    memory: float = 0.0
    real_memory: float = 0.0
    disk: float = 0.0
    real_disk: float = 0.0


def compare(results: Path, device: Device, column: str = "cpu_time") -> dict[str, Stage]:
    """Stage -> estimate and reality, `total` last. InputError where the folder is not an experiment's."""
    config = results / "experiment.yaml"
    if not config.is_file():
        raise InputError(f"{results}: has no experiment.yaml; name the results folder of an experiment that was run.")
    plan = Plan.load(config)
    # What it was made from lies where the config says, what it left in `results`, wherever that was moved.
    plan = Plan(plan.experiment.model_copy(update={"results": results}), str(config))
    found: Estimate = estimate(plan, device.gpu)
    stages: dict[str, Stage] = {stage: Stage() for stage in STAGES}
    for job in found.jobs:
        stage, measured = stages[job.stage], _measured(results, job, column)
        stage.disk += job.disk
        if measured is None:
            stage.without += 1
            continue
        stage.jobs += 1
        stage.estimated += device.seconds_of(job)
        stage.real += measured[0]
        stage.memory = max(stage.memory, job.memory)
        stage.real_memory = max(stage.real_memory, measured[1] * 2**20)
    for name, kept in KEPT.items():
        stages[name].real_disk = float(sum(_size(results / part) for part in kept))
    total = Stage()
    for stage in stages.values():
        for field in vars(total):
            own, so_far = getattr(stage, field), getattr(total, field)
            setattr(total, field, max(own, so_far) if "memory" in field else own + so_far)
    return {name: stage for name, stage in {**stages, "total": total}.items() if stage.jobs or stage.real_disk}


def _measured(results: Path, job: Job, column: str) -> tuple[float, float] | None:
    """Seconds and MiB of a job's last benchmark, None where there is none."""
    key = NAMES.get(job.rule, "") if job.key is None else job.key
    name = ".".join(map(str, key)) if isinstance(key, tuple) else str(key)
    path = results / "benchmarks" / FOLDERS.get(job.rule, job.rule) / f"{name}.tsv"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as stream:
        row: dict[str, Any] = list(csv.DictReader(stream, delimiter="\t"))[-1]
    try:
        return float(row[column]), float(row["max_rss"])
    except ValueError:  # a job that was over before it was looked at has no numbers
        return float(row["s"]), 0.0


def _size(path: Path) -> int:
    return (
        path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--calibration", type=Path, default=Path("results/calibration.json"))
    parser.add_argument("--device", default="measured", choices=["measured", "cpu"])
    parser.add_argument("--wall", action="store_true", help="seconds from start to end")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    try:
        device = device_named(arguments.device, arguments.calibration)
        stages = compare(arguments.results, device, "s" if arguments.wall else "cpu_time")
    except InputError as error:
        raise SystemExit(f"compare_estimate: {error}") from None
    heads = "estimated s|real s|ratio|disk MB|real|ratio|memory MiB|real|ratio"
    print(f"{'stage':9} {'jobs':>5} {'none':>5}" + "".join(f"{head:>12}" for head in heads.split("|")))
    for name, one in stages.items():
        cells = [_pair(one.estimated, one.real, 1), _pair(one.disk, one.real_disk, 1e6)]
        cells.append(_pair(one.memory, one.real_memory, 2**20))
        print(f"{name:9} {one.jobs:>5} {one.without:>5}" + "".join(cells))
    if arguments.json:
        from matryobench.files import write_json

        write_json(arguments.json, {name: vars(one) for name, one in stages.items()})


def _pair(estimated: float, real: float, unit: float) -> str:
    ratio = f"{estimated / real:.2f}" if real else "-"
    return f"{estimated / unit:>12.1f}{real / unit:>12.1f}{ratio:>12}"


if __name__ == "__main__":
    main()
