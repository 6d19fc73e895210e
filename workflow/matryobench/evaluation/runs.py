"""Evaluation jobs of the plan's runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from matryobench import layout
from matryobench.chain.guards import check_model
from matryobench.errors import InputError
from matryobench.files import sha256_of, write_json
from matryobench.job_inputs import evaluation_files
from matryobench.models.folders import device_of, load_encoder
from matryobench.provenance import DTYPES, config_hash, environment, peak_memory_mb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matryobench.evaluation.results import Result
    from matryobench.models.encoder import Encoder
    from matryobench.plan import Plan, Run


def evaluate_run(plan: Plan, run: Run, model: Path, files: Path, out: Path) -> None:
    """Evaluates a run's model on all its cells; writes `out`/cells.parquet (and .csv), items.parquet, evaluation.json.

    `files` is the results folder with the experiment's tables and token files.
    """
    from matryobench.analysis.cells import write
    from matryobench.evaluation.results import cells_frame

    began = time.perf_counter()
    trained = model.parent / "run.json"
    inputs = {"run_sha256": sha256_of(trained), "model_sha256": check_model(plan, run, model)}
    encoder = _encoder(plan, run, model)
    evaluate = {"sts": _evaluate_sts, "retrieval": _evaluate_retrieval, "mteb": _evaluate_mteb}[run.task]
    results, facts = evaluate(plan, run, encoder, model, files, out)
    frame = cells_frame(
        results, experiment=plan.experiment.name, method=run.method, variant=run.variant, recipe=run.recipe,
        seed=run.seed.name, run_id=run.run_id, backend=run.backend,
    )  # fmt: skip
    write(frame, out / "cells.parquet")
    device = device_of()
    record = {
        "run_id": run.run_id,
        **inputs,
        "files_sha256": {file: sha256_of(files / file) for file in evaluation_files(plan, run)},
        **facts,
        "evaluation_hash": plan.evaluation_hash(run),
        "config_hash": config_hash(plan.experiment),
        "outputs": {name: sha256_of(out / name) for name in ("cells.parquet", "cells.csv", "items.parquet")},
        "dtype": DTYPES[plan.tasks[run.task].encode_precision],  # the encoder's; scoring is in float32 always
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "wall_seconds": round(time.perf_counter() - began, 3),
        "peak_memory_mb": peak_memory_mb(),
        **environment(),
    }
    write_json(out / "evaluation.json", record)  # last: where it is, the evaluation is whole


def search_shard(
    plan: Plan, run: Run, corpus: str, shard: int, shards: int, model: Path, files: Path, out: Path
) -> None:
    """Ranks one shard of a corpus for a run; see `retrieval_runs.search_shard`."""
    from matryobench.evaluation import retrieval_runs

    check_model(plan, run, model)
    retrieval_runs.search_shard(plan, run, corpus, shard, shards, _encoder(plan, run, model), model, files, out)


def _encoder(plan: Plan, run: Run, model: Path) -> Encoder:
    encoder = load_encoder(model, plan.recipe(run).pooling)
    encoder.to(device_of())
    precision = plan.tasks[run.task].encode_precision
    encoder.computed_in = None if precision == "fp32" else getattr(torch, DTYPES[precision])
    return encoder


def _evaluate_sts(
    plan: Plan, run: Run, encoder: Encoder, model: Path, files: Path, out: Path
) -> tuple[Sequence[Result], dict[str, Any]]:
    from matryobench.data.tokens import read_tokens
    from matryobench.evaluation.results import write_items
    from matryobench.evaluation.sts import evaluate_sts

    paths = {name: files / layout.tokens(name, plan.sts.max_length) for name in plan.sts.evaluate}
    sets = {name: read_tokens(path) for name, path in paths.items()}
    for name, path in paths.items():
        if sets[name].meta["dataset"] != name:
            raise InputError(f"{path}: holds {sets[name].meta['dataset']} and not {name}; tokenise {name} again.")
    results = evaluate_sts(encoder, sets, run.evaluated)
    write_items(results, run.run_id, out / "items.parquet")
    return results, {}


def _evaluate_retrieval(
    plan: Plan, run: Run, encoder: Encoder, model: Path, files: Path, out: Path
) -> tuple[Sequence[Result], dict[str, Any]]:
    from matryobench.evaluation.results import write_retrieval_items
    from matryobench.evaluation.retrieval_runs import evaluate_retrieval_run

    results, facts = evaluate_retrieval_run(plan, run, encoder, model, files, out)
    write_retrieval_items(results, run.run_id, out / "items.parquet")
    return results, {"searches": facts}


def _evaluate_mteb(
    plan: Plan, run: Run, encoder: Encoder, model: Path, files: Path, out: Path
) -> tuple[Sequence[Result], dict[str, Any]]:
    from matryobench.evaluation.mteb_runs import evaluate_mteb_run

    return evaluate_mteb_run(plan, run, encoder, model, files, out)
