"""One training loop for everything that is trained: steps, accumulation, schedule, telemetry, checkpoint, resume.

Randomness is a function of (seed, step, micro-batch), so a run that was killed goes on to the same weights as one that
was not, and the same seeds give the same weights twice.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import torch
from torch import Tensor, nn

from matryobench.errors import InputError
from matryobench.files import appending, discard
from matryobench.training import checkpoints
from matryobench.training.checkpoints import TELEMETRY, Checkpoint

if TYPE_CHECKING:
    from matryobench.tasks import Training

Batch = Any
LossOf = Callable[[nn.Module, Batch, torch.Generator], tuple[Tensor, dict[str, Tensor]]]


@dataclass
class Loop:
    """A training run.

    module: what is trained; `loss_of(module, batch, generator)` gives a micro-batch's loss and its named terms (the
    module is the one wrapped for mixed precision); `batches(epoch)` lists the micro-batches of an epoch in order.
    identity: hash of all settings; a checkpoint of another identity is not continued. work: folder for checkpoints.
    terms_shown: how many of the terms a line of progress names; a term "tokens" is shown as tokens per second.

    In several processes (started by torchrun or accelerate) each runs the loop, `loss_of` divides the work, and the first
    one alone writes.
    """

    module: nn.Module
    loss_of: LossOf
    batches: Callable[[int], Sequence[Batch]]
    training: Training
    dropout_seed: int
    draw_seed: int
    identity: str
    work: Path
    device: torch.device
    label: str
    progress: bool = True
    terms_shown: int = 3
    _telemetry: TextIO | None = field(default=None, init=False)

    def run(self) -> dict[str, Any]:
        """Trains to the end and leaves the trained weights in `module`.

        Returns steps, wall seconds of this process's steps, precision and the last loss. Telemetry, one JSON line per
        step, is in `work`/telemetry.jsonl. Raises InputError on a loss that is not finite.
        """
        from accelerate import Accelerator

        self.work.mkdir(parents=True, exist_ok=True)
        precision = precision_of(self.training.precision, self.device)
        accelerator = Accelerator(
            mixed_precision={"fp32": "no"}.get(precision, precision), cpu=self.device.type == "cpu"
        )
        module = accelerator.prepare_model(self.module)
        optimizer = accelerator.prepare_optimizer(self._optimizer())
        epoch_length = math.ceil(len(self.batches(0)) / self.training.accumulation)
        total = self.training.steps or (self.training.epochs or 0) * epoch_length
        first = self._resume(optimizer, accelerator)
        module.train()
        started = time.perf_counter()
        last_loss: float | None = None
        epoch, batches = -1, self.batches(0)
        telemetry = self.work / TELEMETRY if accelerator.is_main_process else Path(os.devnull)
        with appending(telemetry) as self._telemetry:
            wanted = self.progress and accelerator.is_main_process
            report = Progress(self.label, first, total, wanted, self.terms_shown)
            for step in range(first, total):
                if step // epoch_length != epoch:
                    epoch = step // epoch_length
                    batches = self.batches(epoch)
                start = step % epoch_length * self.training.accumulation
                micro_batches = batches[start : start + self.training.accumulation]
                rate = learning_rate(self.training, step, total)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                terms = self._step(step, micro_batches, module, optimizer, accelerator)
                last_loss = terms["loss"]
                self._record({"step": step, "epoch": epoch, "learning_rate": rate, **terms})
                report.show(step, terms, len(micro_batches))
                if (step + 1) % self.training.checkpoint_every == 0 and step + 1 < total:
                    self._save(step + 1, optimizer, accelerator)
            report.close()
        accelerator.wait_for_everyone()  # the telemetry is whole
        self.module.eval()
        return {
            "steps": total,
            "resumed_at": first,
            "train_seconds": round(time.perf_counter() - started, 3),
            "precision": precision,
            "final_loss": last_loss,
        }

    def clean(self) -> None:
        """Removes the checkpoints, once what the run was for is safely written."""
        discard(self.work)

    def _step(
        self, step: int, micro_batches: Sequence[Batch], module: nn.Module, optimizer: Any, accelerator: Any
    ) -> dict[str, float | None]:
        sums: dict[str, Tensor] = {}
        for micro, batch in enumerate(micro_batches):
            # Dropout only has the global generator; no two processes may drop the same of their rows.
            torch.manual_seed(mixed_seed(self.dropout_seed, step, micro, accelerator.process_index))
            generator = torch.Generator().manual_seed(mixed_seed(self.draw_seed, step, micro))
            # Several processes exchange gradients once a step, with the last micro-batch.
            last = micro + 1 == len(micro_batches)
            with nullcontext() if last else accelerator.no_sync(module):
                loss, terms = self.loss_of(module, batch, generator)
                accelerator.backward(loss / len(micro_batches))
            for name, value in {"loss": loss.detach(), **terms}.items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value / len(micro_batches)
        names = list(sums)
        values = dict(zip(names, torch.stack([sums[name].float() for name in names]).tolist(), strict=True))
        if not math.isfinite(values["loss"]):
            bad = [name for name, value in values.items() if not math.isfinite(value) and name != "loss"]
            raise InputError(
                f"{self.label}: step {step}: the loss is {values['loss']} (from {', '.join(bad) or 'the sum'}); lower"
                " training.learning_rate or use another training.precision."
            )
        norm = float(accelerator.clip_grad_norm_(self.module.parameters(), self.training.max_grad_norm))
        optimizer.step()
        optimizer.zero_grad()
        # In fp16 the scaler now and then meets an overflow and skips the step; JSON has no infinity for it.
        return {**values, "grad_norm": norm if math.isfinite(norm) else None}

    def _optimizer(self) -> torch.optim.Optimizer:
        parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        # Biases and norms, the vectors, are not decayed.
        matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
        vectors = [parameter for parameter in parameters if parameter.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": self.training.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.training.learning_rate, fused=True)

    def _record(self, line: dict[str, Any]) -> None:
        assert self._telemetry is not None
        self._telemetry.write(json.dumps(line, allow_nan=False) + "\n")

    def _save(self, step: int, optimizer: Any, accelerator: Any) -> None:
        """Writes weights, optimiser state and position, whole or not at all, then drops the older checkpoint."""
        if not accelerator.is_main_process:
            return
        assert self._telemetry is not None
        self._telemetry.flush()
        scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
        checkpoint = Checkpoint(step, self.module.state_dict(), optimizer.state_dict()["state"], scaler)
        checkpoints.write(self.work, self.identity, checkpoint)

    def _resume(self, optimizer: Any, accelerator: Any) -> int:
        """Loads the latest checkpoint of this very run and returns the step to go on with, 0 without one."""
        found = checkpoints.read(self.work, self.identity)
        accelerator.wait_for_everyone()  # all have looked before the first one changes anything
        if found is None:
            if accelerator.is_main_process:
                self.clean()  # of another definition of the run, or of none
                self.work.mkdir(parents=True)
            return 0
        self.module.load_state_dict(found.weights, strict=False)  # shared tensors were stored once
        optimizer.load_state_dict({"state": found.optimizer, "param_groups": optimizer.state_dict()["param_groups"]})
        if found.scaler is not None and accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(found.scaler)
        if accelerator.is_main_process:
            checkpoints.cut_telemetry(self.work, found.step)
            print(f"{self.label}: going on at step {found.step}", file=sys.stderr)
        return found.step


def mixed_seed(seed: int, step: int, micro: int, process: int = 0) -> int:
    """A 63-bit seed for one micro-batch, well mixed, the same on every machine; the first process's is that of one."""
    words = [seed, step, micro, process] if process else [seed, step, micro]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def epoch_order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the training rows in an epoch: a permutation that depends on (seed, epoch) only."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def learning_rate(training: Training, step: int, total: int) -> float:
    """Learning rate of a step (counted from 0): linear warm-up, then the schedule down to 0 after `total` steps."""
    warmup = training.warmup if training.warmup >= 1 else training.warmup * total
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(total - warmup, 1)
    match training.schedule:
        case "linear":
            return training.learning_rate * max(0.0, 1 - done)
        case "cosine":
            return training.learning_rate * 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        case _:
            return training.learning_rate


