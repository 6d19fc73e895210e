"""The job that measures an experiment's costs: from its backbone and test sets to tables/deployment.parquet."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matryobench import layout
from matryobench.chain.sources import Sources
from matryobench.deployment.inputs import cost_files, first_set
from matryobench.errors import InputError
from matryobench.provenance import environment
from matryobench.threads import threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from matryobench.deployment.measuring import Workload
    from matryobench.plan import Plan

SEED = 0  # of the texts that are drawn and of the vectors that are searched


def measure_cost(plan: Plan, backbone: Path, files: Path, out: Path, device_name: str | None = None) -> int:
    """Measures every (layer, dim) of the experiment's tasks; writes `out` (.parquet), .csv and .json beside it.

    `backbone` is the backbone's model folder and `files` the results folder with tables and tokens. The .json says how
    and where it was measured. Returns the number of rows. Raises InputError where a file is missing or has no texts.
    """
    import pandas as pd
    import torch

    from matryobench.deployment import costs, measuring
    from matryobench.models.folders import device_of, read_config

    texts = [files / file for task in plan.tasks for file in cost_files(plan, task)]
    encoder = [path for path in [files / layout.BACKBONE] if path.is_file()]
    sources = Sources.of(plan, files, [*encoder, *texts])
    began, load = time.perf_counter(), os.getloadavg()[0]  # what else computes here disturbs the clock
    config = read_config(backbone)[1]
    full = (config.num_hidden_layers, config.hidden_size)
    work = {task: workload(plan, task, backbone, files, full) for task in plan.tasks}
    device, settings = device_of(device_name), plan.experiment.deployment
    # Both ways of pooling cost the same next to a layer; the first run's is measured.
    pooling = plan.recipe(plan.runs[0]).pooling
    with threads(plan.experiment.threads):
        rows = measuring.measure(backbone, pooling, work, settings, SEED, device)
    costs.write(pd.DataFrame(rows), out)
    record: dict[str, Any] = {
        "experiment": plan.experiment.name,
        "settings": settings.model_dump(mode="json"),
        "texts": {
            task: {
                "dataset": first_set(plan, task), "queries": len(one.queries), "documents": len(one.documents)
            } for task, one in work.items()
        },
        "seed": SEED,
        "pooling": pooling,
        "precision": "float32",
        "search": f"exact (evaluation/search.py), {measuring.SEARCHED} queries together, top {measuring.TOP_K}",
        "passes": measuring.PASSES,
        "warm_up": measuring.WARM_UP,
        "threads": plan.experiment.threads,
        "load_average": load,
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "wall_seconds": round(time.perf_counter() - began, 3),
        **environment(),
    }  # fmt: skip
    sources.sign("tables/deployment", [out, out.with_suffix(".csv")], facts=record, record=out.with_suffix(".json"))
    return len(rows)


def workload(plan: Plan, task: str, backbone: Path, files: Path, full: tuple[int, int]) -> Workload:
    """The grid of a task, with the full model (L, H), and texts that are drawn from its first test set.

    STS and classification have one kind of text, which then stands for queries and documents.
    """
    from matryobench.deployment.measuring import Workload

    grid, limit = plan.tasks[task].grid, plan.experiment.deployment.max_texts
    layers, dims = sorted({*grid.layers, full[0]}), sorted({*grid.dims, full[1]})
    draw = _draw_from_tables if task == "mteb" else _draw_from_tokens
    texts = [draw(plan, files / file, backbone, limit) for file in cost_files(plan, task)]
    return Workload(texts[0], texts[-1], layers, dims)


def _draw_from_tokens(plan: Plan, file: Path, backbone: Path, limit: int) -> Sequence[Tensor]:
    from matryobench.data.tokens import read_tokens

    tokens = read_tokens(file)
    return [tokens.text(number) for number in _drawn(tokens.texts, limit, file)]


def _draw_from_tables(plan: Plan, file: Path, backbone: Path, limit: int) -> Sequence[Tensor]:
    """mteb tokenises by itself, so its sets have no token files; texts are measured without instructions."""
    import torch

    from matryobench.data.records import read_table
    from matryobench.data.values import passage_text
    from matryobench.models.folders import load_tokenizer

    table, meta = read_table(file)
    columns = [table.column(name) for name in (["title", "text"] if meta["kind"] == "passages" else ["text"])]
    numbers = _drawn(table.num_rows, limit, file)
    drawn = [[column[number].as_py() for column in columns] for number in numbers]
    texts = [passage_text(*parts) if len(parts) > 1 else parts[0] for parts in drawn]
    encoded = load_tokenizer(backbone)(texts, truncation=True, max_length=plan.mteb.max_length)
    return [torch.tensor(ids, dtype=torch.int32) for ids in encoded["input_ids"]]


def _drawn(count: int, limit: int, file: Path) -> list[int]:
    if not count:
        raise InputError(f"{file}: has no text to measure; fetch the dataset again.")
    chosen = np.random.default_rng(SEED).choice(count, size=min(count, limit), replace=False)
    return sorted(int(number) for number in chosen)
