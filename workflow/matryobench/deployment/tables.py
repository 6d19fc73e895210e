"""The deployment table of a task: every cell with quality and cost, and its Pareto fronts as csv, markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from matryobench.analysis import frames
from matryobench.analysis.blocks import Block, write

_COSTS = {  # column -> (what tables call it, how its numbers look)
    "query_ms": ("ms / query", "{:.2f}"),
    "query_ms_p95": ("95th percentile", "{:.2f}"),
    "texts_per_second": ("texts / s", "{:,.0f}"),
    "bytes_per_document": ("bytes / document", "{:,.0f}"),
    "searches_per_second": ("searches / s", "{:,.0f}"),
    "encoder_bytes": ("encoder MB", "{:.1f}"),
}
_TITLES = {
    "front_query_ms": "cells that no other beats in quality and in milliseconds per query",
    "front_bytes": "cells that no other beats in quality and in index bytes per document",
    "front": "cells that no other beats in quality, milliseconds per query, index bytes and texts per second together",
}


def write_deployment(
    weighed: pd.DataFrame, stem: Path, *, dataset: str, metric: str, titles: Mapping[str, str], decimals: int = 4
) -> list[Path]:
    """Writes what `weighing.weigh` gave as `stem`.csv (all cells), and its fronts as .md and .tex; returns the paths.

    Rows of a front go from the cheapest to the best. `titles`: of methods.
    """
    blocks = []
    for mark, words in _TITLES.items():
        rows = weighed[weighed[mark]].sort_values(["mean", "query_ms", "bytes_per_document"])
        texts = [_row(row, titles, decimals, float(weighed["mean"].max())) for _, row in rows.iterrows()]
        names = (name for name, _ in _COSTS.values())
        header = ("layer", "dim", "method", "variant", "recipe", metric, "of the best", *names)
        blocks.append(Block(f"{metric}, {dataset}: {words}", header, tuple(texts), 5, 0))
    return write(stem, frames.csv_text(weighed), blocks)


def _row(row: pd.Series, titles: Mapping[str, str], decimals: int, best: float) -> tuple[str, ...]:
    layer = str(row["layer"])
    if row["document_layer"] != row["layer"]:
        layer += f" (documents {row['document_layer']})"
    method = titles.get(row["method"], row["method"])
    share = f"{100 * row['mean'] / best:.1f}%" if best > 0 else ""
    quality = (f"{row['mean']:.{decimals}f}", share)
    scaled = {**row, "encoder_bytes": row["encoder_bytes"] / 1e6}
    costs = (form.format(scaled[name]) for name, (_, form) in _COSTS.items())
    return (layer, str(row["dim"]), method, row["variant"], row["recipe"], *quality, *costs)
