"""The table of what cells cost: one row per (task, layer, dim), tables/deployment.parquet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from matryobench.analysis import frames
from matryobench.errors import InputError

KEY = ("task", "layer", "dim")
OF_LAYER = ("query_ms", "query_ms_p95", "query_tokens", "texts_per_second", "text_tokens", "parameters",
            "encoder_bytes", "peak_device_memory_mb")  # fmt: skip
OF_DIM = ("bytes_per_document", "bytes_per_document_float16", "searches_per_second")
COLUMNS = (*KEY, *OF_LAYER, *OF_DIM)
"""query_ms, query_ms_p95: median and 95th percentile of encoding one query, milliseconds. query_tokens, text_tokens: mean
lengths of the measured texts. texts_per_second: documents encoded in batches. encoder_bytes: its parameters in float32.
peak_device_memory_mb: MiB on a GPU, empty on a CPU. bytes_per_document: of an index of d float32 (or float16) numbers."""

INDEX_BYTES: Mapping[str, int] = {"bytes_per_document": 4, "bytes_per_document_float16": 2}
_KIND = "a table of costs"
_MAY_BE_EMPTY = "peak_device_memory_mb"


def write(frame: pd.DataFrame, path: Path) -> None:
    """Writes the table to `path` (.parquet) and beside it as .csv, rows sorted, each whole or not at all."""
    ordered = frame.loc[:, list(COLUMNS)].sort_values(list(KEY), ignore_index=True)
    ordered[_MAY_BE_EMPTY] = ordered[_MAY_BE_EMPTY].astype("float64")
    frames.write(ordered, path, _KIND)


def read(path: Path) -> pd.DataFrame:
    """The checked table that `write` left at `path` (.parquet).

    Raises InputError where it is missing, is another table, has a cell twice or a cost that is not a positive number.
    """
    frame = frames.read(path, _KIND, COLUMNS, "run the step that measures costs first")
    twice = frame[frame.duplicated(list(KEY))]
    if not twice.empty:
        task, layer, dim = twice.iloc[0][list(KEY)]
        raise InputError(f"{path}: {task} layer {layer}, dim {dim} stands there twice; measure the costs again.")
    numbers = frame[[name for name in (*OF_LAYER, *OF_DIM) if name != _MAY_BE_EMPTY]].to_numpy(dtype=np.float64)
    if frame.empty or not (np.isfinite(numbers) & (numbers > 0)).all():
        raise InputError(f"{path}: has a cost that is not a positive number; measure the costs again.")
    return frame
