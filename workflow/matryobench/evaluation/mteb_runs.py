"""Evaluation through mteb: every cell of an encoder on classification sets and test collections, and its results.

mteb evaluates a cell as it evaluates any model; only the embeddings come from one encoding for all cells. Its own result of
each cell is `<out>/mteb/results/<model>.l<layer>.d<dim>/<revision>/<task>.json`, which mteb.ResultCache(<out>/mteb) reads.
A finished set is kept in `<out>/mteb/sets/<set>.safetensors` and not evaluated again while nothing that it depends on changes.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matryobench.errors import InputError
from matryobench.evaluation.instructions import SIDES, Side, instruction_of
from matryobench.evaluation.mteb_results import MtebResult, read_finished, write_finished, write_mteb_items
from matryobench.files import atomic_path, write_json
from matryobench.grid import Cell

if TYPE_CHECKING:
    from matryobench.evaluation.mteb_tasks import Tables, TableTask
    from matryobench.models.encoder import Encoder
    from matryobench.plan import Plan, Run


@dataclass(frozen=True)
class MtebSettings:
    """How an encoder is evaluated.

    name: what mteb's results call the model; identity: a hash of its weights and their precision, which is its revision there;
    instructions: see `evaluation.instructions`; normalise: scale embeddings to length 1 at full width before they are cut.
    """

    cells: tuple[Cell, ...]
    max_length: int
    name: str
    identity: str
    instructions: Mapping[str, str] | None = None
    normalise: bool = False


def evaluate_mteb(
    encoder: Encoder, tokenizer: Any, sets: Iterable[Callable[[], Tables]], settings: MtebSettings, out: Path
) -> list[MtebResult]:
    """Evaluates every cell on every set; `sets` are functions that give their tables, so that one is held at a time.

    Raises InputError as `mteb_tasks.table_task` does, and where a score is not a number.
    """
    results = []
    for tables in sets:
        with _as_before():
            results.append(_evaluate_set(encoder, tokenizer, tables(), settings, out / "mteb"))
    return results


def evaluate_mteb_run(
    plan: Plan, run: Run, encoder: Encoder, model: Path, files: Path, out: Path
) -> tuple[list[MtebResult], dict[str, Any]]:
    """Evaluates a run's model on the sets of the plan's mteb task; `files` is the results folder with the sets' tables.

    Writes `out`/items.parquet. Returns the results in the config's order and, per set, what was evaluated and its cost.
    """
    from matryobench.models.folders import encoder_identity, load_tokenizer, read_settings

    task = plan.mteb
    settings = MtebSettings(
        cells=run.evaluated,
        max_length=task.max_length,
        name=run.run_id,
        identity=encoder_identity(model, task.encode_precision),
        instructions=task.instructions,
        normalise=read_settings(model).normalised,
    )
    sets = [_loader(plan, family, name, files) for family, names in task.evaluate.items() for name in names]
    results = evaluate_mteb(encoder, load_tokenizer(model), sets, settings, out)
    write_mteb_items(results, run.run_id, out / "items.parquet")
    return results, {result.dataset: result.facts for result in results}


def _loader(plan: Plan, family: str, name: str, files: Path) -> Callable[[], Tables]:
    def load() -> Tables:
        from matryobench import layout
        from matryobench.data.records import read_table
        from matryobench.evaluation.mteb_tasks import ClassificationTables, RetrievalTables

        if family == "classification":
            one = plan.classifications[name]
            train, test = (read_table(files / layout.table(part))[0] for part in (one.train, one.test))
            return ClassificationTables(name, train, test, one.mteb_task)
        found = plan.collections[name]
        parts = (found.corpus, found.queries, found.qrels)
        passages, queries, qrels = (read_table(files / layout.table(part))[0] for part in parts)
        return RetrievalTables(name, passages, queries, qrels, found.exclude_own_id, found.mteb_task)

    return load


def _evaluate_set(encoder: Encoder, tokenizer: Any, tables: Tables, settings: MtebSettings, out: Path) -> MtebResult:
    from matryobench.evaluation.mteb_tasks import table_task

    began = time.perf_counter()
    task = table_task(tables)
    instructions = _instructions(tables, settings)
    identity = _identity(task, tables, settings, instructions)
    record = out / "sets" / f"{tables.name}.safetensors"
    finished = read_finished(record, identity)
    if finished is not None:
        return finished

    from matryobench.evaluation.mteb_adapter import CellEncoder, GridEmbeddings

    layers = [layer for layer, _ in settings.cells]
    mapped = out / f".embeddings.{tables.name}"
    try:
        embeddings = GridEmbeddings(
            encoder, tokenizer, layers, settings.max_length, mapped,
            name=tables.name, instructions=instructions, normalise=settings.normalise,
        )  # fmt: skip
        found = [
            _evaluate_cell(task, CellEncoder(embeddings, cell, settings.name, settings.identity), out)
            for cell in settings.cells
        ]
    finally:
        shutil.rmtree(mapped, ignore_errors=True)
    values, items = [value for value, _ in found], [one for _, one in found]
    if not np.isfinite(values).all():
        layer, dim = settings.cells[int(np.flatnonzero(~np.isfinite(values))[0])]
        raise InputError(f"{tables.name}: the score of layer {layer}, dim {dim} is not a number; check the model.")
    names = tuple(items[0])
    facts = {
        "mteb_task": task.task.metadata.name,
        "metric": task.task.metadata.main_score,
        "split": task.split,
        "subset": task.subset,
        "tables_sha256": task.revision,
        **task.facts,
        "instructions": {side or "text": text for side, text in instructions.items()},
        "texts_encoded": embeddings.texts,
        "encode_seconds": round(embeddings.seconds, 3),
        "wall_seconds": round(time.perf_counter() - began, 3),
    }
    result = MtebResult(
        dataset=tables.name,
        family=tables.family,
        metric=metric_name(task.task.metadata.main_score),
        cells=list(settings.cells),
        values=np.array(values),
        items=names,
        item_values=np.array([[one[name] for name in names] for one in items]).reshape(len(items), len(names)),
        n_items=task.items,
        facts=facts,
    )
    write_finished(result, identity, record)
    return result


def _evaluate_cell(task: TableTask, model: Any, out: Path) -> tuple[float, dict[str, float]]:
    """The main score of a cell and its value per item; writes mteb's own result."""
    import mteb

    found = mteb.evaluate(
        model, task.task, cache=None, co2_tracker=False, show_progress_bar=False,
        encode_kwargs={"batch_size": 32, "show_progress_bar": False},
    )  # fmt: skip
    result = found.task_results[0]
    meta = model.mteb_model_meta
    path = mteb.ResultCache(out).get_task_result_path(result.task_name, meta)
    with atomic_path(path) as partial:
        result.to_disk(partial)
    write_json(path.parent / "model_meta.json", json.loads(json.dumps(meta.to_dict(), default=str)))
    scores = next(one for one in result.scores[task.split] if one["hf_subset"] == task.subset)
    metric = task.task.metadata.main_score
    if "scores_per_experiment" in scores:
        items = {str(number): float(one[metric]) for number, one in enumerate(scores["scores_per_experiment"])}
    else:  # pytrec_eval's names of the values per query: ndcg_cut_10 and map_cut_10, recall_100
        queries = getattr(task.task, "per_query", None) or {}
        keys = [metric.replace("_at_", "_cut_"), metric.replace("_at_", "_")]
        key = next((key for key in keys if queries and key in next(iter(queries.values()))), None)
        items = {query: float(one[key]) for query, one in sorted(queries.items())} if key else {}
    return float(scores["main_score"]), items


