"""Performance against embedding dimension per task family: absolute, and relative to full widths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from matryobench.analysis.relative import STATISTICS, over_sets, relative
from matryobench.figures import theme
from matryobench.figures.lines import add_legend, dims_axis, look
from matryobench.figures.theme import Line, Style
from matryobench.tasks import FAMILY_METRICS

HEIGHT = 2.0  # of a row of panels, inches
ROOM = 0.35  # above and below the means, in their range
APART = 0.16  # between neighbouring lines, in octaves, so that their bars do not hide each other


def draw(
    frame: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    families: Mapping[str, Sequence[str]],
    baseline: str = "ff",
    variant: str | None = None,
    layer: int | None = None,
    metrics: Mapping[str, str] = FAMILY_METRICS,
    recipes: Mapping[str, str] | None = None,
    methods: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Figure:
    """A row per recipe and task family (family -> datasets), a column per kind of performance, a line per method.

    A point is the mean over the family's sets of values that are averaged over seeds; its bar is the 95 % t-interval
    over sets, which a family with one set has not, and which ends at the panel's edge where it is far wider than the
    means differ. `layer` is the query layer (default: the deepest); `baseline` and its
    `variant` are what the last column compares with. `recipes` gives recipes their titles and order, `methods`
    restricts the figure to some (and the baseline), and `titles` gives methods other titles in it.
    Raises InputError as `analysis.relative.relative` and `theme.lines` do.
    """
    if methods is not None:
        frame = frame[frame["method"].isin([*methods, baseline])]
    values = relative(frame, families, baseline=baseline, variant=variant, layer=layer, metrics=metrics)
    means = over_sets(values)
    lines = theme.lines(means, styles, titles)
    named = theme.recipe_titles(means, recipes)
    of_baseline = (titles or {}).get(baseline, styles[baseline].title)
    rows = [(recipe, family) for recipe in named for family in families]
    dims = sorted(means["dim"].unique())
    legend = theme.legend_columns([line.title for line in lines], theme.WIDTH)
    panel = theme.WIDTH / len(STATISTICS) - 0.55  # inches
    with theme.context():
        height = HEIGHT * len(rows) + 0.5 + 0.16 * math.ceil(len(lines) / legend)
        figure = Figure(figsize=(theme.WIDTH, height), layout=theme.layout())
        axes = figure.subplots(len(rows), len(STATISTICS), squeeze=False)
        for at, (recipe, family) in enumerate(rows):
            inside = means[(means["recipe"] == recipe) & (means["family"] == family)]
            for ax, (statistic, words) in zip(axes[at], STATISTICS.items(), strict=True):
                _panel(ax, inside[inside["statistic"] == statistic], lines, dims, panel)
                ax.tick_params(labelbottom=at + 1 == len(rows))
                if at == 0:
                    ax.set_title(theme.wrapped(words.format(baseline=of_baseline), panel * theme.POINTS), pad=3)
                if statistic != "absolute":
                    ax.yaxis.set_major_formatter(FuncFormatter(_percent))
                    ax.axhline(1.0, color="0.6", linewidth=0.7, zorder=1)
            count = len(families[family])
            name = f"{family} ({count} set{'s' * (count > 1)})" + f", {named[recipe]}" * (len(named) > 1)
            metric = theme.METRICS.get(metrics[family], metrics[family])
            axes[at, 0].set_ylabel(theme.wrapped(name, HEIGHT * theme.POINTS) + f"\n{metric}", labelpad=2)
        bars = "; bars: 95% t-interval over sets" if means["low"].notna().any() else ""
        figure.supxlabel(f"embedding dimension{bars}")
        add_legend(figure, lines, legend)
    return figure


def _panel(ax: Axes, inside: pd.DataFrame, lines: Sequence[Line], dims: Sequence[int], inches: float) -> None:
    for place, line in enumerate(lines):
        own = inside[(inside["method"] == line.method) & (inside["variant"] == line.variant)]
        if own.empty:
            continue
        on_grid = own.set_index("dim")[["mean", "low", "high"]].reindex(dims)  # NaN breaks the line
        x = np.array(dims) * 2.0 ** (APART * (place - (len(lines) - 1) / 2))
        ax.vlines(x, on_grid["low"].to_numpy(), on_grid["high"].to_numpy(), color=line.colour, linewidth=0.8, alpha=0.7)
        ax.plot(x, on_grid["mean"].to_numpy(), **look(line))
    # not always the whole bars: over two sets these can be so wide that the lines would be flat
    low, high = inside["mean"].min(), inside["mean"].max()
    margin = ROOM * (high - low) or 0.05
    ends = max(inside["low"].min(), low - margin), min(inside["high"].max(), high + margin)
    low, high = (end if end == end else mean for end, mean in zip(ends, (low, high), strict=True))  # NaN: no bars
    pad = 0.06 * (high - low) or 0.05
    ax.set_ylim(low - pad, high + pad)
    dims_axis(ax, dims, inches, 0.5)


def _percent(value: float, _: int | None) -> str:
    return f"{100 * value:.6g}%"
