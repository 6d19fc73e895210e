"""Tables of the cells table as csv, markdown and LaTeX: the grid, its means and wins, bands of dims, single sets.

All of them hold means over seeds of the native runs and mark the best printed value. Missing cells print as an en dash,
and where some row lacks one, a second table gives the means over the cells that all rows share (see `means`). Layers
are those of the query side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from matryobench.analysis.blocks import MISSING, Block, number, write
from matryobench.analysis.cells import AVERAGE, LINE
from matryobench.analysis.frames import csv_text
from matryobench.analysis.means import band_means, bands_of, grid, is_partial, marginal_means, mark, wins
from matryobench.errors import InputError, unknown_name

_ROW = ["recipe", "layer", "method", "variant"]
_SCOPES = {  # name in the csv files -> what titles add
    "all_cells": "",
    "shared_cells": " in the cells that all rows of the recipe have (compare within a column)",
}


def write_grid(
    frame: pd.DataFrame,
    stem: Path,
    *,
    dataset: str,
    metric: str,
    decimals: int = 4,
    titles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes the full grid as `stem`.csv (exact values, empty where missing), .md and .tex; returns the three paths."""
    cells = grid(frame, dataset=dataset, metric=metric, decimals=decimals, titles=titles)
    dims = {dim: str(dim) for dim in sorted(cells["dim"].unique())}
    title = f"{metric}, {dataset}, per layer and dim{_seeds(cells)}"
    return write(stem, _wide(cells, _ROW, "dim", dims), [block_of(title, cells, cells, _ROW, 2, "dim", dims, decimals)])