def metric_name(name: str) -> str:
    """mteb's name of a metric as this program's tables call it: ndcg_at_10 is ndcg@10."""
    return name.replace("_at_", "@")


def _instructions(tables: Tables, settings: MtebSettings) -> dict[Side | None, str]:
    """Side (None: texts of a classification) -> its instruction, those that there are."""
    sides: tuple[Side | None, ...] = SIDES if tables.family == "retrieval" else (None,)
    texts = {side: instruction_of(settings.instructions or {}, tables.name, tables.family, side) for side in sides}
    return {side: text for side, text in texts.items() if text is not None}


def _identity(task: TableTask, tables: Tables, settings: MtebSettings, instructions: Mapping[Side | None, str]) -> str:
    """All that a set's results depend on, as canonical JSON."""
    from importlib.metadata import version

    return json.dumps(
        {
            "model": settings.identity,
            "name": settings.name,
            "cells": settings.cells,
            "max_length": settings.max_length,
            "normalise": settings.normalise,
            "instructions": {str(side): text for side, text in instructions.items()},
            "task": task.task.metadata.name,
            "facts": task.facts,
            "tables": task.revision,
            "libraries": {name: version(name) for name in ("mteb", "scikit-learn", "torch")},
        },
        sort_keys=True,
    )


@contextmanager
def _as_before() -> Iterator[None]:
    """mteb seeds the global generators and its libraries report in detail; both end with the block."""
    import datasets
    import torch
    from sklearn.exceptions import ConvergenceWarning

    states = random.getstate(), np.random.get_state()
    bars, log = datasets.are_progress_bars_disabled(), logging.getLogger("mteb")
    level = log.level
    datasets.disable_progress_bars()
    log.setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            # mteb stops classifiers after 100 iterations, converged or not, and names successors of old tasks.
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", message=".*is superseded by.*")
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        log.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
