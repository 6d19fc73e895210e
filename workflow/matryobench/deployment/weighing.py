"""Quality joined with cost, and the Pareto fronts: the cells that no other cell of any run beats in both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matryobench.analysis.cells import LINE, over_seeds, select
from matryobench.deployment.costs import OF_DIM, OF_LAYER
from matryobench.errors import InputError

FRONTS = {
    "front": ("query_ms", "bytes_per_document", "texts_per_second"),
    "front_query_ms": ("query_ms",),
    "front_bytes": ("bytes_per_document",),
}
"""Column that marks a front -> the costs that quality is weighed against in it."""
MORE_IS_BETTER = ("texts_per_second", "searches_per_second")
_OF_QUERIES = ("query_ms", "query_ms_p95", "query_tokens")
_OF_DOCUMENTS = ("texts_per_second", "text_tokens")


def weigh(frame: pd.DataFrame, costs: pd.DataFrame, *, task: str, dataset: str, metric: str) -> pd.DataFrame:
    """The cells of a task's native runs with their costs, in the order of the cells table.

    Columns: recipe, method, variant, layer (of queries), document_layer, dim, mean, sd, low, high, seeds (quality over
    seeds), run_id (of the first seed), the costs of `costs.OF_LAYER` and `costs.OF_DIM`, and a mark per front of FRONTS.
    A query costs what its layer costs and a document what the documents' layer costs; parameters are the deeper one's.
    Raises InputError as `cells.select` does, and for a cell whose cost was not measured.
    """
    rows = frame[frame["task"] == task]
    if rows.empty:
        raise InputError(f"cells table: has no rows of task {task!r}; it has {', '.join(sorted(set(frame['task'])))}.")
    chosen = select(rows, dataset, metric)
    means = over_seeds(chosen)
    native = rows[(rows["backend"] == "native") & (rows["dataset"] == dataset) & (rows["metric"] == metric)]
    sides = native.rename(columns={"layer": "document_layer", "query_layer": "layer"}).sort_values("seed")
    sides = sides.drop_duplicates([*LINE, "layer", "dim"])
    joined = means.merge(sides[[*LINE, "layer", "dim", "document_layer", "run_id"]], on=[*LINE, "layer", "dim"])
    own = costs[costs["task"] == task].drop(columns="task")
    joined = _with_layer(joined, own, "layer", _OF_QUERIES)
    joined = _with_layer(joined, own, "document_layer", _OF_DOCUMENTS)
    rest = [name for name in OF_LAYER if name not in (*_OF_QUERIES, *_OF_DOCUMENTS)]
    deeper = joined.assign(deeper=joined[["layer", "document_layer"]].max(axis=1))
    joined = _with_layer(deeper, own, "deeper", rest).drop(columns="deeper")
    of_dim = own.drop_duplicates("dim").set_index("dim")[list(OF_DIM)]
    _refuse_missing(joined, "dim", of_dim.index)
    joined = joined.join(of_dim, on="dim")
    for mark, against in FRONTS.items():
        joined[mark] = front(better(joined, ["mean", *against]))
    return joined


def better(frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    """(n, columns) of which more is better in every column: quality and speeds as they are, costs negated."""
    kept = ("mean", *MORE_IS_BETTER)
    return np.column_stack([frame[name] * (1.0 if name in kept else -1.0) for name in columns])


def front(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of (n, columns), more being better, no other row beats: none is as good everywhere and better somewhere.

    Equal rows are on the front together.
    """
    kept = np.ones(len(values), dtype=np.bool_)
    for number, row in enumerate(values):
        kept[number] = not ((values >= row).all(axis=1) & (values > row).any(axis=1)).any()
    return kept


def _with_layer(joined: pd.DataFrame, costs: pd.DataFrame, column: str, names: Sequence[str]) -> pd.DataFrame:
    of_layer = costs.drop_duplicates("layer").set_index("layer")[list(names)]
    _refuse_missing(joined, column, of_layer.index)
    return joined.join(of_layer, on=column)


def _refuse_missing(joined: pd.DataFrame, column: str, measured: pd.Index) -> None:
    absent = sorted(set(joined[column]) - set(measured))
    if absent:
        word = "dim" if column == "dim" else "layer"
        raise InputError(
            f"costs: {word} {absent[0]} was evaluated and not measured ({word}s {', '.join(map(str, measured))} were);"
            " measure the costs of this experiment again."
        )