def precision_of(setting: str, device: torch.device) -> str:
    """fp32, bf16 or fp16: the setting, or for `auto` what the device does best. fp16 on a CPU is an InputError."""
    if setting == "fp16" and device.type == "cpu":
        raise InputError("training.precision: fp16 needs a GPU and this job has none; set it to auto.")
    if setting != "auto":
        return setting
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


class Progress:
    """A bar on a terminal; about twenty lines in a log file."""

    def __init__(self, label: str, first: int, total: int, wanted: bool, terms_shown: int = 3) -> None:
        self.label, self.total, self.terms_shown = label, total, terms_shown
        self.tokens, self.since = 0.0, time.perf_counter()
        self.every = max(1, total // 20)
        self.wanted = wanted
        self.bar: Any = None
        if wanted and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=first, desc=label, unit="step")

    def show(self, step: int, terms: dict[str, float | None], micro_batches: int = 1) -> None:
        """Shows the loss of a step, its largest terms and, where terms count tokens, tokens per second so far."""
        values = {name: value for name, value in terms.items() if value is not None}
        largest = sorted((name for name in values if "/" in name), key=lambda name: -abs(values[name]))
        kept = {"loss", *largest[: self.terms_shown]}
        shown = {name: f"{value:.4f}" for name, value in values.items() if name in kept}
        self.tokens += values.get("tokens", 0.0) * micro_batches
        if self.tokens:
            shown["tokens/s"] = f"{self.tokens / (time.perf_counter() - self.since):.0f}"
        if self.bar is not None:
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update()
        elif self.wanted and ((step + 1) % self.every == 0 or step + 1 == self.total):
            text = " ".join(f"{name} {value}" for name, value in shown.items())
            print(f"{self.label}: step {step + 1}/{self.total} {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()
