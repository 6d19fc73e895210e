"""Results of an evaluation through mteb: cells, items, and the file of a finished set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from matryobench.errors import InputError
from matryobench.files import atomic_path
from matryobench.grid import Cell
from matryobench.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from matryobench.evaluation.results import Score


@dataclass(frozen=True)
class MtebResult:
    """One test set on every cell: `values` (cells,) in the cells' order, `item_values` (cells, items), NaN-free.

    items: the experiments of a classification, counted from 0, or the ids of a collection's queries; none where mteb has
    no value per query for the metric. n_items: texts or queries of the test set. facts: what was evaluated, and its cost.
    """

    dataset: str
    family: str
    metric: str
    cells: list[Cell]
    values: NDArray[np.float64]
    items: tuple[str, ...]
    item_values: NDArray[np.float64]
    n_items: int
    facts: dict[str, Any]
    task = "mteb"

    def scores(self) -> Iterator[Score]:
        """The metric of every cell."""
        for (layer, dim), value in zip(self.cells, self.values.tolist(), strict=True):
            yield self.metric, layer, layer, dim, value, self.n_items


def write_mteb_items(results: Sequence[MtebResult], run_id: str, path: Path) -> None:
    """Writes the value of every item at every cell: run_id, dataset, metric, item, layer, dim, value (float32).

    `item` is a query's id or the number of an experiment; paired tests are made from these.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for result in results:
        cells, items = result.item_values.shape
        columns = {
            "run_id": [run_id] * (cells * items),
            "dataset": [result.dataset] * (cells * items),
            "metric": [result.metric] * (cells * items),
            "item": list(result.items) * cells,
            "layer": pa.array(np.repeat(np.array([c[0] for c in result.cells], dtype=np.int16), items)),
            "dim": pa.array(np.repeat(np.array([c[1] for c in result.cells], dtype=np.int32), items)),
            "value": pa.array(result.item_values.astype(np.float32).reshape(-1)),
        }
        texts = {name: pa.array(columns[name], pa.string()).dictionary_encode() for name in list(columns)[:4]}
        tables.append(pa.table({**columns, **texts}))
    with atomic_path(path) as partial:
        pq.write_table(pa.concat_tables(tables).unify_dictionaries(), partial, compression="zstd")


def read_finished(record: Path, identity: str) -> MtebResult | None:
    """The result of an earlier evaluation of the very same thing (`identity`), where there is one."""
    if not record.exists():
        return None
    try:
        tensors, meta = read_tensors(record, ("values", "item_values"), "result", "evaluate")
    except InputError:  # damaged: it only costs time
        return None
    if meta.pop("identity", None) != identity:
        return None
    cells = [(int(layer), int(dim)) for layer, dim in meta.pop("cells")]
    values, item_values = (tensors[name].numpy().copy() for name in ("values", "item_values"))
    return MtebResult(cells=cells, values=values, item_values=item_values, items=tuple(meta.pop("items")), **meta)


def write_finished(result: MtebResult, identity: str, record: Path) -> None:
    """Writes the result so that `read_finished` finds it; `identity` says what it depends on."""
    import torch

    meta = {
        "identity": identity, "dataset": result.dataset, "family": result.family, "metric": result.metric,
        "cells": result.cells, "items": result.items, "n_items": result.n_items, "facts": result.facts,
    }  # fmt: skip
    tensors = {"values": torch.from_numpy(result.values), "item_values": torch.from_numpy(result.item_values)}
    write_tensors(tensors, meta, record)
