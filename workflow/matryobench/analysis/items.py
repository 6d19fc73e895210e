"""Per-item scores of evaluations (items.parquet): the vectors at some cells, for paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matryobench.analysis.frames import reading
from matryobench.errors import InputError

_TOLERANCE = 1e-5  # items are float32


@dataclass(frozen=True)
class Key:
    """Where a vector of item scores stands: `layer` is that of the query side."""

    run_id: str
    dataset: str
    layer: int
    dim: int


def read_items(paths: Sequence[Path], wanted: Mapping[Key, str], *, item: str, layer: str) -> dict[Key, pd.Series]:
    """The vector of each wanted key, taken from the column that `wanted` maps it to, indexed and sorted by item.

    `item` and `layer` are the columns that hold the item's name and the (query) layer: "item" and "layer" for STS,
    "query" and "query_layer" for retrieval. Files may hold any runs; only the wanted cells are kept in memory.
    Raises InputError for a file that cannot be read or lacks a column, a key that no file has, an item that occurs
    twice, and a score that is not finite.
    """
    cells = {(key.layer, key.dim) for key in wanted}
    found: dict[Key, pd.Series] = {}
    for path in paths:
        table = _read(Path(path), [item, layer, *sorted(set(wanted.values()))], cells, layer)
        for at, rows in table.groupby(["run_id", "dataset", layer, "dim"], observed=True, sort=False):
            key = Key(str(at[0]), str(at[1]), int(at[2]), int(at[3]))
            if key not in wanted:
                continue
            if key in found:
                raise InputError(f"{path}: run {key.run_id} is also in another items file; keep one of the two.")
            # plain objects, as a file's own dictionary of ids would never equal another file's
            names = np.asarray(rows[item])
            vector = pd.Series(rows[wanted[key]].to_numpy(), index=names).sort_index()
            where = f"{path}: run {key.run_id}, {key.dataset}, layer {key.layer}, dim {key.dim}"
            if vector.index.has_duplicates:
                raise InputError(f"{where} scores an item twice; evaluate the run again.")
            if not np.isfinite(vector).all():
                raise InputError(f"{where} has a score that is not a finite number; evaluate the run again.")
            found[key] = vector
    missing = next((key for key in wanted if key not in found), None)
    if missing is not None:
        raise InputError(
            f"items of run {missing.run_id} on {missing.dataset} at layer {missing.layer}, dim {missing.dim} are in no"
            " file given; give the items.parquet of its evaluation."
        )
    return found


def read_gold(path: Path) -> NDArray[np.float64]:
    """The gold scores (n,) of a prepared STS set, in the order of its pairs; InputError where it has none."""
    table = _parquet(path, ["score"], None)
    return np.asarray(table["score"], dtype=np.float64)


def check_lengths(rows: pd.DataFrame, similarities: Sequence[NDArray[np.float32]], pairs: int) -> None:
    """Raises InputError for a run of cells table rows whose similarities are not one per pair of the set."""
    for run, dataset, one in zip(rows["run_id"], rows["dataset"], similarities, strict=True):
        if len(one) != pairs:
            raise InputError(
                f"{dataset}: run {run} has {len(one)} items and the set {pairs} pairs; evaluate the run again."
            )


def check_values(rows: pd.DataFrame, observed: NDArray[np.float64]) -> None:
    """Raises InputError where the value that items gave is not that of the cells table `rows`, in their order: the items
    then belong to another evaluation or another order of pairs.
    """
    for (run, dataset, value), own in zip(
        rows[["run_id", "dataset", "value"]].itertuples(index=False, name=None), observed, strict=True
    ):
        if not abs(own - value) < _TOLERANCE:
            raise InputError(
                f"{dataset}: the items of run {run} give {own:.6f} and the cells table {value:.6f}; "
                "evaluate the run again, so that both come from one evaluation."
            )


def _read(path: Path, columns: Sequence[str], cells: set[tuple[int, int]], layer: str) -> pd.DataFrame:
    import pyarrow.compute as pc

    chosen = pc.scalar(False)
    for one, dim in sorted(cells):
        chosen = chosen | ((pc.field(layer) == one) & (pc.field("dim") == dim))
    return _parquet(path, ["run_id", "dataset", "dim", *columns], chosen)


def _parquet(path: Path, columns: Sequence[str], rows: object | None) -> pd.DataFrame:
    import pyarrow.parquet as pq

    with reading(path, "parquet"):
        held = pq.read_schema(path).names
        missing = [name for name in columns if name not in held]
        if missing:
            raise InputError(f"{path} lacks the column(s) {', '.join(missing)}; write it again by evaluating the run.")
        return pq.read_table(path, columns=list(columns), filters=rows).to_pandas()
