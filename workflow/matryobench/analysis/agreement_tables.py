"""The tables of the agreement with published numbers: a tidy csv, and markdown and LaTeX to read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from matryobench.analysis import blocks
from matryobench.analysis.blocks import MISSING, Block, number, signed
from matryobench.analysis.frames import csv_text
from matryobench.analysis.matching import ROW, Scale

COLUMNS = (
    *("kind", "scale", *ROW, "baseline", "baseline_variant", "band", "cells", "statistic", "value", "layer", "dim"),
)
"""Of the csv file: `kind` is grid or pair, `scale` same or relative; layer and dim place the largest difference."""

_KEYS = [*ROW, "baseline", "baseline_variant", "band", "cells"]


def write(
    stem: Path,
    grid: pd.DataFrame,
    pairs: pd.DataFrame,
    flagged: pd.DataFrame,
    rule: Scale,
    *,
    place: str,
    within: float,
    decimals: int,
    titles: Mapping[str, str],
) -> list[Path]:
    """Writes what `agreement.grid_agreement` and `pair_agreement` gave; returns the three paths.

    The pairs are printed over all cells, the csv has their bands, too. `flagged` are the rows with suspect published
    values, which are listed in a table of their own.
    """
    title = f"{place}: ours against published, {rule.words()}"
    if not rule.same:
        title += "; the values have different scales, so only trends are compared"
    printed = [_grid_block(title, grid, rule, within, decimals, titles)]
    overall = pairs[pairs["band"] == "all cells"]
    if not overall.empty:
        printed.append(_pair_block(f"{place}: differences of methods against the published ones", overall, titles))
    if not flagged.empty:
        printed.append(_flag_block(f"{place}: suspect published values", flagged, decimals, titles))
    tidy = pd.concat([_tidy(grid, "grid"), _tidy(pairs, "pair")], ignore_index=True)
    tidy = tidy.assign(scale="same" if rule.same else "relative")
    return blocks.write(stem, csv_text(tidy, COLUMNS), printed)


def _tidy(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """A row per statistic that is known."""
    keys = [name for name in _KEYS if name in table]
    names = [name for name in table.columns if name not in (*keys, "layer", "dim")]
    parts = []
    for name in names:
        own = table[keys].assign(kind=kind, statistic=name, value=table[name].astype("float64"))
        if name == "largest":
            own = own.assign(layer=table["layer"], dim=table["dim"])
        parts.append(own[own["value"].notna()])
    return pd.concat(parts, ignore_index=True)


def _grid_block(
    title: str, grid: pd.DataFrame, rule: Scale, within: float, decimals: int, titles: Mapping[str, str]
) -> Block:
    absolute = ("RMSE", "bias", "max abs.", "at (layer, dim)", f"within {within:g}") if rule.same else ()
    rows = []
    for _, row in grid.iterrows():
        texts = [row["recipe"], titles[row["method"]], row["variant"], row["band"], str(row["cells"])]
        if rule.same:
            texts += [number(row["rmse"], decimals), signed(row["bias"], decimals), number(row["largest"], decimals)]
            texts += [f"({row['layer']}, {row['dim']})", f"{100 * row['within']:.0f}%"]
        rows.append((*texts, _shown(row["kendall"], 3), _shown(row["spearman"], 3)))
    header = ("recipe", "method", "variant", "band", "cells", *absolute, "Kendall tau", "Spearman")
    return Block(title, header, tuple(rows), 4, 3)


def _pair_block(title: str, pairs: pd.DataFrame, titles: Mapping[str, str]) -> Block:
    rows = []
    for _, row in pairs.iterrows():
        decided = row["cells"] - row["tied"]
        texts = (row["recipe"], titles[row["method"]], row["variant"], titles[row["baseline"]], row["baseline_variant"])
        signs = f"{row['agreeing']}/{decided}" if decided else MISSING
        measures = (_shown(row["effect_ratio"], 2), _shown(row["delta_ri"], 3, sign=True))
        rows.append((*texts, str(row["cells"]), str(row["tied"]), signs, *measures))
    header = ("recipe", "method", "variant", "minus", "its variant", "cells", "published ties", "same sign", "ER",
              "DeltaRI")  # fmt: skip
    return Block(title, header, tuple(rows), 5, 3)


def _flag_block(title: str, flagged: pd.DataFrame, decimals: int, titles: Mapping[str, str]) -> Block:
    rows = []
    for _, row in flagged.iterrows():
        texts = (row["recipe"], titles[row["method"]], row["variant"], str(row["layer"]), str(row["dim"]))
        rows.append((*texts, number(row["published"], decimals), number(row["ours"], decimals)))
    header = ("recipe", "method", "variant", "layer", "dim", "published", "ours")
    return Block(title, header, tuple(rows), 5, 3)


def _shown(value: float, decimals: int, *, sign: bool = False) -> str:
    if math.isnan(value):
        return MISSING
    return signed(value, decimals) if sign else f"{value:.{decimals}f}"
