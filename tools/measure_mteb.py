"""Measures what all cells of an mteb task cost against one mteb run of the full model by the same encoder.

    python tools/measure_mteb.py MODEL --sets emotion,scifact --mirror mirror [--rows 2000] [--threads 1]

MODEL is a sentence-transformers folder. Per set one line of JSON: seconds of encoding and of the rest (classifiers or search,
and metrics) for all cells, for the full cell alone, and of mteb.evaluate with SentenceTransformer; and their ratios. `--rows`
cuts the test texts of a classification set, and the documents of a collection (judged ones stay), to that number.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

if TYPE_CHECKING:
    from matryobench.evaluation.mteb_tasks import Tables

DIMS = (8, 16, 32, 64, 128, 256, 384)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="sentence-transformers folder")
    parser.add_argument("--sets", default="emotion", help="names of the registry")
    parser.add_argument("--mirror", type=Path, default=Path("mirror"))
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS=str(arguments.threads), HF_HUB_OFFLINE="1")
    import torch

    torch.set_num_threads(arguments.threads)

    from matryobench.data.mirror import Mirror
    from matryobench.evaluation.mteb_standalone import registry_sets

    sets = registry_sets(arguments.sets.split(","), Mirror(arguments.mirror), offline=True)
    for name, load in sets.items():
        print(json.dumps({"set": name, **measured(arguments.model, cut(load(), arguments.rows))}), flush=True)


def cut(tables: Tables, rows: int | None) -> Tables:
    """The tables with fewer texts to encode."""
    import pyarrow.compute as pc

    from matryobench.evaluation.mteb_tasks import ClassificationTables

    if rows is None:
        return tables
    if isinstance(tables, ClassificationTables):
        return dataclasses.replace(tables, test=tables.test.slice(0, rows))
    judged = pc.is_in(tables.passages["doc_id"], value_set=tables.qrels["doc_id"].combine_chunks())
    others = pc.less(pc.cumulative_sum(pc.cast(pc.invert(judged), "int64")), rows)
    return dataclasses.replace(tables, passages=tables.passages.filter(pc.or_(judged, others)))


def measured(folder: Path, tables: Tables) -> dict[str, Any]:
    """Seconds by part; see the module."""
    import mteb
    from sentence_transformers import SentenceTransformer

    from matryobench.evaluation.mteb_runs import MtebSettings, evaluate_mteb
    from matryobench.evaluation.mteb_tasks import table_task
    from matryobench.evaluation.standalone import load_model
    from matryobench.models.folders import read_settings

    model = load_model(folder, None, DIMS, None, None)
    full = (model.encoder.depth, model.encoder.width)

    def evaluated(cells: tuple[tuple[int, int], ...]) -> dict[str, float]:
        settings = MtebSettings(cells, model.max_length, "measured", "none", normalise=read_settings(folder).normalised)
        with tempfile.TemporaryDirectory() as out:
            began = time.perf_counter()
            (result,) = evaluate_mteb(model.encoder, model.tokenizer, [lambda: tables], settings, Path(out))
            whole = time.perf_counter() - began
        encoding = result.facts["encode_seconds"]
        return {
            "cells": len(cells),
            "seconds": whole,
            "encoding": encoding,
            "rest": whole - encoding,
            "score": result.values[-1],
        }

    evaluated((full,))  # warm-up: libraries are loaded
    alone, grid = evaluated((full,)), evaluated(tuple(model.cells))
    library = SentenceTransformer(str(folder), device=str(next(model.encoder.parameters()).device))
    library.max_seq_length = model.max_length
    task = table_task(tables)
    began = time.perf_counter()
    found = mteb.evaluate(library, task.task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    seconds = time.perf_counter() - began
    scores = {key: {k: round(float(v), 4) for k, v in one.items()} for key, one in (("full", alone), ("grid", grid))}
    return {
        **scores,
        "sentence_transformers": {
            "seconds": round(seconds, 4),
            "score": round(found.scores[task.split][0]["main_score"], 4),
        },
        "encoding_ratio": round(grid["encoding"] / alone["encoding"], 3),
        "ratio_to_full": round(grid["seconds"] / alone["seconds"], 3),
        "ratio_to_sentence_transformers": round(grid["seconds"] / seconds, 3),
    }


if __name__ == "__main__":
    main()
