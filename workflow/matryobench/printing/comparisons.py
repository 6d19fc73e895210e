"""A comparison of two runs on the terminal: one grid of differences per test set, marked by what the tests say."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.text import Text

DIFFERS, EQUIVALENT = "*", "="


def print_comparison(table: pd.DataFrame, console: Console | None = None) -> None:
    """Prints one grid, layers x dims, per test set, metric and pair of methods of a table of grid tests.

    A difference that is significant after Holm's correction has a star and is green or red by its sign; one that is
    equivalent within the margin has an equals sign; one with neither is undecided, as a line under the grid counts.
    """
    from rich.console import Console
    from rich.table import Table

    console = console or Console()
    by = ["dataset", "metric", "recipe", "method", "variant", "reference", "reference_variant", "reference_recipe"]
    for _, rows in table.groupby(by, sort=False):
        one = rows.iloc[0]
        marked = {(at.layer, at.dim): (at.difference, at.differs, at.equivalent) for at in rows.itertuples()}
        dims = sorted(rows["dim"].unique())
        console.print(_title(one), highlight=False, markup=False)
        grid = Table()
        for heading in ("layer", *(f"d={dim}" for dim in dims)):
            grid.add_column(heading, justify="right")
        for layer in sorted(rows["layer"].unique()):
            entries = [marked.get((layer, dim)) for dim in dims]
            grid.add_row(str(layer), *("" if entry is None else _cell(*entry) for entry in entries))
        console.print(grid)
        console.print(_summary(rows), highlight=False, markup=False)
    first = table.iloc[0]
    console.print(
        f"{DIFFERS} differs, p < {first['alpha']:g} after Holm's correction over a grid   "
        f"{EQUIVALENT} equivalent, within {first['margin']:g} by two one-sided tests",
        highlight=False,
    )


def _title(row: pd.Series[object]) -> str:
    names: list[Hashable] = [row["method"], row["reference"]]
    if names[0] == row["reference"] or row["variant"] != row["reference_variant"]:
        names = [f"{row['method']} ({row['variant']})", f"{row['reference']} ({row['reference_variant']})"]
    if row["recipe"] != row["reference_recipe"]:
        names = [f"{names[0]} [{row['recipe']}]", f"{names[1]} [{row['reference_recipe']}]"]
    return f"{row['dataset']}, {row['metric']}: {names[0]} minus {names[1]}"


def _cell(difference: float, differs: bool, equivalent: bool) -> Text:
    from rich.text import Text

    marks = f"{DIFFERS if differs else ' '}{EQUIVALENT if equivalent else ' '}"
    colour = ("green" if difference > 0 else "red") if differs else ""
    return Text(f"{difference:+.4f}{marks}", style=colour)


def _summary(rows: pd.DataFrame) -> str:
    up = int((rows["differs"] & (rows["difference"] > 0)).sum())
    down = int((rows["differs"] & (rows["difference"] < 0)).sum())
    undecided = int((~rows["differs"] & ~rows["equivalent"]).sum())
    first = rows.iloc[0]
    seeds = f"{first['seeds']} and {first['reference_seeds']} seed(s)"
    known = "over items only" if rows["low_seeds"].isna().any() else "over items; in the table also over seeds x items"
    return (
        f"{len(rows)} cells, {first['n_items']} items, {seeds}: {up} above, {down} below, {int(rows['equivalent'].sum())} "
        f"equivalent, {undecided} undecided ({first['test']}; intervals {known})"
    )
