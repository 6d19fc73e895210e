"""Quality against cost: milliseconds of a query, and index bytes of a document, with the fronts of cells worth their cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matryobench.deployment.weighing import FRONTS
from matryobench.figures import theme
from matryobench.figures.lines import add_legend, dims_axis, look
from matryobench.figures.theme import Line, Style

HEIGHT = 2.3  # of a row of panels, inches
GAP = 3.0  # between a point and its label, points
COSTS = {
    "front_query_ms": "encoder milliseconds per query (median)",
    "front_bytes": "index bytes per document (float32)",
}
"""The mark of a front of one cost -> what its axis says."""


def draw(
    weighed: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    dataset: str,
    metric: str,
    recipes: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Figure:
    """A row of two panels per recipe from the rows of `weighing.weigh`: quality against query time and index bytes.

    A line joins, per cost, the best cell of a (method, variant); its other cells at that cost are not drawn. Grey steps
    are the front over all runs of the task, the same in every row, and its cells are labelled (layer, dim) in the row of
    their recipe. `recipes` gives recipes their titles and order, `titles` gives methods other titles.
    Raises InputError as `theme.lines` does.
    """
    lines = theme.lines(weighed, styles, titles)
    rows = theme.recipe_titles(weighed, recipes)
    legend = theme.legend_columns([line.title for line in lines], theme.WIDTH)
    panel = (theme.WIDTH / len(COSTS) - 0.45) * theme.POINTS, (HEIGHT - 0.45) * theme.POINTS
    with theme.context():
        height = HEIGHT * len(rows) + 0.4 + 0.16 * math.ceil(len(lines) / legend)
        figure = Figure(figsize=(theme.WIDTH, height), layout=theme.layout())
        axes = figure.subplots(len(rows), len(COSTS), squeeze=False, sharex="col", sharey=True)
        label = max(len(_label(cell)) for cell in weighed[["layer", "dim"]].to_numpy()) * theme.CHARACTER * theme.SMALL
        low, high = _quality_range(weighed, (label + 2 * GAP) / panel[1])
        for at, (recipe, name) in enumerate(rows.items()):
            for ax, (mark, words) in zip(axes[at], COSTS.items(), strict=True):
                _panel(ax, weighed, lines, recipe, mark, panel[0] / theme.POINTS)
                ax.set_ylim(low, high)
                _label_front(ax, weighed[weighed[mark] & (weighed["recipe"] == recipe)], FRONTS[mark][0], panel)
                if at + 1 == len(rows):
                    ax.set_xlabel(words, labelpad=2)
                if len(rows) > 1:
                    ax.set_title(name, pad=3)
            ylabel = theme.wrapped(theme.metric_title(metric, dataset), panel[1])
            axes[at, 0].set_ylabel(ylabel, labelpad=2)
        figure.supxlabel("grey steps: what no cell of any run beats in quality and cost; labels: (layer, dim)")
        add_legend(figure, lines, legend)
    return figure


def best_per_cost(rows: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The best of `rows` at each value of a cost, cheapest first."""
    best = rows.loc[rows.groupby(cost)["mean"].idxmax()]
    return best.sort_values(cost, ignore_index=True)


def steps(weighed: pd.DataFrame, mark: str) -> pd.DataFrame:
    """A front from its cheapest cell to its best, without cells that are equal in both."""
    cost = FRONTS[mark][0]
    return weighed[weighed[mark]].drop_duplicates([cost, "mean"]).sort_values(cost, ignore_index=True)


def label_rotation(
    places: Sequence[tuple[float, float]], widths: Sequence[float], height: float, panel: tuple[float, float]
) -> tuple[int, list[int]]:
    """(rotation in degrees, indices of the labelled) of labels above and left of points on a rising front, in points.

    Upright text (0) where all labels fit into the panel beside each other; else all are turned by 90, which needs only
    the height of a line, and those that still would overlap are left out, from the right.
    """
    boxes = [(x - width, y + GAP, x, y + GAP + height) for (x, y), width in zip(places, widths, strict=True)]
    inside = all(left >= 0 and top <= panel[1] for left, _, _, top in boxes)
    if inside and not any(_overlap(one, other) for one, other in pairwise(boxes)):
        return 0, list(range(len(places)))
    return 90, theme.thinned([x for x, _ in places], height + 1) if places else []


def _panel(ax: Axes, weighed: pd.DataFrame, lines: Sequence[Line], recipe: str, mark: str, inches: float) -> None:
    cost = FRONTS[mark][0]
    values = sorted(weighed[cost].unique())
    if mark == "front_bytes":
        dims_axis(ax, [int(value) for value in values], inches, 0.5)
    else:
        span = (values[-1] - values[0]) or 0.5 * values[0]
        ax.set_xlim(values[0] - 0.18 * span, values[-1] + 0.06 * span)  # the first label stands left of its point
    front = steps(weighed, mark)
    x, y = front[cost].to_numpy(dtype="float64"), front["mean"].to_numpy()
    ends = ax.get_xlim()  # nothing dearer is better than the best: its step goes on to the edge
    ax.plot([*x, ends[1]], [*y, y[-1]], drawstyle="steps-post", color="0.7", linewidth=2.4, zorder=1.5)
    for line in lines:
        own = theme.rows_of(weighed, line, recipe)
        if not own.empty:
            best = best_per_cost(own, cost)
            ax.plot(best[cost].to_numpy(), best["mean"].to_numpy(), **{**look(line), "linewidth": 0.5})


def _quality_range(weighed: pd.DataFrame, room: float) -> tuple[float, float]:
    """Ends of the axis: everything that is drawn, with `room` (a share of the axis) for labels above."""
    drawn = pd.concat(
        best_per_cost(own, FRONTS[mark][0])["mean"]
        for mark in COSTS
        for _, own in weighed.groupby(["recipe", "method", "variant"])
    )
    low, high = float(drawn.min()), float(drawn.max())
    span = (high - low) or 0.1
    low -= 0.04 * span
    return low, low + (high - low) / (1 - room)


def _label_front(ax: Axes, front: pd.DataFrame, cost: str, panel: tuple[float, float]) -> None:
    own = front.drop_duplicates([cost, "mean"]).sort_values(cost)
    points = own[[cost, "mean"]].to_numpy(dtype="float64")
    texts = [_label(cell) for cell in own[["layer", "dim"]].to_numpy()]
    shares = ax.transAxes.inverted().transform(ax.transData.transform(points)) if len(points) else np.empty((0, 2))
    places = [(float(x * panel[0]), float(y * panel[1])) for x, y in shares]
    widths = [len(text) * theme.CHARACTER * theme.SMALL for text in texts]
    rotation, kept = label_rotation(places, widths, 1.2 * theme.SMALL, panel)
    for at in kept:
        ax.annotate(
            texts[at], tuple(points[at]), xytext=(0, GAP), textcoords="offset points", fontsize=theme.SMALL,
            ha="center" if rotation else "right", va="bottom", rotation=rotation,
        )  # fmt: skip


def _label(cell: Sequence[int]) -> str:
    return f"({cell[0]},{cell[1]})"


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
