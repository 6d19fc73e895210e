"""Small multiples of layer x dim matrices with printed values and one colour scale: the body of the heat-maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from matryobench.figures import theme

TEXT = 5.5  # points
LINE_HEIGHT = 11.0  # of a matrix row, points
ABOVE = 108.0  # height of axes above a matrix, points
HATCH = "////"


@dataclass(frozen=True)
class Panel:
    """One matrix: `values` has layers as index and dims as columns, NaN where the cell was not evaluated."""

    group: str
    title: str
    values: pd.DataFrame


def on_grid(rows: pd.DataFrame, value: str, layers: list[int], dims: list[int]) -> pd.DataFrame:
    """Column `value` of rows with unique (layer, dim), as a layers x dims matrix with NaN where there is no row."""
    return rows.pivot(index="layer", columns="dim", values=value).reindex(index=layers, columns=dims)


def draw(
    panels: Sequence[Panel],
    *,
    norm: Normalize,
    colours: str,
    printed: Callable[[float], str],
    label: str,
    note: str,
    above: Callable[[Axes, Panel], None] | None = None,
) -> Figure:
    """The panels, each group from a new row on, a colour bar with `label`, and a hatched swatch with `note` if needed.

    `printed` gives the text of a value. `above` draws something else on a panel into axes above its matrix.
    """
    scale = ScalarMappable(norm, colours)
    layers, dims = list(panels[0].values.index), list(panels[0].values.columns)
    shown = [printed(v) for panel in panels for v in panel.values.to_numpy().ravel() if math.isfinite(v)]
    cell = max(len(text) for text in (*shown, *map(str, dims))) * theme.CHARACTER * TEXT + 1.5
    wide = len(dims) * cell if above is None else max(len(dims) * cell, ABOVE)
    apart = 10 if above is None else 36  # axes above have tick labels of their own
    columns = max(1, int((theme.WIDTH * theme.POINTS - 30) / (wide + apart)))
    rows = _arranged(panels, columns)
    columns = max(len(row) for row in rows)
    width = min(theme.WIDTH, (columns * (wide * 1.15 + apart) + 40) / theme.POINTS)
    width = max(width, 3.3)  # room for the colour bar and its label
    inner = (width * theme.POINTS - 30) / columns - apart
    titles = {panel.title: theme.wrapped(panel.title, inner) for panel in panels}
    broken = max(text.count("\n") + 1 for text in titles.values())
    heights = [len(layers) * LINE_HEIGHT] if above is None else [ABOVE, len(layers) * LINE_HEIGHT]
    between = broken * 9 + 16 + 24 * (len(heights) - 1)  # titles, tick labels and axis labels
    height = (len(rows) * (sum(heights) + between) + 66) / theme.POINTS
    with theme.context():
        figure = Figure(figsize=(width, height), layout=theme.layout())
        deep = len(heights)  # rows of axes per row of panels
        axes = figure.subplots(len(rows) * deep, columns, squeeze=False, height_ratios=heights * len(rows))
        size = min(TEXT, inner / len(dims) / (max(len(text) for text in shown) * theme.CHARACTER))
        for at, row in enumerate(rows):
            for place in range(columns):
                top, ax = axes[at * deep, place], axes[at * deep + deep - 1, place]
                if place >= len(row):
                    top.set_axis_off()
                    ax.set_axis_off()
                    continue
                draw_matrix(ax, row[place], norm, scale, printed, size)
                if above is not None:
                    above(top, row[place])
                top.set_title(titles[row[place].title], pad=3)
                ax.tick_params(labelleft=place == 0)
                ax.set_ylabel("layer" if place == 0 else "", labelpad=2)
                lowest = at + 1 == len(rows) or place >= len(rows[at + 1])
                ax.set_xlabel("embedding dimension" if lowest else "", labelpad=2)
        ticks = MaxNLocator(int(0.6 * width * theme.POINTS / 36), steps=[1, 2, 2.5, 5, 10])
        bar = figure.colorbar(scale, ax=axes, location="bottom", fraction=0.05, aspect=40, shrink=0.6,
                              pad=min(0.04, 0.1 / height), ticks=ticks)  # fmt: skip
        bar.set_label(theme.wrapped(label, 0.85 * figure.get_figwidth() * theme.POINTS))
        bar.outline.set_linewidth(0.4)
        if any(panel.values.isna().any(axis=None) for panel in panels):
            swatch = Patch(facecolor="white", edgecolor="0.75", hatch=HATCH, linewidth=0.4, label=note)
            figure.legend(handles=[swatch], loc="outside lower center", frameon=False, borderaxespad=0.2)
    return figure


def compact(values: Sequence[float], *, signed: bool) -> Callable[[float], str]:
    """A printer for these values: ".816" (or "+.016") while all are within 1, else one decimal; zero has no sign."""
    within = all(abs(value) <= 1 for value in values)
    decimals = 3 if within else 1

    def printed(value: float) -> str:
        size = f"{abs(value):.{decimals}f}"
        nothing = float(size) == 0
        sign = "" if nothing else "\N{MINUS SIGN}" if value < 0 else "+" if signed else ""
        return sign + (size.removeprefix("0") if within else size)

    return printed


def readable(rgba: Iterable[float]) -> str:
    """Black or white, whichever has the higher contrast on a colour (relative luminance, WCAG 2.1)."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in list(rgba)[:3]]
    luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
    return "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"


def draw_matrix(
    ax: Axes, panel: Panel, norm: Normalize, scale: ScalarMappable, printed: Callable[[float], str], size: float
) -> None:
    """Draws a panel's matrix with its values as text of `size` points; cells without a value are hatched."""
    values = panel.values.to_numpy(dtype="float64")
    # vector cells over a hatched background: what is not drawn was not evaluated
    ax.patch.set(facecolor="white", edgecolor="0.75", hatch=HATCH)
    ax.pcolormesh(np.ma.masked_invalid(values), cmap=scale.cmap, norm=norm, edgecolors="white", linewidth=0.4)
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value):
            ax.text(column + 0.5, row + 0.5, printed(value), ha="center", va="center", fontsize=size,
                    color=readable(scale.to_rgba(value)))  # fmt: skip
    ax.set_xticks(np.arange(values.shape[1]) + 0.5, [str(dim) for dim in panel.values.columns])
    ax.set_yticks(np.arange(values.shape[0]) + 0.5, [str(layer) for layer in panel.values.index])
    ax.tick_params(length=0, pad=2)
    ax.invert_yaxis()
    ax.grid(False)
    for side in ax.spines.values():
        side.set_visible(False)


def _arranged(panels: Sequence[Panel], columns: int) -> list[list[Panel]]:
    groups: Mapping[str, list[Panel]] = {panel.group: [] for panel in panels}
    for panel in panels:
        groups[panel.group].append(panel)
    own = list(groups.values())
    if all(len(group) == 1 for group in own):  # one method: recipes side by side
        own = [list(panels)]
    # rows of equal length: 4 panels where 3 fit are drawn as 2 + 2
    longest = max(len(group) for group in own)
    even = math.ceil(longest / math.ceil(longest / columns))
    return [group[start : start + even] for group in own for start in range(0, len(group), even)]


def normalised(low: float, high: float) -> Normalize:
    """A linear colour scale from low to high, widened where the two coincide."""
    return Normalize(low, high if high > low else low + 1e-3)
