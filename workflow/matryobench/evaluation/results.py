"""An evaluation's results as tables: cells (one row per cell, set and metric) and items (one per item and cell)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from matryobench.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from matryobench.evaluation.retrieval import SetScores
    from matryobench.evaluation.sts import SetResult

Score = tuple[str, int, int, int, float, int]
"""metric, query layer, layer, dim, value, number of items."""


class Result(Protocol):
    """One test set on every cell, whatever the task."""

    @property
    def task(self) -> str:
        """The task's name."""

    @property
    def dataset(self) -> str:
        """The set's name."""

    def scores(self) -> Iterator[Score]:
        """Every metric of every cell."""


def cells_frame(
    results: Sequence[Result],
    *,
    experiment: str,
    method: str,
    variant: str,
    recipe: str,
    seed: int,
    run_id: str,
    backend: str = "native",
) -> pd.DataFrame:
    """The cells table of one run; columns as analysis.cells.COLUMNS."""
    import pandas as pd

    rows = [
        {
            "experiment": experiment, "task": result.task, "dataset": result.dataset, "metric": metric,
            "method": method, "variant": variant, "recipe": recipe, "backend": backend, "seed": seed,
            "query_layer": query_layer, "layer": layer, "dim": dim, "value": value, "n_items": items, "run_id": run_id,
        }
        for result in results
        for metric, query_layer, layer, dim, value, items in result.scores()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def write_items(results: Sequence[SetResult], run_id: str, path: Path) -> None:
    """Writes the similarity of every pair at every cell: run_id, dataset, item, layer, dim, similarity (float32).

    `item` is the pair's place in its set, from 0; these scores are what paired tests are made from.
    """
    tables = []
    for result in results:
        cells, items = result.similarities.shape
        columns = {
            "item": np.tile(np.arange(items, dtype=np.int32), cells),
            "layer": _repeated([layer for layer, _ in result.cells], items, np.int16),
            "dim": _repeated([dim for _, dim in result.cells], items, np.int32),
            "similarity": result.similarities.reshape(-1),
        }
        tables.append(_items(run_id, result.dataset, columns))
    _write(tables, path)


def write_retrieval_items(results: Sequence[SetScores], run_id: str, path: Path) -> None:
    """Writes every metric of every query at every cell: run_id, dataset, query (its id), query_layer, layer, dim,
    then the metrics as float32; these are what paired tests are made from.
    """
    import pyarrow as pa

    tables = []
    for result in results:
        cells, items = len(result.cells), len(result.query_ids)
        numbers = pa.array(np.tile(np.arange(items, dtype=np.int32), cells))
        columns = {
            "query": pa.DictionaryArray.from_arrays(numbers, pa.array(result.query_ids, type=pa.string())),
            "query_layer": _repeated([query_layer for query_layer, _, _ in result.cells], items, np.int16),
            "layer": _repeated([layer for _, layer, _ in result.cells], items, np.int16),
            "dim": _repeated([dim for _, _, dim in result.cells], items, np.int32),
            **{metric: values.astype(np.float32).reshape(-1) for metric, values in result.values.items()},
        }
        tables.append(_items(run_id, result.dataset, columns))
    _write(tables, path)


def _repeated(values: Sequence[int], times: int, kind: type) -> NDArray[np.integer]:
    return np.repeat(np.array(values, dtype=kind), times)


def _items(run_id: str, dataset: str, columns: Mapping[str, NDArray[np.generic] | pa.Array]) -> pa.Table:
    import pyarrow as pa

    count = len(next(iter(columns.values())))
    return pa.table({"run_id": _constant(run_id, count), "dataset": _constant(dataset, count), **columns})


def _write(tables: Sequence[pa.Table], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_path(path) as partial:
        pq.write_table(pa.concat_tables(tables).unify_dictionaries(), partial, compression="zstd")


def _constant(value: str, count: int) -> pa.DictionaryArray:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int8)), [value])
