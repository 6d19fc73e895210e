"""An evaluation's results as tables: cells (one row per cell and set) and items (one row per pair and cell)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matryobench.evaluation.sts import METRIC, SetResult
from matryobench.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def cells_frame(
    results: Sequence[SetResult], *, experiment: str, method: str, variant: str, recipe: str, seed: int, run_id: str
) -> pd.DataFrame:
    """The cells table of one run; columns as analysis.cells.COLUMNS."""
    import pandas as pd

    rows = [
        {
            "experiment": experiment, "task": "sts", "dataset": result.dataset, "metric": METRIC, "method": method,
            "variant": variant, "recipe": recipe, "seed": seed, "query_layer": layer, "layer": layer, "dim": dim,
            "value": float(value), "n_items": result.similarities.shape[1], "run_id": run_id,
        }
        for result in results
        for (layer, dim), value in zip(result.cells, result.spearman, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def write_items(results: Sequence[SetResult], run_id: str, path: Path) -> None:
    """Writes the similarity of every pair at every cell: run_id, dataset, item, layer, dim, similarity (float32).

    `item` is the pair's place in its set, from 0; these scores are what paired tests are made from.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for result in results:
        cells, items = result.similarities.shape
        layers = np.repeat(np.array([layer for layer, _ in result.cells], dtype=np.int16), items)
        dims = np.repeat(np.array([dim for _, dim in result.cells], dtype=np.int32), items)
        tables.append(
            pa.table(
                {
                    "run_id": _constant(run_id, cells * items),
                    "dataset": _constant(result.dataset, cells * items),
                    "item": np.tile(np.arange(items, dtype=np.int32), cells),
                    "layer": layers,
                    "dim": dims,
                    "similarity": result.similarities.reshape(-1),
                }
            )
        )
    with atomic_path(path) as partial:
        pq.write_table(pa.concat_tables(tables).unify_dictionaries(), partial, compression="zstd")


def _constant(value: str, count: int) -> pa.DictionaryArray:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int8)), [value])
