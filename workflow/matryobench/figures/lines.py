"""The lines of methods: how one looks, its band over seeds, the axis of dims, and the legend above a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import NullLocator

from matryobench.figures import theme
from matryobench.figures.theme import Line


def draw_line(ax: Axes, places: Sequence[int], values: pd.DataFrame, line: Line) -> None:
    """Draws `values` (rows: places; columns mean, low, high, seeds) with a band where there are several seeds."""
    ax.plot(places, values["mean"].to_numpy(), **look(line))
    if (values["seeds"] > 1).any():
        low, high = values["low"].to_numpy(), values["high"].to_numpy()
        ax.fill_between(places, low, high, color=line.colour, alpha=0.18, linewidth=0)
        ax.vlines(places, low, high, color=line.colour, linewidth=0.7)  # a lone point has no band


def draw_lines(
    ax: Axes,
    inside: pd.DataFrame,
    lines: Sequence[Line],
    column: str,
    order: Sequence[int | str],
    places: Sequence[int],
) -> None:
    """Draws the lines of one panel: at `places` the values that `column` has in `order`, a gap where one is missing.

    `inside` holds rows of `cells.over_seeds` or of its form, of one recipe.
    """
    for line in lines:
        own = inside[(inside["method"] == line.method) & (inside["variant"] == line.variant)]
        if not own.empty:
            on_grid = own.set_index(column)[["mean", "low", "high", "seeds"]].reindex(order)  # NaN breaks the line
            draw_line(ax, places, on_grid, line)


def dims_axis(ax: Axes, dims: Sequence[int], inches: float, beyond: float) -> None:
    """An x axis of dims in octaves, `inches` wide with `beyond` octaves on either side; labels that fit, upright if need be."""
    ax.set_xscale("log", base=2)
    ax.set_xlim(dims[0] / 2**beyond, dims[-1] * 2**beyond)
    ax.xaxis.set_minor_locator(NullLocator())
    positions = list(np.log2(dims) * inches * theme.POINTS / (math.log2(dims[-1] / dims[0]) + 2 * beyond))
    upright = max(len(str(dim)) for dim in dims) * theme.CHARACTER * theme.SMALL + 3 > theme.closest(positions)
    labelled = set(theme.thinned(positions, theme.SMALL * 0.85)) if upright else set(range(len(dims)))
    ax.set_xticks(dims, [str(dim) if at in labelled else "" for at, dim in enumerate(dims)], rotation=90 * upright)


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
