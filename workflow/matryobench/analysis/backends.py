"""How far a reference library's runs agree with the native runs of the same method, variant, recipe and seed.

Both are scored by the same evaluation, so what differs is the training. Differences are reference minus native.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from matryobench.analysis import blocks
from matryobench.analysis.blocks import MISSING, Block, number, signed
from matryobench.analysis.cells import BACKENDS, LINE, NATIVE, select
from matryobench.analysis.frames import csv_text
from matryobench.analysis.means import titles_of
from matryobench.errors import InputError

PAIR = [*LINE, "backend", "seed"]
"""What one native run and one reference run are compared by."""

_CELL = ["layer", "dim"]
_STATISTICS = ("cells", "mean_difference", "mean_absolute", "largest_absolute", "pearson", "spearman")


def paired(frame: pd.DataFrame, *, dataset: str, metric: str) -> pd.DataFrame:
    """Per pair of runs and (query) layer, dim that both have: native, reference, difference; columns PAIR first.

    Raises InputError as `cells.select` does and where the table has no reference run or none with a native counterpart.
    """
    by = [*LINE, "seed", *_CELL]
    native = select(frame, dataset, metric).set_index(by)["value"].rename("native")
    found = []
    held = set(frame.loc[(frame["dataset"] == dataset) & (frame["metric"] == metric), "backend"])
    for backend in BACKENDS:
        if backend == NATIVE or backend not in held:
            continue
        rows = select(frame, dataset, metric, backend=backend).rename(columns={"value": "reference"})
        found.append(rows[[*PAIR, *_CELL, "reference"]].join(native, on=by, how="inner"))
    pairs = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    if pairs.empty:
        raise InputError(
            f"cells table: no run of a reference backend has a native run of the same method, variant, recipe and seed "
            f"for {dataset} {metric}; evaluate both."
        )
    pairs["difference"] = pairs["reference"] - pairs["native"]
    return pairs.sort_values([*PAIR, *_CELL], ignore_index=True)[[*PAIR, *_CELL, "native", "reference", "difference"]]


def agreement(pairs: pd.DataFrame, by: list[str] | None = None) -> pd.DataFrame:
    """Statistics of `paired` rows over the cells of each pair of runs (or other groups of columns `by`).

    cells (their number), mean_difference, mean_absolute and largest_absolute difference with its layer and dim, and the
    correlations pearson and spearman, NaN where one side is constant or there are fewer than three cells.
    """
    by = PAIR if by is None else by
    rows = []
    for key, own in pairs.groupby(by, sort=True):
        size = own["difference"].abs()
        worst = own.loc[size.idxmax()]
        statistics = (len(own), own["difference"].mean(), size.mean(), size.max(), *_correlations(own))
        rows.append((*key, *statistics, int(worst["layer"]), int(worst["dim"])))
    return pd.DataFrame(rows, columns=[*by, *_STATISTICS, *_CELL])


def write(
    frame: pd.DataFrame,
    stem: Path,
    *,
    dataset: str,
    metric: str,
    decimals: int = 4,
    titles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes the statistics per pair of runs and the difference of every cell as `stem`.csv (tidy), .md and .tex.

    A reference run without a native counterpart has a row of zero cells. `titles` maps methods to titles and gives
    their order. Raises InputError as `paired` does and for a method without a title.
    """
    pairs = paired(frame, dataset=dataset, metric=metric)
    found = agreement(pairs)
    alone = _runs_of_references(frame, dataset, metric).merge(found, on=PAIR, how="left")
    alone["cells"] = alone["cells"].fillna(0).astype("int64")
    titles = titles_of(alone["method"], titles)
    rank = {method: place for place, method in enumerate(titles)}
    table = alone.assign(rank=alone["method"].map(rank)).sort_values(["recipe", "rank", "variant", "backend", "seed"])
    place = f"{metric}, {dataset}"
    printed = [
        _summary_block(f"{place}, reference minus native over the cells that both have", table, titles, decimals),
        _cells_block(f"{place}, reference minus native per cell", table, pairs, titles, decimals),
    ]
    tidy = [found[[*PAIR]].assign(statistic=name, value=found[name]) for name in _STATISTICS[1:]]
    tidy = [one.assign(cells=found["cells"]) for one in tidy]
    worst = tidy[2].assign(layer=found["layer"], dim=found["dim"])
    each = [
        pairs[[*PAIR, *_CELL]].assign(statistic=name, value=pairs[name], cells=1)
        for name in ("native", "reference", "difference")
    ]
    exact = pd.concat([*tidy[:2], worst, *tidy[3:], *each], ignore_index=True)
    return blocks.write(stem, csv_text(exact, ["statistic", *PAIR, *_CELL, "value", "cells"]), printed)


def _runs_of_references(frame: pd.DataFrame, dataset: str, metric: str) -> pd.DataFrame:
    own = frame[(frame["dataset"] == dataset) & (frame["metric"] == metric) & (frame["backend"] != NATIVE)]
    return own[PAIR].drop_duplicates()


def _correlations(own: pd.DataFrame) -> tuple[float, float]:
    """Pearson's and Spearman's correlation of the two sides over cells."""
    from scipy.stats import rankdata

    sides = own[["native", "reference"]].to_numpy()
    if len(sides) < 3 or (sides == sides[0]).all(axis=0).any():
        return math.nan, math.nan
    ranks = np.apply_along_axis(rankdata, 0, sides)
    return float(np.corrcoef(sides, rowvar=False)[0, 1]), float(np.corrcoef(ranks, rowvar=False)[0, 1])


def _labels(row: pd.Series, titles: Mapping[str, str]) -> tuple[str, ...]:
    return (str(row["recipe"]), titles[row["method"]], *(str(row[name]) for name in ("variant", "backend", "seed")))


def _summary_block(title: str, table: pd.DataFrame, titles: Mapping[str, str], decimals: int) -> Block:
    rows = []
    for _, row in table.iterrows():
        shown = [MISSING if math.isnan(row[name]) else number(row[name], decimals) for name in _STATISTICS[2:]]
        mean, at = MISSING, MISSING
        if row["cells"]:
            mean, at = signed(row["mean_difference"], decimals), f"({row['layer']:.0f}, {row['dim']:.0f})"
        rows.append((*_labels(row, titles), str(row["cells"]), mean, *shown[:2], at, *shown[2:]))
    header = ("recipe", "method", "variant", "backend", "seed", "cells", "mean", "mean abs.", "max abs.",
              "at (layer, dim)", "Pearson", "Spearman")  # fmt: skip
    return Block(title, header, tuple(rows), 5, 1)


def _cells_block(
    title: str, table: pd.DataFrame, pairs: pd.DataFrame, titles: Mapping[str, str], decimals: int
) -> Block:
    dims = sorted(pairs["dim"].unique())
    rows = []
    for _, run in table.iterrows():
        own = pairs[(pairs[PAIR] == run[PAIR]).all(axis=1)]
        for layer, at_layer in own.groupby("layer"):
            value = at_layer.set_index("dim")["difference"].to_dict()
            texts = [signed(value[dim], decimals) if dim in value else MISSING for dim in dims]
            rows.append((*_labels(run, titles), str(layer), *texts))
    header = ("recipe", "method", "variant", "backend", "seed", "layer", *map(str, dims))
    return Block(title, header, tuple(rows), 6, 5)
