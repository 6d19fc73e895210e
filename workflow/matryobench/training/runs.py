"""One run's training job: from token file and backbone to a model folder, telemetry and run.json."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from matryobench.data.tokens import read_tokens
from matryobench.errors import InputError
from matryobench.files import atomic_path, discard, folder_sha256, sha256_of, write_json
from matryobench.models.encoder import Encoder, default_tokens_per_forward
from matryobench.models.folders import device_of, load_encoder, read_settings, save_encoder
from matryobench.objectives.build import objective_of
from matryobench.objectives.objective import Objective
from matryobench.objectives.retrieval import RetrievalObjective
from matryobench.plan import Plan, Run, digest
from matryobench.provenance import DTYPES, config_hash, environment, peak_memory_mb
from matryobench.tasks import RetrievalRecipe, StsRecipe
from matryobench.training.gather import is_first, largest, world_size
from matryobench.training.loop import Loop
from matryobench.training.module import AllLayers
from matryobench.training.retrieval import RetrievalTraining
from matryobench.training.sts import StsTraining


def sts_training(plan: Plan, run: Run, tokens_file: Path, encoder: Encoder) -> StsTraining:
    """An STS run's data and objective on this encoder (whose depth is the run's layer where the run is truncated)."""
    recipe, objective = plan.recipe(run), objective_of(plan, run, encoder.depth, encoder.width)
    assert isinstance(recipe, StsRecipe) and isinstance(objective, Objective)
    tokens = read_tokens(tokens_file)
    if len(tokens.rows) < 2:
        raise InputError(f"{tokens_file}: has {len(tokens.rows)} row; in-batch losses need at least 2.")
    return StsTraining(tokens, objective, recipe.training.batch_size, run.seed.data, recipe.one_subset)


def retrieval_training(plan: Plan, run: Run, tokens_file: Path, encoder: Encoder) -> RetrievalTraining:
    """A retrieval run's data and objective on this encoder (truncated where the run is)."""
    from matryobench.data.group_tokens import read_group_tokens

    recipe, objective = plan.recipe(run), objective_of(plan, run, encoder.depth, encoder.width)
    assert isinstance(recipe, RetrievalRecipe) and isinstance(objective, RetrievalObjective)
    tokens = read_group_tokens(tokens_file)
    return RetrievalTraining(tokens, objective, recipe.group_size, recipe.training.batch_size, run.seed.data)


def train(
    plan: Plan,
    run: Run,
    tokens_file: Path,
    table_file: Path,
    start: Path,
    out: Path,
    device_name: str | None = None,
) -> None:
    """Trains a run from the model folder `start` and writes `out`/model, `out`/telemetry.jsonl and `out`/run.json.

    `table_file` is the table that the tokens were made from; only reference backends read it. run.json is written
    last: where it is, the run is whole. Interrupted, the same call goes on at the last checkpoint (a run of a reference
    backend starts again). Of several processes the first one writes.
    """
    began = time.perf_counter()
    recipe, training = plan.recipe(run), plan.recipe(run).training
    torch.manual_seed(run.seed.init)
    encoder = load_encoder(start, recipe.pooling, run.layers)
    device = device_of(device_name)
    build = sts_training if isinstance(recipe, StsRecipe) else retrieval_training
    work: StsTraining | RetrievalTraining = build(plan, run, tokens_file, encoder)
    inputs = {"tokens_sha256": sha256_of(tokens_file), "start_sha256": _weights_hash(start)}
    checkpoints = out / "checkpoints"
    if run.backend == "native":
        if training.gradient_checkpointing:
            encoder.backbone.activation_checkpointing_enable()
        tokens_per_forward = training.tokens_per_forward or default_tokens_per_forward(device)
        loop = Loop(
            module=AllLayers(encoder, tokens_per_forward, training.gradient_caching).to(device),
            loss_of=work.loss_of,
            batches=work.batches,
            training=training,
            dropout_seed=run.seed.dropout,
            draw_seed=run.seed.cells,
            identity=digest([plan.settings_hash(run), *inputs.values()]),
            work=checkpoints,
            device=device,
            label=run.run_id,
        )
        outcome = loop.run()
        encoder.to("cpu")
        max_length = recipe.max_length if isinstance(recipe, StsRecipe) else recipe.passage_max_length
        weights, instructed = read_settings(start).weights, work.meta.get("kind") == "instructed"
        if is_first():
            save_encoder(encoder, weights, out / "model", max_length, include_prompt=not instructed)
    else:
        from matryobench.training.reference.runs import train_reference

        outcome = train_reference(plan, run, work, table_file, start, out / "model", checkpoints, device_name)
    memory = largest(peak_memory_mb(), device)
    device_memory = largest(torch.cuda.max_memory_allocated(device), device) if device.type == "cuda" else None
    if not is_first():
        return
    with atomic_path(out / "telemetry.jsonl") as partial:
        shutil.copyfile(checkpoints / "telemetry.jsonl", partial)
    record: dict[str, Any] = {
        "run_id": run.run_id,
        "experiment": plan.experiment.name,
        "settings_hash": plan.settings_hash(run),
        "settings": plan.training_settings(run),
        "config_hash": config_hash(plan.experiment),
        "inputs": inputs,
        "dataset": work.meta,
        "trained_cells": [vars(cell) for cell in work.coverage()],
        **outcome,
        "dtype": DTYPES[outcome["precision"]],
        "model_sha256": folder_sha256(out / "model"),
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "device_seconds": round(outcome["train_seconds"] * world_size(), 3),
        "tokens_seen": _tokens_seen(work, training.accumulation, outcome["steps"]),
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "wall_seconds": round(time.perf_counter() - began, 3),
        "peak_memory_mb": memory,  # of the largest process
        "peak_device_memory_mb": None if device_memory is None else int(device_memory) // 2**20,
        **environment(),
    }
    write_json(out / "run.json", record)
    discard(checkpoints)


def _tokens_seen(work: StsTraining | RetrievalTraining, accumulation: int, steps: int) -> int:
    """Tokens (padding not counted) that so many optimiser steps train on, also where a run was interrupted."""
    per_epoch = math.ceil(len(work.batches(0)) / accumulation)
    seen = 0
    for epoch in range(math.ceil(steps / per_epoch)):
        used: Sequence[Any] = work.batches(epoch)[: (steps - epoch * per_epoch) * accumulation]
        seen += sum(work.tokens_in(batch) for batch in used)
    return seen


def _weights_hash(folder: Path) -> str:
    """One hash of all weight files of a model folder."""
    files = sorted(read_settings(folder).weights.glob("*.safetensors"))
    return digest([sha256_of(file) for file in files])
