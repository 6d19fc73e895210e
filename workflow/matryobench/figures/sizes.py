"""Quality against named size: a panel per group of test sets, a line per method, from the smallest size to the full one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matryobench.analysis.cells import LINE
from matryobench.analysis.sizes import at_sizes, mean_over
from matryobench.errors import InputError
from matryobench.figures import theme
from matryobench.figures.lines import add_legend, draw_lines
from matryobench.figures.theme import Line, Style
from matryobench.grid import Cell

Group = tuple[str, Sequence[str]]
"""The metric and the datasets whose mean a panel shows."""

HEIGHT = 2.1  # of a row of panels, inches


def draw(
    frame: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    sizes: Mapping[str, Cell],
    groups: Mapping[str, Group],
    recipes: Mapping[str, str] | None = None,
    methods: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
    columns: int = 3,
) -> Figure:
    """One panel for each of `groups` (title -> metric, datasets) and recipe, with `sizes` from left to right.

    A line is the mean over the group's datasets and over seeds of the native runs; its band and bars reach from the
    lowest seed to the highest. Runs that lack one of a group's datasets are left out of it, missing sizes break a line.
    `recipes` gives recipes their titles and order, `methods` restricts the figure to some, and `titles` gives methods
    other titles in it. Layers are those of the query side.
    Raises InputError as `analysis.sizes.at_sizes` and `theme.lines` do, and for a group that no run has in full.
    """
    if methods is not None:
        frame = frame[frame["method"].isin(methods)]
    means = {title: _group(frame, sizes, title, *group) for title, group in groups.items()}
    everything = pd.concat(means.values(), ignore_index=True)
    lines = theme.lines(everything, styles, titles)
    rows = theme.recipe_titles(everything, recipes)
    # a row per recipe, or recipes side by side where there is one group
    arranged = (
        [[(r, g) for r in rows] for g in groups] if len(groups) == 1 else [[(r, g) for g in groups] for r in rows]
    )
    columns = min(columns, len(arranged[0]))
    arranged = [row[at : at + columns] for row in arranged for at in range(0, len(row), columns)]
    width = min(theme.WIDTH, 0.6 + 2.6 * columns)
    panel = (width / columns - 0.5) * theme.POINTS
    legend = theme.legend_columns([line.title for line in lines], width)
    with theme.context():
        height = HEIGHT * len(arranged) + 0.4 + 0.16 * math.ceil(len(lines) / legend)
        figure = Figure(figsize=(width, height), layout=theme.layout())
        axes = figure.subplots(len(arranged), columns, squeeze=False)
        for at, row in enumerate(arranged):
            for place, ax in enumerate(axes[at]):
                if place >= len(row):
                    ax.set_axis_off()
                    continue
                recipe, group = row[place]
                own = means[group]
                _panel(ax, own[own["recipe"] == recipe], lines, list(sizes))
                name = f"{group}, {rows[recipe]}" if len(rows) > 1 else group
                ax.set_title(theme.wrapped(name, panel), pad=3)
                metric = groups[group][0]
                ax.set_ylabel(theme.METRICS.get(metric, metric), labelpad=2)
                lowest = at + 1 == len(arranged) or place >= len(arranged[at + 1])
                _label_sizes(ax, sizes, panel, lowest)
        add_legend(figure, lines, legend)
    return figure


def _group(
    frame: pd.DataFrame, sizes: Mapping[str, Cell], title: str, metric: str, datasets: Sequence[str]
) -> pd.DataFrame:
    """Mean, low and high over seeds of the mean over the datasets, per recipe, method, variant and size."""
    rows = mean_over(at_sizes(frame, sizes, dict.fromkeys(datasets, metric)), "dataset", datasets)
    if rows.empty:
        raise InputError(
            f"sizes: no run has all sets of {title!r} ({', '.join(datasets)}); name sets that were evaluated."
        )
    values = rows.groupby([*LINE, "size"], sort=False)["value"]
    columns = {"mean": values.mean(), "low": values.min(), "high": values.max(), "seeds": values.size()}
    return pd.DataFrame(columns).reset_index()


def _panel(ax: Axes, inside: pd.DataFrame, lines: Sequence[Line], sizes: Sequence[str]) -> None:
    draw_lines(ax, inside, lines, "size", sizes, range(len(sizes)))
    ax.set_xlim(-0.3, len(sizes) - 0.7)


def _label_sizes(ax: Axes, sizes: Mapping[str, Cell], points: float, lowest: bool) -> None:
    """Ticks "Demi (2,32)" on the lowest panel of a column: in two lines, or slanted where these have no room."""
    cells = [f"({layer},{dim})" for layer, dim in sizes.values()]
    widest = max(len(text) for text in (*sizes, *cells)) * theme.CHARACTER * theme.SMALL
    slanted = widest > points / len(sizes)
    labels = [f"{name}{' ' if slanted else chr(10)}{cell}" for name, cell in zip(sizes, cells, strict=True)]
    ax.set_xticks(range(len(sizes)), labels)
    ax.tick_params(axis="x", labelbottom=lowest)
    if slanted:
        for label in ax.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
