"""Figures 1 to 5 of the 2D Matryoshka paper: a panel per layer, dims on x, a line per method, a row per recipe.

Points are joined only between neighbouring dims of the grid, so a method known on some cells shows no invented line.
With several seeds a line is their mean and its band their range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matryobench.analysis.cells import over_seeds, select
from matryobench.figures import theme
from matryobench.figures.lines import add_legend, dims_axis, draw_lines
from matryobench.figures.theme import Line, Style

ROW, TALL = 1.4, 1.9  # height of a row of panels, inches
CROWDED = 9  # more lines than this need larger panels


def draw(
    frame: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    dataset: str,
    metric: str,
    recipes: Mapping[str, str] | None = None,
    methods: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
    columns: int | None = None,
) -> Figure:
    """The panels of one dataset and metric of a cells table.

    `recipes` gives recipes their titles and order; `methods` restricts the figure to some, and `titles` gives methods
    other titles in it. Layers are those of the query side; more than `columns` of them (6, with many lines 3) continue
    in further rows.
    Raises InputError as `cells.select` and `theme.lines` do.
    """
    means = over_seeds(select(frame, dataset, metric, methods=methods))
    lines = theme.lines(means, styles, titles)
    rows = theme.recipe_titles(means, recipes)
    layers, dims = sorted(means["layer"].unique()), sorted(means["dim"].unique())
    crowded = len(lines) > CROWDED
    columns = min(columns or (3 if crowded else 6), len(layers))
    row_height = TALL if crowded else ROW
    deep = math.ceil(len(layers) / columns)  # rows of panels per recipe
    width = min(theme.WIDTH, 1.0 + 2.0 * columns)
    legend = theme.legend_columns([line.title for line in lines], width)
    entries = math.ceil(len(lines) / legend)
    with theme.context():
        height = row_height * deep * len(rows) + 0.55 + 0.16 * entries
        figure = Figure(figsize=(width, height), layout=theme.layout())
        axes = figure.subplots(deep * len(rows), columns, squeeze=False, sharey=True)
        panel = (width - 0.55) / columns - 0.08
        for block, (recipe, title) in enumerate(rows.items()):
            for place in range(deep * columns):
                row, column = block * deep + place // columns, place % columns
                ax = axes[row, column]
                if place >= len(layers):
                    ax.set_axis_off()
                    continue
                inside = means[(means["recipe"] == recipe) & (means["layer"] == layers[place])]
                draw_panel(ax, inside, lines, dims, panel)
                if row == 0 or deep > 1:
                    ax.set_title(f"layer {layers[place]}", pad=3)
                below = place + columns < len(layers) or (block + 1 < len(rows) and column < len(layers))
                ax.tick_params(labelbottom=not below, labelleft=column == 0)
                last = place % columns == columns - 1 or place == len(layers) - 1
                if len(rows) > 1 and last:
                    label = theme.wrapped(title, row_height * theme.POINTS * 0.8)
                    ax.annotate(label, (1.0, 0.5), (4, 0), "axes fraction", "offset points",
                                rotation=270, va="center", ha="left", fontweight="bold")  # fmt: skip
        figure.supxlabel("embedding dimension")
        ylabel = theme.metric_title(metric, dataset)
        figure.supylabel(theme.wrapped(ylabel, (height - 0.4) * theme.POINTS))
        add_legend(figure, lines, legend)
    return figure


def draw_panel(ax: Axes, inside: pd.DataFrame, lines: list[Line], dims: list[int], inches: float) -> None:
    """Draws the lines of one (recipe, layer); `inside` holds the rows of `over_seeds`, `inches` its width."""
    draw_lines(ax, inside, lines, "dim", dims, dims)
    dims_axis(ax, dims, inches, 0.35)
