"""What the jobs of an experiment run on: what they ask a cluster for, and whether they may share a GPU."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from matryobench.errors import InputError
from matryobench.validation import Settings

Device = Literal["cpu", "a100", "h100", "measured"]


class Compute(Settings):
    """The machine of the jobs. It decides requests and estimates, never what a run computes, so nothing is retrained."""

    device: Device = Field(
        "cpu",
        description="What training, pre-training and evaluation jobs run on. With a GPU each asks for as many cards as it"
        " has processes; measured: what `matryobench calibrate` found, CPU or GPU.",
    )
    share_gpus: bool = Field(
        False, description="Whether jobs on one machine may use the same card; else each waits for a free one."
    )
    max_minutes: PositiveInt | None = Field(
        None,
        description="Minutes that a job may ask for at most: a partition's limit, beyond which it would wait for ever.",
    )
    max_memory_mb: PositiveInt | None = Field(
        None, description="Memory in MB that a job may ask for at most: that of a node, for the same reason."
    )
    calibration: Path = Field(
        Path("results/calibration.json"), description="What `matryobench calibrate` wrote; read with device: measured."
    )

    def cards(self, processes: int = 1) -> int:
        """GPU cards of a job of so many processes: one each, none on a CPU. InputError where a calibration is not readable."""
        return processes if self._has_gpu else 0

    @cached_property
    def _has_gpu(self) -> bool:
        if self.device != "measured":
            return self.device != "cpu"
        try:
            return str(json.loads(self.calibration.read_text(encoding="utf-8"))["device"]) != "cpu"
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"compute.calibration: {self.calibration} is not there or not what `matryobench calibrate` wrote; run"
                " `matryobench calibrate` or name the compute.device."
            ) from None
