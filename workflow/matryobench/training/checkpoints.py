"""Checkpoints of the training loop: weights, optimiser state and position, whole or not at all.

A folder of work has checkpoint-<step>/ with model.safetensors, optimizer.safetensors and state.json, and
telemetry.jsonl, whose lines up to that step belong to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from matryobench.errors import InputError
from matryobench.files import atomic_path, discard, write_json

TELEMETRY = "telemetry.jsonl"


@dataclass(frozen=True)
class Checkpoint:
    """What training goes on from: `step` steps are done; `optimizer` is {number of the parameter: its state}."""

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]
    scaler: dict[str, Any] | None


def write(work: Path, identity: str, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint of the run `identity`, then drops the older ones. WriteError leaves those as they were."""
    with atomic_path(work / f"checkpoint-{checkpoint.step:09d}") as partial:
        partial.mkdir()
        weights = {name: value.contiguous() for name, value in checkpoint.weights.items()}
        save_file(_without_shared(weights), partial / "model.safetensors")
        moments = {
            f"{number}.{key}": value.contiguous()
            for number, state in checkpoint.optimizer.items()
            for key, value in state.items()
        }
        save_file(moments, partial / "optimizer.safetensors")
        state = {"step": checkpoint.step, "identity": identity, "scaler": checkpoint.scaler}
        write_json(partial / "state.json", state)
    for old in _all(work)[:-1]:
        discard(old)


def read(work: Path, identity: str) -> Checkpoint | None:
    """The latest checkpoint of the run `identity`; None where there is none, or another run's.

    Raises InputError where a file of it is missing or damaged, or telemetry of the steps before it.
    """
    found = _all(work)
    if not found:
        return None
    folder = found[-1]
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state["identity"] != identity:
            return None
        weights = load_file(folder / "model.safetensors")
        moments = load_file(folder / "optimizer.safetensors")
        optimizer: dict[int, dict[str, Tensor]] = {}
        for name, value in moments.items():
            number, key = name.split(".", 1)
            optimizer.setdefault(int(number), {})[key] = value
        checkpoint = Checkpoint(int(state["step"]), weights, optimizer, state["scaler"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: damaged checkpoint ({_reason(error)}); remove the folder {work} to start again."
        ) from None
    if len(telemetry_before(work, checkpoint.step)) != checkpoint.step:
        raise InputError(
            f"{work / TELEMETRY}: it lacks steps before {checkpoint.step}, where the checkpoint beside it stands; remove the"
            f" folder {work} to start again."
        )
    return checkpoint


def telemetry_before(work: Path, step: int) -> list[str]:
    """The whole lines of telemetry of the steps before `step`, in order."""
    try:
        lines = (work / TELEMETRY).read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    kept: list[str] = []
    for line in lines:
        # A line that a kill cut, and what follows it, belongs to steps that are done again.
        if not line.endswith("\n") or len(kept) == step or _step_of(line) != len(kept):
            break
        kept.append(line)
    return kept


def cut_telemetry(work: Path, step: int) -> None:
    """Drops the telemetry of the steps from `step` on, which are done again."""
    kept = telemetry_before(work, step)
    with atomic_path(work / TELEMETRY) as partial:
        partial.write_text("".join(kept), encoding="utf-8")


def _all(work: Path) -> list[Path]:
    return sorted(work.glob("checkpoint-*"))


def _step_of(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing" if error.filename else "a file is missing"
    return " ".join(str(error).split())


def _without_shared(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tied weights are one tensor under two names, which safetensors refuses: the first name is kept."""
    seen: set[int] = set()
    kept = {}
    for name, value in weights.items():
        if value.data_ptr() not in seen:
            kept[name] = value
            seen.add(value.data_ptr())
    return kept
