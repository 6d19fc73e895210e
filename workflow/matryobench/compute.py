"""What the jobs of an experiment run on: what they ask a cluster for, and whether they may share a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

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
    calibration: Path = Field(
        Path("results/calibration.json"), description="What `matryobench calibrate` wrote; read with device: measured."
    )