def write_summary(
    frame: pd.DataFrame,
    stem: Path,
    *,
    dataset: str,
    metric: str,
    decimals: int = 4,
    titles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes the means per layer and per dim and the counts of best cells as `stem`.csv (tidy), .md and .tex."""
    cells = grid(frame, dataset=dataset, metric=metric, decimals=decimals, titles=titles)
    tidy, blocks = [], []
    for scope in _scopes(cells):
        for over, at in (("dim", "layer"), ("layer", "dim")):
            means = marginal_means(cells, over, shared=scope != "all_cells")
            tidy.append(means.rename(columns={"mean": "value"}).assign(statistic=f"mean_over_{over}s", scope=scope))
            title = f"{metric}, {dataset}, mean over {over}s{_SCOPES[scope]}"
            keys = {key: f"{at} {key}" for key in sorted(cells[at].unique())}
            blocks.append(_means_block(title, cells, means, at, keys, decimals))
    counts = wins(cells)
    for name in ("compared", "strictly_best", "tied_best"):
        one = counts[[*LINE, "cells"]].assign(value=counts[name], statistic=name, scope="all_cells")
        tidy.append(one)
    columns = ["statistic", "scope", *LINE, "layer", "dim", "value", "cells"]
    exact = csv_text(pd.concat(tidy, ignore_index=True), columns)
    shown = counts[["recipe", "title", "variant", "cells", "compared", "strictly_best", "tied_best"]].astype("str")
    header = ("recipe", "method", "variant", "cells", "compared", "strictly best", "tied best")
    title = f"{metric}, {dataset}, cells where a method is best among those that have the cell"
    blocks.append(Block(title, header, tuple(shown.itertuples(index=False, name=None)), 3, 1))
    return write(stem, exact, blocks)


def write_bands(
    frame: pd.DataFrame,
    stem: Path,
    *,
    dataset: str,
    metric: str,
    bands: Sequence[int],
    decimals: int = 4,
    titles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes the mean over all cells and over each band of dims as `stem`.csv (tidy), .md and .tex.

    `bands` are the upper ends of bands, e.g. [32, 64] for dims up to 32, 33 to 64, and above. They stand beside the
    mean because that hides opposite effects at small and at large widths.
    """
    cells = grid(frame, dataset=dataset, metric=metric, decimals=decimals, titles=titles)
    wanted = bands_of(list(cells["dim"]), bands)
    keys = {band.title: band.title for band in wanted}
    tidy, blocks = [], []
    for scope in _scopes(cells):
        means = band_means(cells, wanted, shared=scope != "all_cells")
        tidy.append(means.assign(statistic="mean_over_band", scope=scope))
        title = f"{metric}, {dataset}, mean over layers and bands of dims{_SCOPES[scope]}"
        blocks.append(_means_block(title, cells, means, "band", keys, decimals))
    exact = pd.concat(tidy, ignore_index=True).rename(columns={"mean": "value"})
    for name in ("low", "high"):
        exact[name] = exact["band"].map({band.title: getattr(band, name) for band in wanted})
    columns = ["statistic", "scope", *LINE, "band", "low", "high", "value", "cells"]
    return write(stem, csv_text(exact, columns), blocks)


def write_sets(
    frame: pd.DataFrame,
    stem: Path,
    *,
    metric: str,
    cells: Sequence[tuple[int, int]] = (),
    datasets: Sequence[str] | None = None,
    decimals: int = 4,
    titles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes the values on the single sets, one column each, at some cells as `stem`.csv (exact), .md and .tex.

    `cells` are (query layer, dim) pairs; those that no run has are left out. By default it is the deepest layer at the
    largest dim. `datasets` gives the columns and their order; by default all that have the metric, the average last.
    Raises InputError for a metric or dataset that the table lacks and where no run has any of the cells.
    """
    rows = frame[frame["metric"] == metric]
    if rows.empty:
        raise unknown_name("cells table", "metric", metric, frame["metric"].unique())
    names = list(datasets or sorted(set(rows["dataset"]), key=lambda name: (name == AVERAGE, name)))
    grids = []
    for name in names:
        # a dataset that is not there is refused by grid, which then must see what is there
        own = rows[rows["dataset"] == name] if name in set(rows["dataset"]) else rows
        one = grid(own, dataset=name, metric=metric, decimals=decimals, titles=titles)
        grids.append(one.assign(dataset=name))
    found = pd.concat(grids, ignore_index=True)
    largest = (int(found["layer"].max()), int(found["dim"].max()))
    places = {(layer, dim): place for place, (layer, dim) in enumerate(cells or [largest])}
    found["place"] = [places.get(cell, -1) for cell in zip(found["layer"], found["dim"], strict=True)]
    found = found[found["place"] >= 0].sort_values(["recipe", "place"], kind="stable")
    if found.empty:
        asked = ", ".join(f"(layer {layer}, dim {dim})" for layer, dim in places)
        raise InputError(f"cells table: no run was evaluated at {asked}; name cells of the grid.")
    keys = ["recipe", "layer", "dim", "method", "variant"]
    columns = {name: name for name in names}
    title = f"{metric} per set{_seeds(found)}"
    return write(
        stem,
        _wide(found, keys, "dataset", columns),
        [block_of(title, found, found, keys, 3, "dataset", columns, decimals)],
    )


def _scopes(cells: pd.DataFrame) -> list[str]:
    return list(_SCOPES)[: 1 + is_partial(cells)]


def _seeds(cells: pd.DataFrame) -> str:
    """What a title says about how many seeds the means are over."""
    seeds = sorted(cells["seeds"].unique())
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return "" if seeds == [1] else f" (mean ± sd over {count} seeds)"


def _wide(cells: pd.DataFrame, keys: Sequence[str], column: str, columns: Mapping[Any, str]) -> str:
    """csv text: a row per `keys` in the order of `cells`, exact means and, with several seeds, "sd" columns."""
    wide = cells.pivot(index=list(keys), columns=column, values=["mean", "sd"])
    wide = wide.reindex(pd.MultiIndex.from_frame(cells[list(keys)].drop_duplicates()))
    spread = bool(cells["sd"].notna().any())
    order = [(name, key) for key in columns for name in ("mean", "sd")[: 1 + spread]]
    exact = wide[order].set_axis([columns[key] + " sd" * (name == "sd") for name, key in order], axis=1)
    return csv_text(exact.reset_index())


def _means_block(
    title: str, cells: pd.DataFrame, means: pd.DataFrame, column: str, columns: Mapping[Any, str], decimals: int
) -> Block:
    values = mark(means, ["recipe", column], decimals).assign(sd=math.nan)
    return block_of(title, cells, values, LINE, 1, column, columns, decimals)


def block_of(
    title: str,
    cells: pd.DataFrame,
    values: pd.DataFrame,
    keys: Sequence[str],
    group: int,
    column: str,
    columns: Mapping[Any, str],
    decimals: int,
) -> Block:
    """A row per distinct `keys` of `cells`, and in the columns the mean, sd and best of `values` at (*keys, column)."""
    names = dict(zip(cells["method"], cells["title"], strict=True))
    held = values.set_index([*keys, column])[["mean", "sd", "best"]].to_dict("index")
    rows, bold = [], set()
    for at, key in enumerate(cells[list(keys)].drop_duplicates().itertuples(index=False, name=None)):
        texts = [names[entry] if name == "method" else str(entry) for name, entry in zip(keys, key, strict=True)]
        for entry in columns:
            value = held.get((*key, entry))
            if value and value["best"]:
                bold.add((at, len(texts)))
            texts.append(number(value["mean"], decimals, value["sd"]) if value else MISSING)
        rows.append(tuple(texts))
    return Block(title, (*keys, *columns.values()), tuple(rows), len(keys), group, frozenset(bold))
