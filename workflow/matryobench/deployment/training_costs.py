"""What training costs per method: models, seconds and tokens, from the records that trainings leave.

A method costs all that it needs: every model that it is evaluated with (BERT-S: one per cell or layer) and what those
start from, a continued pre-training or another method's run, each counted once however many of its models start from it.
The backbone itself, which all methods share, stands in a row of its own where the experiment pre-trains it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pandas as pd

from matryobench import layout
from matryobench.analysis import frames
from matryobench.analysis.blocks import MISSING, Block, write
from matryobench.errors import InputError

if TYPE_CHECKING:
    from matryobench.plan import Plan, Run

BASELINES = ("bert", "ff")  # ff is the mteb task's name of the same training
BACKBONE = "backbone"
COLUMNS = (
    *("task", "recipe", "method", "variant", "backend", "seeds", "models", "starts_from", "train_seconds"),
    *("wall_seconds", "tokens", "peak_memory_mb", "peak_device_memory_mb", "device", "resumed"),
    *("relative_seconds", "relative_tokens"),
)
"""models, train_seconds (of the training loops, device seconds), wall_seconds (of the jobs) and tokens are of one seed: means
over seeds of sums over models. starts_from: how many of the counted trainings are starting points. peak memory: the largest
of any training. resumed: trainings that were interrupted, whose seconds are scaled from the steps after it to all steps."""


@dataclass(frozen=True)
class Record:
    """What one training cost: seconds of its loop and of its job, tokens without padding, MiB."""

    train_seconds: float
    wall_seconds: float
    tokens: int
    peak_memory_mb: float
    peak_device_memory_mb: float
    device: str
    resumed: bool


def training_costs(plan: Plan, files: Path) -> pd.DataFrame:
    """The table with COLUMNS, from `files`/runs/*/run.json and the records of pre-trainings in the results folder `files`.

    Relative numbers are to bert (mteb: ff) of the same task and recipe by this program, empty where it was not run.
    Raises InputError where a record is missing or not one.
    """
    records = {run.run_id: read_record(files / layout.training_record(run.run_id)) for run in plan.runs}
    for name in plan.experiment.pretraining:
        file = files / layout.pretraining_record(name)
        if any(run.pretraining == name for run in plan.runs):
            records[f"pretraining {name}"] = read_record(file)
    rows = [_row(plan, key, seeds, records) for key, seeds in _groups(plan.runs).items()]
    backbone = files / layout.BACKBONE_RECORD
    if backbone.exists():
        own = {"task": "", "recipe": "", "method": BACKBONE, "variant": "", "backend": "native", "seeds": 1}
        rows.insert(0, {**own, **_sums([[read_record(backbone)]]), "starts_from": 0})
    frame = pd.DataFrame(rows).reindex(columns=[*COLUMNS])
    for number, name in (("relative_seconds", "train_seconds"), ("relative_tokens", "tokens")):
        baseline = frame[frame["method"].isin(BASELINES) & (frame["backend"] == "native")]
        of_recipe = baseline.drop_duplicates(["task", "recipe"]).set_index(["task", "recipe"])[name]
        keys = pd.MultiIndex.from_frame(frame[["task", "recipe"]])
        frame[number] = frame[name].to_numpy() / of_recipe.reindex(keys).to_numpy(dtype="float64")
    return frame


def read_record(file: Path) -> Record:
    """The cost in a run.json or pretraining.json. Raises InputError where it is missing or lacks what it costs."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        steps, first = int(record["steps"]), int(record["resumed_at"])
        # "seconds" is what pre-trainings call those of the job
        loop, job = float(record["train_seconds"]), float(record.get("wall_seconds", record.get("seconds")))
        whole = loop * steps / max(steps - first, 1)
        return Record(
            train_seconds=whole,
            wall_seconds=job - loop + whole,
            tokens=int(record["tokens_seen"]),
            peak_memory_mb=float(record["peak_memory_mb"]),
            peak_device_memory_mb=float(record.get("peak_device_memory_mb") or math.nan),
            device=record["processor"] if record["device"] == "cpu" else record["device"],
            resumed=first > 0,
        )
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such record; run the training that writes it first.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: says not what the training cost ({error!r}); train it again.") from None


def chain(run: Run, runs: Mapping[str, Run]) -> list[str]:
    """What a run starts from, as names of records, nearest first: runs and "pretraining <name>"."""
    found: list[str] = []
    at: Run | None = run
    while at is not None:
        if at.pretraining is not None:
            found.append(f"pretraining {at.pretraining}")
        if at.starts_from is not None:
            found.append(at.starts_from)
        at = runs[at.starts_from] if at.starts_from is not None else None
    return found


def write_training_costs(frame: pd.DataFrame, stem: Path, titles: Mapping[str, str]) -> list[Path]:
    """Writes the table as `stem`.csv (exact), .md and .tex; returns the three paths. `titles`: of methods."""
    header = ("task", "recipe", "method", "variant", "models", "of these starts", "seconds", "k tokens", "seconds / BERT",
              "tokens / BERT", "peak MiB", "device")  # fmt: skip
    several = frame["backend"].nunique() > 1
    rows = []
    for row in frame.to_dict("records"):
        method = titles.get(str(row["method"]), str(row["method"]))
        backend = f" ({row['backend']})" if several and row["backend"] != "native" else ""
        memory = row["peak_memory_mb"] if math.isnan(row["peak_device_memory_mb"]) else row["peak_device_memory_mb"]
        texts = (
            *(str(row[name]) for name in ("task", "recipe")), method + backend, str(row["variant"]),
            f"{row['models']:g}", f"{row['starts_from']:g}", f"{row['train_seconds']:.1f}", f"{row['tokens'] / 1000:.1f}",
            _ratio(row["relative_seconds"]), _ratio(row["relative_tokens"]), f"{memory:.0f}", str(row["device"]),
        )  # fmt: skip
        rows.append(texts)
    title = "What training costs per seed: seconds of the training loops and tokens, with what the models start from"
    if frame["resumed"].any():
        title += "; seconds of interrupted trainings are scaled to all their steps"
    exact = frames.csv_text(frame)
    return write(stem, exact, [Block(title, header, tuple(rows), 4, 2)])


def _ratio(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.2f}"


def _groups(runs: Iterable[Run]) -> dict[tuple[str, ...], dict[int, list[Run]]]:
    """(task, recipe, method, variant, backend) -> seed -> runs, in the plan's order."""
    found: dict[tuple[str, ...], dict[int, list[Run]]] = {}
    for run in runs:
        key = (run.task, run.recipe, run.method, run.variant, run.backend)
        found.setdefault(key, {}).setdefault(run.seed.name, []).append(run)
    return found


def _row(
    plan: Plan, key: tuple[str, ...], seeds: Mapping[int, list[Run]], records: Mapping[str, Record]
) -> dict[str, Any]:
    trainings, starts = [], []
    for runs in seeds.values():
        own = [run.run_id for run in runs]
        before = {name: None for run in runs for name in chain(run, plan.by_id) if name not in own}
        trainings.append([records[name] for name in (*own, *before)])
        starts.append(len(before))
    named = dict(zip(("task", "recipe", "method", "variant", "backend"), key, strict=True))
    return {**named, "seeds": len(seeds), **_sums(trainings), "starts_from": fmean(starts)}


def _sums(seeds: list[list[Record]]) -> dict[str, Any]:
    """Means over seeds of sums over trainings, the largest memory, and the devices."""
    flat = [record for records in seeds for record in records]
    memory = [record.peak_device_memory_mb for record in flat if not math.isnan(record.peak_device_memory_mb)]
    return {
        "models": fmean(len(records) for records in seeds),
        "train_seconds": fmean(sum(record.train_seconds for record in records) for records in seeds),
        "wall_seconds": fmean(sum(record.wall_seconds for record in records) for records in seeds),
        "tokens": fmean(sum(record.tokens for record in records) for records in seeds),
        "peak_memory_mb": max(record.peak_memory_mb for record in flat),
        "peak_device_memory_mb": max(memory, default=math.nan),
        "device": ", ".join(sorted({record.device for record in flat})),
        "resumed": sum(record.resumed for record in flat),
    }
