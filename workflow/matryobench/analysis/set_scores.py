"""A test set with the per-item scores of all runs that are compared on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matryobench.analysis import paired
from matryobench.analysis.cells import NATIVE, select
from matryobench.analysis.items import Key, check_lengths, check_values, read_items
from matryobench.errors import InputError, unknown_name
from matryobench.grid import Cell


@dataclass(frozen=True)
class Source:
    """Runs with different ids: their cells table and their items.parquet files, and what trained the ones to take."""

    frame: pd.DataFrame
    items: Sequence[Path]
    backend: str = NATIVE


class Line(NamedTuple):
    """The runs of a source that differ in nothing but the seed and, where each cell is trained alone, the cell."""

    recipe: str
    method: str
    variant: str
    source: int = 0


@dataclass(frozen=True)
class Places:
    """Rows of `ScoredSet.scores` as (cells, seeds), cells ascending by (layer, dim)."""

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    rows: NDArray[np.intp]

    def at(self, cells: Sequence[Cell]) -> NDArray[np.intp]:
        """The rows of some of the cells."""
        place = {cell: number for number, cell in enumerate(self.cells)}
        return self.rows[[place[cell] for cell in cells]]


@dataclass(frozen=True)
class ScoredSet:
    """Item scores (rows, items) of one set, with their metric's values (rows,), as `rows` of the cells tables lists them.

    `rows` is a table of `cells.select` with the column `source`. STS sets have gold scores (items,), and their item
    scores are similarities; those of retrieval are the metric itself.
    """

    task: str
    dataset: str
    metric: str
    rows: pd.DataFrame
    scores: NDArray[np.floating]
    values: NDArray[np.float64]
    gold: NDArray[np.float64] | None

    def places(self, line: Line) -> Places:
        """Where the line's cells and seeds stand; InputError where it has no rows or a seed lacks cells of another."""
        rows = self.rows
        own = rows[
            (rows["recipe"] == line.recipe) & (rows["method"] == line.method)
            & (rows["variant"] == line.variant) & (rows["source"] == line.source)
        ]  # fmt: skip
        name = f"{line.method} ({line.variant}, {line.recipe})"
        if own.empty:
            raise InputError(f"{self.dataset}: {name} has no {self.metric} there; evaluate it on the set.")
        table = own.assign(place=own.index).pivot(index=["layer", "dim"], columns="seed", values="place").sort_index()
        if table.isna().any(axis=None):
            (layer, dim), seed = table.isna().stack().idxmax()[:2], table.columns[table.isna().any()][0]
            raise InputError(
                f"{self.dataset}: {name} has cells without seed {seed}, such as layer {layer}, dim {dim}; evaluate all"
                " seeds on the same cells."
            )
        cells = tuple((int(layer), int(dim)) for layer, dim in table.index)
        return Places(cells, tuple(int(seed) for seed in table.columns), table.to_numpy(dtype=np.intp))


def read_sets(
    sources: Sequence[Source], sets: Mapping[str, str], lines: Sequence[Line], gold: Mapping[str, NDArray[np.float64]]
) -> Iterator[ScoredSet]:
    """The sets (dataset -> its metric) with the item scores of the lines, sets of one metric held in memory together.

    `gold` has the (n,) gold scores of STS sets in the order of their pairs. Raises InputError as `cells.select` and
    `items.read_items` do, for tasks whose items are no pairs or queries, where items do not give the values of the cells
    table, and where two runs were scored on different items.
    """
    if not sets:
        raise InputError("comparison: no test set is named; name at least one.")
    for metric in dict.fromkeys(sets.values()):
        names = [name for name, its_metric in sets.items() if its_metric == metric]
        found = [_read_source(number, source, names, metric, lines) for number, source in enumerate(sources)]
        rows = pd.concat([one for one, _ in found], ignore_index=True)
        vectors = [vector for _, own in found for vector in own]
        for name in names:
            inside = np.flatnonzero(rows["dataset"] == name)
            yield _scored(rows.iloc[inside].reset_index(drop=True), [vectors[place] for place in inside], gold)


def _read_source(
    number: int, source: Source, names: Sequence[str], metric: str, lines: Sequence[Line]
) -> tuple[pd.DataFrame, list[pd.Series]]:
    """The rows of a source's lines on the sets, and the item scores of each."""
    wanted = {line[:3] for line in lines if line.source == number}
    parts = []
    for name in names:
        rows = select(source.frame, name, metric, backend=source.backend)
        line = zip(rows["recipe"], rows["method"], rows["variant"], strict=True)
        parts.append(rows[[one in wanted for one in line]])
    rows = pd.concat(parts, ignore_index=True).assign(source=number)
    if rows.empty:
        return rows, []
    task = str(rows["task"].iloc[0])
    if task not in ("sts", "retrieval"):
        raise InputError(f"comparison: {task} has no scores per pair or query to test with; compare sts or retrieval.")
    keys = [Key(*key) for key in rows[["run_id", "dataset", "layer", "dim"]].itertuples(index=False)]
    column = {"sts": "similarity", "retrieval": metric}[task]
    item, layer = {"sts": ("item", "layer"), "retrieval": ("query", "query_layer")}[task]
    vectors = read_items(source.items, dict.fromkeys(keys, column), item=item, layer=layer)
    return rows, [vectors[key] for key in keys]


def _scored(rows: pd.DataFrame, vectors: Sequence[pd.Series], gold: Mapping[str, NDArray[np.float64]]) -> ScoredSet:
    task, dataset, metric = (str(name) for name in rows[["task", "dataset", "metric"]].iloc[0])
    if rows["task"].nunique() > 1:
        raise InputError(f"comparison: {dataset} is scored for several tasks; compare runs of one task.")
    for run, vector in zip(rows["run_id"], vectors, strict=True):
        if not vector.index.equals(vectors[0].index):
            raise InputError(
                f"{dataset}: runs {rows['run_id'].iloc[0]} and {run} were scored on different items; evaluate both on "
                "the same set."
            )
    stack = np.stack([vector.to_numpy() for vector in vectors])
    if task == "retrieval":
        scores = stack.astype(np.float64)
        values, own = scores.mean(axis=1), None
    else:
        scores = stack
        values, own = _correlations(rows, stack, dataset, metric, gold)
    if stack.shape[1] < 2:
        raise InputError(f"{dataset}: one item cannot be tested with; compare on a set that has more.")
    check_values(rows, values)
    return ScoredSet(task, dataset, metric, rows, scores, values, own)


def _correlations(
    rows: pd.DataFrame,
    stack: NDArray[np.float32],
    dataset: str,
    metric: str,
    gold: Mapping[str, NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if metric != "spearman_cosine":
        raise InputError(f"{dataset}: {metric} cannot be resampled from similarities; compare by spearman_cosine.")
    if dataset not in gold:
        raise unknown_name("comparison", "gold scores of set", dataset, gold)
    own = gold[dataset]
    check_lengths(rows, list(stack), len(own))
    return paired.resampled_spearman(np.ones((1, len(own)), dtype=np.int64), own, stack)[:, 0], own
