"""Native runs against the same runs trained by a reference library: values side by side, and differences per cell."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from matryobench.analysis.backends import agreement, paired
from matryobench.analysis.cells import LINE
from matryobench.figures import matrices, theme
from matryobench.figures.differences import COLOURS
from matryobench.figures.theme import Style

_GROUP = [*LINE, "backend"]  # seeds are drawn together
_CELL = ["layer", "dim"]


def draw(
    frame: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    dataset: str,
    metric: str,
    recipes: Mapping[str, str] | None = None,
) -> Figure:
    """Per recipe, method, variant and reference backend: a point per cell and seed at (native, reference) with the line
    of equality, and below it the heat-map of reference minus native (mean over seeds).

    `recipes` gives recipes their titles and order. Layers are those of the query side; hatched cells lack one of the
    two. Raises InputError as `analysis.backends.paired` and `theme.lines` do.
    """
    pairs = paired(frame, dataset=dataset, metric=metric)
    lines = theme.lines(pairs, styles)
    rows = theme.recipe_titles(pairs, recipes)
    layers, dims = sorted(pairs["layer"].unique()), sorted(pairs["dim"].unique())
    statistics = agreement(pairs, _GROUP).set_index(_GROUP)
    panels: list[matrices.Panel] = []
    points: dict[int, tuple[pd.DataFrame, theme.Line, str]] = {}  # by the panel's id, as titles may repeat
    for recipe in rows:
        for line in lines:
            for backend, cells in theme.rows_of(pairs, line, recipe).groupby("backend"):
                title = f"{theme.line_title(line, recipe, rows)}, {backend}"
                mean = cells.groupby(_CELL, as_index=False)["difference"].mean()
                panels.append(matrices.Panel(recipe, title, matrices.on_grid(mean, "difference", layers, dims)))
                found = statistics.loc[(recipe, line.method, line.variant, backend)]
                points[id(panels[-1])] = (cells, line, _note(found["pearson"], found["largest_absolute"]))
    differences = [float(value) for panel in panels for value in panel.values.stack().dropna()]

    def above(ax: Axes, panel: matrices.Panel) -> None:
        _scatter(ax, *points[id(panel)])

    return matrices.draw(
        panels,
        norm=CenteredNorm(0.0, max(1e-3, *map(abs, differences))),
        colours=COLOURS,
        printed=matrices.compact(differences, signed=True),
        label=f"{theme.metric_title(metric, dataset)}: reference minus native",
        note="not evaluated in both",
        above=above,
    )


def _scatter(ax: Axes, cells: pd.DataFrame, line: theme.Line, note: str) -> None:
    """Equal axes, so that the line of equality is the diagonal of a square."""
    values = cells[["native", "reference"]].to_numpy()
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.05
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color="0.6", linewidth=0.7, zorder=1)
    # open markers, so that points that coincide stay visible
    ax.plot(values[:, 0], values[:, 1], linestyle="none", marker=line.marker, markersize=3.2, color=line.colour,
            markerfacecolor="none", markeredgewidth=0.7)  # fmt: skip
    ax.set(xlim=ends, ylim=ends, xlabel="native", ylabel="reference")
    ax.xaxis.labelpad = ax.yaxis.labelpad = 2
    ax.set_box_aspect(1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    ax.text(0.97, 0.04, note, transform=ax.transAxes, ha="right", va="bottom", fontsize=theme.SMALL)


def _note(pearson: float, largest: float) -> str:
    correlation = "" if np.isnan(pearson) else f"r {pearson:.3f}\n"
    return f"{correlation}max |Δ| {largest:.3f}"
