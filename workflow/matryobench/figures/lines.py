"""The lines of methods: how one looks, its band over seeds, and the legend above a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle

from matryobench.figures.theme import Line


def draw_line(ax: Axes, places: Sequence[int], values: pd.DataFrame, line: Line) -> None:
    """Draws `values` (rows: places; columns mean, low, high, seeds) with a band where there are several seeds."""
    ax.plot(places, values["mean"].to_numpy(), **look(line))
    if (values["seeds"] > 1).any():
        low, high = values["low"].to_numpy(), values["high"].to_numpy()
        ax.fill_between(places, low, high, color=line.colour, alpha=0.18, linewidth=0)
        ax.vlines(places, low, high, color=line.colour, linewidth=0.7)  # a lone point has no band


def add_legend(figure: Figure, lines: Sequence[Line], columns: int) -> None:
    """Puts the lines' legend above the panels."""
    handles = [Line2D([], [], label=line.title, **look(line)) for line in lines]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=columns, frameon=False, handlelength=3.2, columnspacing=1.5,
        borderaxespad=0.2,
    )  # fmt: skip


def look(line: Line) -> dict[str, Any]:
    """How a method's line is drawn: options of `Axes.plot`."""
    filled = MarkerStyle(line.marker).is_filled()
    return {
        "color": line.colour,
        "linestyle": line.dashes,
        "linewidth": 1.0,
        "marker": line.marker,
        "markersize": 3.6,
        "markeredgewidth": 0.4 if filled and not line.hollow else 0.9,
        "markeredgecolor": "white" if filled and not line.hollow else line.colour,
        "markerfacecolor": "white" if line.hollow else line.colour,
    }
