"""One run's training job: from token file and backbone to a model folder, telemetry and run.json."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from matryobench.data.tokens import Tokens, read_tokens
from matryobench.errors import InputError
from matryobench.files import atomic_path, sha256_of, write_json
from matryobench.models.encoder import Encoder, default_tokens_per_forward
from matryobench.models.folders import device_of, load_encoder, read_settings, save_encoder
from matryobench.objectives.objective import Objective
from matryobench.plan import Plan, Run, digest
from matryobench.provenance import environment, peak_memory_mb
from matryobench.training.loop import Loop, epoch_order


class AllLayers(nn.Module):
    """The encoder as a module over lists of token sequences, so that mixed precision wraps the whole pass."""

    def __init__(self, encoder: Encoder, tokens_per_forward: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokens_per_forward = tokens_per_forward

    def forward(self, texts: list[Tensor], layers: list[int]) -> Tensor:
        """n x (tokens,) -> (layers, n, H)."""
        return self.encoder.embed(texts, layers, self.tokens_per_forward)


def objective_of(plan: Plan, run: Run, encoder: Encoder) -> Objective:
    """The run's objective on this encoder (whose depth is the run's layer where the run is truncated)."""
    recipe = plan.recipe(run)
    return Objective(
        variant=plan.variant(run),
        base=recipe.base,
        depth=encoder.depth,
        width=encoder.width,
        nested_dims=tuple(recipe.nested_dims),
        target_dim=recipe.target_dim,
        sizes=tuple(sorted(plan.sts.sizes.values())),
        cell=run.cell,
    )


def train(plan: Plan, run: Run, tokens_file: Path, start: Path, out: Path, device_name: str | None = None) -> None:
    """Trains a run from the model folder `start` and writes `out`/model, `out`/telemetry.jsonl and `out`/run.json.

    run.json is written last: where it is, the run is whole. Interrupted, the same call goes on at the last checkpoint.
    """
    began = time.perf_counter()
    recipe, training = plan.recipe(run), plan.recipe(run).training
    tokens = read_tokens(tokens_file)
    torch.manual_seed(run.seed.init)
    encoder = load_encoder(start, recipe.pooling, run.layers)
    if training.gradient_checkpointing:
        encoder.backbone.activation_checkpointing_enable()
    device = device_of(device_name)
    objective = objective_of(plan, run, encoder)
    layers = objective.layers()
    columns = tokens.rows.shape[1]
    position = {layer: number for number, layer in enumerate(layers)}
    if len(tokens.rows) < 2:
        raise InputError(f"{tokens_file}: has {len(tokens.rows)} row; in-batch losses need at least 2.")

    def batches(epoch: int) -> list[Tensor]:
        order = torch.from_numpy(epoch_order(len(tokens.rows), run.seed.data, epoch))
        cut = list(torch.split(order, training.batch_size))
        return cut if len(cut[-1]) > 1 else cut[:-1]  # a single row has no in-batch negatives

    def loss_of(module: nn.Module, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        pooled = module(_texts(tokens, rows), layers).unflatten(1, (columns, len(rows)))  # (layers, columns, B, H)
        scores = tokens.scores[rows].to(pooled.device) if tokens.scores is not None else None
        return objective({layer: pooled[position[layer]] for layer in layers}, scores, generator)

    inputs = {"tokens_sha256": sha256_of(tokens_file), "start_sha256": _weights_hash(start)}
    loop = Loop(
        module=AllLayers(encoder, training.tokens_per_forward or default_tokens_per_forward(device)).to(device),
        loss_of=loss_of,
        batches=batches,
        training=training,
        dropout_seed=run.seed.dropout,
        draw_seed=run.seed.cells,
        identity=digest([plan.training_settings(run), *inputs.values()]),
        work=out / "checkpoints",
        device=device,
        label=run.run_id,
    )
    outcome = loop.run()
    encoder.to("cpu")
    save_encoder(encoder, read_settings(start).weights, out / "model", recipe.max_length)
    with atomic_path(out / "telemetry.jsonl") as partial:
        shutil.copyfile(loop.work / "telemetry.jsonl", partial)
    record: dict[str, Any] = {
        "run_id": run.run_id,
        "experiment": plan.experiment.name,
        "settings_hash": plan.settings_hash(run),
        "settings": plan.training_settings(run),
        "inputs": inputs,
        "dataset": tokens.meta,
        "trained_cells": [vars(cell) for cell in objective.coverage()],
        **outcome,
        "tokens_seen": _tokens_seen(tokens, batches, training.accumulation, outcome["steps"]),
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "wall_seconds": round(time.perf_counter() - began, 3),
        "peak_memory_mb": peak_memory_mb(),
        "peak_device_memory_mb": torch.cuda.max_memory_allocated() // 2**20 if device.type == "cuda" else None,
        **environment(),
    }
    write_json(out / "run.json", record)
    loop.clean()


def _texts(tokens: Tokens, rows: Tensor) -> list[Tensor]:
    """The texts of some rows, column by column: all first columns, then all second ones, ..."""
    return [tokens.text(int(number)) for number in tokens.rows[rows].T.flatten()]


def _tokens_seen(tokens: Tokens, batches: Callable[[int], list[Tensor]], accumulation: int, steps: int) -> int:
    """Tokens (padding not counted) that so many optimiser steps train on, also where a run was interrupted."""
    lengths = tokens.offsets.diff()[tokens.rows.long()].sum(dim=1)  # (rows,)
    per_epoch = math.ceil(len(batches(0)) / accumulation)
    seen = 0
    for epoch in range(math.ceil(steps / per_epoch)):
        used = batches(epoch)[: (steps - epoch * per_epoch) * accumulation]
        seen += int(lengths[torch.cat(used)].sum())
    return seen


def _weights_hash(folder: Path) -> str:
    """One hash of all weight files of a model folder."""
    files = sorted(read_settings(folder).weights.glob("*.safetensors"))
    return digest([sha256_of(file) for file in files])
