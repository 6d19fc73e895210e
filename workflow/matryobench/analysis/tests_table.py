"""How many cells of a grid differ beyond chance, are equivalent or undecided: a line per pair of methods and test set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from matryobench.analysis import blocks
from matryobench.analysis.blocks import Block, signed
from matryobench.analysis.cells import AVERAGE
from matryobench.analysis.frames import csv_text
from matryobench.analysis.grid_tests import GRID, note
from matryobench.analysis.means import titles_of

COLUMNS = (*GRID, "cells", "above", "below", "equivalent", "undecided", "mean_difference", "low", "high")
"""`low`, `high`: the ends of the cells' intervals that are lowest and highest."""


def summary(tests: pd.DataFrame) -> pd.DataFrame:
    """Counts per grid of a table of grid tests (`grid_tests.COLUMNS`), averages first: the columns COLUMNS.

    above, below: cells that differ (p after Holm's correction). equivalent: cells within the margin that do not differ;
    a cell may differ and yet be within the margin, it then counts as above or below. undecided: all others.
    """
    found = []
    for key, own in tests.groupby(GRID, sort=False):
        differs, equivalent = own["differs"].to_numpy(), own["equivalent"].to_numpy()
        above = int((differs & (own["difference"] > 0)).sum())
        below = int((differs & (own["difference"] < 0)).sum())
        alike = int((equivalent & ~differs).sum())
        counts = len(own), above, below, alike, len(own) - above - below - alike
        found.append((*key, *counts, own["difference"].mean(), own["low"].min(), own["high"].max()))
    table = pd.DataFrame(found, columns=list(COLUMNS))
    return table.assign(single=table["dataset"] != AVERAGE).sort_values("single", kind="stable").drop(columns="single")


def write(tests: pd.DataFrame, stem: Path, titles: Mapping[str, str] | None = None) -> list[Path]:
    """Writes `summary` as `stem`.csv, .md and .tex, with a note on the tests; `titles` maps methods to titles."""
    found = summary(tests)
    named = titles_of([*found["method"], *found["reference"]], titles)
    rows = []
    for row in found.to_dict("records"):
        texts = (row["dataset"], row["recipe"], named[row["reference"]], named[row["method"]], row["variant"])
        counts = tuple(str(row[name]) for name in ("cells", "above", "below", "equivalent", "undecided"))
        rows.append((*texts, *counts, signed(row["mean_difference"], 4)))
    header = ("dataset", "recipe", "against", "method", "variant", "cells", "above", "below", "equivalent", "undecided",
              "mean difference")  # fmt: skip
    metrics = ", ".join(found["metric"].unique())
    return blocks.write(
        stem, csv_text(found, list(COLUMNS)), [Block(f"{metrics}. {note(tests)}", header, tuple(rows), 5, 3)]
    )
