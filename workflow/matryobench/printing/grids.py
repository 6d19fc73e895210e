"""A cells table on the terminal: one grid, layers x dims, per test set and metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def print_grids(frame: pd.DataFrame) -> None:
    """Prints one grid, layers x dims, per test set and metric of a cells table."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for (dataset, metric), rows in frame.groupby(["dataset", "metric"], sort=False):
        grid = rows.pivot(index="layer", columns="dim", values="value")
        table = Table(title=f"{dataset}: {metric}", title_justify="left")
        for heading in ("layer", *(f"d={dim}" for dim in grid.columns)):
            table.add_column(heading, justify="right")
        for layer, row in grid.iterrows():
            table.add_row(str(layer), *(f"{value:.4f}" for value in row))
        console.print(table)
