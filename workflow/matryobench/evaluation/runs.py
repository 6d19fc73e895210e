"""Evaluation jobs: a run of the plan, or any model folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.data.tokens import Tokens, read_tokens
from matryobench.errors import InputError
from matryobench.evaluation.results import cells_frame, write_items
from matryobench.evaluation.sts import SetResult, evaluate_sts
from matryobench.files import sha256_of, write_json
from matryobench.models.folders import device_of, load_encoder, load_tokenizer, read_settings
from matryobench.provenance import environment, peak_memory_mb

if TYPE_CHECKING:
    from matryobench.models.encoder import Encoder, Pooling
    from matryobench.plan import Plan, Run


def evaluate_run(plan: Plan, run: Run, model: Path, token_files: Sequence[Path], out: Path) -> None:
    """Evaluates a trained run on its cells: `out`/items.parquet, `out`/evaluation.json, `out`/cells.parquet and .csv."""
    from matryobench.analysis.cells import write

    began = time.perf_counter()
    sets = {name: read_tokens(file) for name, file in zip(plan.sts.evaluate, token_files, strict=True)}
    for name, file in zip(plan.sts.evaluate, token_files, strict=True):
        if sets[name].meta["dataset"] != name:
            raise InputError(f"{file}: holds {sets[name].meta['dataset']} and not {name}; tokenise {name} again.")
    encoder = load_encoder(model, plan.recipe(run).pooling)
    encoder.to(device_of())
    results = evaluate_sts(encoder, sets, run.evaluated)
    write_items(results, run.run_id, out / "items.parquet")
    frame = cells_frame(
        results, experiment=plan.experiment.name, method=run.method, variant=run.variant, recipe=run.recipe,
        seed=run.seed.name, run_id=run.run_id,
    )  # fmt: skip
    record = {
        "run_id": run.run_id,
        "run_sha256": sha256_of(model.parent / "run.json"),
        "tokens_sha256": {name: sha256_of(file) for name, file in zip(plan.sts.evaluate, token_files, strict=True)},
        "evaluation_hash": plan.evaluation_hash(run),
        "wall_seconds": round(time.perf_counter() - began, 3),
        "peak_memory_mb": peak_memory_mb(),
        **environment(),
    }
    write_json(out / "evaluation.json", record)
    write(frame, out / "cells.parquet")


def evaluate_model(
    folder: Path,
    sets: dict[str, dict[str, list[Any]]],
    layers: Sequence[int] | None,
    dims: Sequence[int] | None,
    pooling: Pooling | None,
    max_length: int | None,
) -> tuple[list[SetResult], Encoder]:
    """Evaluates any model folder on sets of columns (sentence1, sentence2, score) over layers x dims.

    Layers default to all; dims to the powers of two from 8 below H, and H; pooling and maximum length to what the
    folder says (plain transformers folders: pooling must be given, length 128). Raises InputError for cells outside
    the model.
    """
    from matryobench.data.tokens import tokenise

    settings = read_settings(folder)
    chosen = pooling or settings.pooling
    if chosen is None:
        raise InputError(f"{folder}: does not say how it pools; give --pooling mean or --pooling cls.")
    encoder = load_encoder(folder, chosen)
    depth, width = encoder.depth, encoder.width
    layers = sorted(set(layers or range(1, depth + 1)))
    dims = sorted(set(dims or [*(2**power for power in range(3, 20) if 2**power < width), width]))
    for layer in layers:
        if not 1 <= layer <= depth:
            raise InputError(f"--layers: layer {layer} is not in 1..{depth}, the model's layers; change it.")
    for dim in dims:
        if not 1 <= dim <= width:
            raise InputError(f"--dims: dim {dim} is not in 1..{width}, the model's width; change it.")
    encoder.to(device_of())
    tokenizer = load_tokenizer(folder)
    length = max_length or settings.max_length or 128
    tokens: dict[str, Tokens] = {
        name: tokenise(columns, tokenizer, length, {"dataset": name}) for name, columns in sets.items()
    }
    return evaluate_sts(encoder, tokens, [(layer, dim) for layer in layers for dim in dims]), encoder
