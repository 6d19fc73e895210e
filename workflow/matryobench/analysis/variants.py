"""What a method's variants differ by: text against released code, or one list of widths against another.

The ledger docs/deviations.md takes its measured effects from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pandas as pd

from matryobench.analysis import blocks
from matryobench.analysis.blocks import Block, number, signed
from matryobench.analysis.cells import over_seeds, select
from matryobench.analysis.frames import csv_text
from matryobench.analysis.means import titles_of
from matryobench.errors import InputError

CELL = ["layer", "dim"]
COLUMNS = (
    *("recipe", "method", "variant", "other", "band", "cells", "above", "equal", "below", "mean", "other_mean"),
    *("difference", "largest", "layer", "dim"),
)
EQUAL = 1e-9
"""Scores closer than this are of the same ranking."""


def differences(
    frame: pd.DataFrame, *, dataset: str, metric: str, order: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """Per recipe, method and pair of its variants (variant minus other) and band: the columns COLUMNS.

    Bands are all cells that both have, those below the last layer and those at it; `above` counts the cells where variant
    is higher, `largest` is the difference that is largest in size, at layer and dim. Values are means over seeds. `order` gives
    a method's variants in their order (default: alphabetical): the first of a pair is `variant`. Raises InputError as
    `cells.select` does, and where no method has two variants with a common cell.
    """
    means = over_seeds(select(frame, dataset, metric))
    last = means["layer"].max()
    found = []
    for (recipe, method), own in means.groupby(["recipe", "method"], sort=False):
        held = set(own["variant"])
        known = [name for name in (order or {}).get(str(method), ()) if name in held]
        for variant, other in combinations([*known, *sorted(held - set(known))], 2):
            mine, theirs = (own[own["variant"] == name].set_index(CELL)["mean"] for name in (variant, other))
            both = pd.concat({"mean": mine, "other": theirs}, axis=1, join="inner").reset_index()
            for band, inside in (
                ("all", both["layer"] >= 0),
                ("below the last layer", both["layer"] < last),
                ("last layer", both["layer"] == last),
            ):
                if inside.any():
                    found.append((recipe, method, variant, other, band, *_compared(both[inside])))
    if not found:
        raise InputError(
            f"cells table: no method has two variants with a common cell for {dataset} {metric}; run two of them."
        )
    return pd.DataFrame(found, columns=list(COLUMNS))


def write(
    frame: pd.DataFrame,
    stem: Path,
    *,
    dataset: str,
    metric: str,
    decimals: int = 4,
    titles: Mapping[str, str] | None = None,
    order: Mapping[str, Sequence[str]] | None = None,
) -> list[Path]:
    """Writes `differences` as `stem`.csv, .md and .tex; `titles` maps methods to titles. Raises InputError as it does."""
    found = differences(frame, dataset=dataset, metric=metric, order=order)
    named = titles_of(found["method"], titles)
    rows = []
    for row in found.to_dict("records"):
        texts = (row["recipe"], named[row["method"]], row["variant"], row["other"], row["band"])
        counts = tuple(str(row[name]) for name in ("cells", "above", "equal", "below"))
        means = (number(row["mean"], decimals), number(row["other_mean"], decimals))
        worst = (signed(row["largest"], decimals), f"({row['layer']}, {row['dim']})")
        rows.append((*texts, *counts, *means, signed(row["difference"], decimals), *worst))
    header = ("recipe", "method", "variant", "against", "cells of", "cells", "above", "equal", "below", "mean",
              "its mean", "difference", "largest", "at (layer, dim)")  # fmt: skip
    title = f"{metric}, {dataset}: variants of a method"
    return blocks.write(stem, csv_text(found, list(COLUMNS)), [Block(title, header, tuple(rows), 5, 4)])


def _compared(both: pd.DataFrame) -> tuple[float, ...]:
    change = both["mean"] - both["other"]
    worst = both.loc[change.abs().idxmax()]
    equal = change.abs() <= EQUAL
    counts = int(((change > 0) & ~equal).sum()), int(equal.sum()), int(((change < 0) & ~equal).sum())
    means = float(both["mean"].mean()), float(both["other"].mean())
    largest = float(worst["mean"] - worst["other"])
    return len(both), *counts, *means, float(change.mean()), largest, int(worst["layer"]), int(worst["dim"])
