"""What the reference backends share: native hyperparameters for transformers' Trainer, native telemetry from it.

Importing this module imports transformers' Trainer, which takes seconds; the backends do so inside their functions.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import torch
from transformers import PrinterCallback, TrainerCallback

from matryobench.errors import InputError
from matryobench.models.folders import quiet
from matryobench.training.loop import Progress, learning_rate, precision_of

if TYPE_CHECKING:
    from matryobench.tasks import Training

_LARGEST_SEED = 2**32 - 1  # of numpy's global generator, which the Trainer seeds


@dataclass(frozen=True)
class Job:
    """What a reference run shares with a native one.

    `batches(epoch)` lists the micro-batches of an epoch in order; every epoch has as many. work: folder for telemetry.
    dropout_seed seeds torch's global generator, draw_seed Python's, at the first step.
    """

    batches: Callable[[int], Sequence[Any]]
    training: Training
    dropout_seed: int
    draw_seed: int
    work: Path
    device: torch.device
    label: str
    progress: bool = True

    def __post_init__(self) -> None:
        if not len(self.batches(0)):
            raise InputError(f"{self.label}: the training data give no batch; in-batch losses need at least 2 rows.")

    @property
    def precision(self) -> str:
        """fp32, bf16 or fp16, as a native run on this device."""
        return precision_of(self.training.precision, self.device)

    @property
    def epoch_length(self) -> int:
        """Optimiser steps per epoch."""
        return math.ceil(len(self.batches(0)) / self.training.accumulation)

    @property
    def steps(self) -> int:
        """Optimiser steps of the run."""
        return self.training.steps or (self.training.epochs or 0) * self.epoch_length

    def arguments(self) -> dict[str, Any]:
        """Arguments of TrainingArguments that give the native optimiser, clipping, precision and length, and no files.

        Warm-up and decay are not among them: see `NativeSchedule`.
        """
        return {
            "output_dir": str(self.work / "trainer"),
            "per_device_train_batch_size": self.training.batch_size,
            "gradient_accumulation_steps": self.training.accumulation,
            "max_steps": self.steps,
            "learning_rate": self.training.learning_rate,
            "weight_decay": self.training.weight_decay,
            "max_grad_norm": self.training.max_grad_norm,
            "optim": "adamw_torch_fused",
            "adam_beta1": 0.9,
            "adam_beta2": 0.999,
            "adam_epsilon": 1e-8,
            "bf16": self.precision == "bf16",
            "fp16": self.precision == "fp16",
            "use_cpu": self.device.type == "cpu",
            "dataloader_pin_memory": self.device.type == "cuda",
            "save_strategy": "no",
            "eval_strategy": "no",
            "logging_strategy": "steps",
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "report_to": "none",
            "disable_tqdm": True,
            "remove_unused_columns": False,
            "seed": self.dropout_seed % _LARGEST_SEED,
        }

    def run(self, trainer: Any) -> dict[str, Any]:
        """Trains to the end; returns what the native loop returns. Raises InputError on a loss that is not finite."""
        trainer.remove_callback(PrinterCallback)
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / "telemetry.jsonl").open("w", encoding="utf-8") as stream, quiet():
            telemetry = NativeTelemetry(self, stream)
            trainer.add_callback(telemetry)
            started = time.perf_counter()
            trainer.train()
            seconds = round(time.perf_counter() - started, 3)
        return {
            "steps": trainer.state.global_step,
            "resumed_at": 0,
            "train_seconds": seconds,
            "precision": self.precision,
            "final_loss": telemetry.last_loss,
        }


class NativeTelemetry(TrainerCallback):
    """Writes each step's loss, learning rate and gradient norm in the native form, and stops at a loss not finite."""

    def __init__(self, job: Job, stream: TextIO) -> None:
        self.job = job
        self.stream = stream
        self.last_loss: float | None = None
        self.bar = Progress(job.label, 0, job.steps, job.progress)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Seeds the global generators, the only ones that the libraries know."""
        random.seed(self.job.draw_seed)
        torch.manual_seed(self.job.dropout_seed)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """One line per optimiser step; the summary at the end, which has no loss of a step, is left out."""
        if logs is None or "loss" not in logs:
            return
        step, loss, norm = state.global_step - 1, float(logs["loss"]), logs.get("grad_norm")
        if not math.isfinite(loss):
            raise InputError(
                f"{self.job.label}: step {step}: the loss is {loss}; lower training.learning_rate or use another"
                " training.precision."
            )
        line = {
            "step": step,
            "epoch": step // self.job.epoch_length,
            "learning_rate": float(logs["learning_rate"]),
            "loss": loss,
            "grad_norm": norm if norm is not None and math.isfinite(norm) else None,
        }
        self.stream.write(json.dumps(line, allow_nan=False) + "\n")
        self.last_loss = loss
        self.bar.show(step, {"loss": loss})

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Closes the progress bar."""
        self.bar.close()


class NativeSchedule:
    """For a Trainer class to inherit first: the native warm-up and decay through the Trainer's own hook.

    transformers' linear schedule starts at a rate of 0, so its first step trains nothing, and rounds the warm-up up to
    whole steps; ours starts at 1/warm-up of the peak.
    """

    job: Job
    optimizer: Any
    lr_scheduler: Any = None

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The learning rate of step s is `learning_rate(training, s, steps)`."""
        if self.lr_scheduler is None:
            training = self.job.training
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer if optimizer is None else optimizer,
                lambda step: learning_rate(training, step, num_training_steps) / training.learning_rate,
            )
        return self.lr_scheduler


class OneDevice:
    """For a TrainingArguments class to inherit first: one GPU, where the Trainer would split batches over all it sees."""

    @property
    def n_gpu(self) -> int:
        """GPUs that are used: 0 or 1."""
        arguments: Any = super()
        return min(1, int(arguments.n_gpu))


@contextmanager
def restored_randomness(init_seed: int) -> Iterator[None]:
    """Seeds new parameters, and gives the process its global generators back as they were before."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(init_seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def versions(*packages: str) -> dict[str, str]:
    """The installed versions of some distributions."""
    return {name: importlib.metadata.version(name) for name in packages}
