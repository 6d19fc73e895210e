"""Which cells a method's loss trains, beside what the method scores there: a row per method, variant and recipe.

Coloured cells are those at which a term of the loss is evaluated, with its total weight; grey ones get gradient only
through a wider width of their layer. Layer 0 is the embedding output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from matryobench.analysis.cells import over_seeds, select
from matryobench.errors import InputError
from matryobench.figures import heatmaps, matrices, theme
from matryobench.figures.theme import Style

COLOURS = "Blues"
THROUGH = "0.9"  # grey of cells that only a wider width trains
KINDS = {"base": "base loss", "alignment": "alignment"}


def draw(
    frame: pd.DataFrame,
    coverage: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    dataset: str,
    metric: str,
    recipes: Mapping[str, str] | None = None,
    methods: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Figure:
    """The rows of one dataset and metric of a cells table, each with its map of a coverage table (`analysis.coverage`).

    Where the sides of retrieval differ, the map is that of queries. The column of alignment terms is left out where no
    row has any. Options are those of `heatmaps.draw`. Raises InputError as `cells.select` and `theme.lines` do, and
    where the coverage table lacks a row's method, variant and recipe.
    """
    chosen = select(frame, dataset, metric, methods=methods)
    means, task = over_seeds(chosen), str(chosen["task"].iloc[0])
    known = coverage[(coverage["task"] == task) & coverage["side"].isin(["both", "query"])]
    wanted = theme.recipe_titles(means, recipes)
    rows = []
    for recipe in wanted:
        for line in theme.lines(means, styles, titles):
            scored, trained = theme.rows_of(means, line, recipe), theme.rows_of(known, line, recipe)
            if scored.empty:
                continue
            if trained.empty:
                raise InputError(
                    f"coverage table: {line.method} ({line.variant}, recipe {recipe}) of {task} is missing; write the"
                    " table for the experiment that the scores are from."
                )
            title = theme.line_title(line, recipe, wanted)
            rows.append((title + (" (query side)" if "query" in set(trained["side"]) else ""), trained, scored))
    kinds = [kind for kind in KINDS if kind == "base" or any(t[f"{kind}_through"].any() for _, t, _ in rows)]
    layers = sorted({layer for _, t, s in rows for part in (t, s) for layer in part["layer"]})
    dims = sorted({dim for _, t, s in rows for part in (t, s) for dim in part["dim"]})
    colours = colormaps[COLOURS].with_extremes(under=THROUGH)
    heaviest = max(1.0, *(t[kinds].to_numpy().max() for _, t, _ in rows))
    weight_norm, score_norm = PowerNorm(0.5, 0, heaviest), matrices.normalised(means["mean"].min(), means["mean"].max())
    weights, quality = ScalarMappable(weight_norm, colours), ScalarMappable(score_norm, heatmaps.COLOURS)
    printed = matrices.compact(list(means["mean"]), signed=False)
    count, width = len(kinds) + 1, min(theme.WIDTH, 0.9 + 2.2 * (len(kinds) + 1))
    between, foot = 27.0, 92.0  # points: a row's title and tick labels; colour bars and legend
    height = (len(rows) * (len(layers) * matrices.LINE_HEIGHT + between) + foot) / theme.POINTS
    with theme.context():
        figure = Figure(figsize=(width, height), layout=theme.layout())
        axes = figure.subplots(len(rows), count, squeeze=False)
        inner = (width * theme.POINTS - 30) / count - 10
        size = min(matrices.TEXT, inner / len(dims) / (4.2 * theme.CHARACTER))
        for place, (title, trained, scored) in enumerate(rows):
            for ax, kind in zip(axes[place], kinds, strict=False):
                panel = matrices.Panel("", title, _map(trained, kind, layers, dims))
                matrices.draw_matrix(ax, panel, weight_norm, weights, weight_text, size)
            panel = matrices.Panel("", title, matrices.on_grid(scored, "mean", layers, dims))
            matrices.draw_matrix(axes[place, -1], panel, score_norm, quality, printed, size)
            for column, (ax, name) in enumerate(zip(axes[place], [*(KINDS[k] for k in kinds), "score"], strict=True)):
                label = f"{title}: {name}" if column == 0 else name
                ax.set_title(theme.wrapped(label, inner * 1.15), pad=3)
                ax.set_ylabel("layer" if column == 0 else "", labelpad=2)
                ax.set_xlabel("embedding dimension" if place + 1 == len(rows) else "", labelpad=2)
                ax.tick_params(labelleft=column == 0)
        pad = min(0.04, 0.1 / height)
        for mappable, own, label in (
            (weights, axes[:, : len(kinds)], "total weight of the terms evaluated at a cell"),
            (quality, axes[:, -1:], theme.wrapped(theme.metric_title(metric, dataset), inner)),
        ):
            bar = figure.colorbar(mappable, ax=own, location="bottom", fraction=0.05, aspect=30, shrink=0.85, pad=pad)
            bar.set_label(label)
            bar.outline.set_linewidth(0.4)
        swatches = [
            Patch(facecolor=THROUGH, edgecolor="0.6", linewidth=0.4, label="gets gradient through wider widths only"),
            Patch(facecolor="white", edgecolor="0.6", linewidth=0.4, label="gets none"),
            Patch(facecolor="white", edgecolor="0.75", hatch=matrices.HATCH, linewidth=0.4, label="no model or score"),
        ]
        figure.legend(handles=swatches, loc="outside lower center", ncols=3, frameon=False, borderaxespad=0.2)
    return figure


def weight_text(weight: float) -> str:
    """A weight, or the negative of one, in at most four characters: "1", ".59", ".008", "12"; "" for none."""
    weight = abs(weight)
    if weight == 0:
        return ""
    if abs(weight - round(weight)) < 5e-3 and weight >= 0.5:
        return str(round(weight))
    return f"{weight:.1f}" if weight >= 10 else f"{weight:.{2 if weight >= 0.095 else 3}f}".removeprefix("0")


def _map(trained: pd.DataFrame, kind: str, layers: list[int], dims: list[int]) -> pd.DataFrame:
    """Layers x dims: the weight at a cell, negative where gradient only passes through it, 0 for none, NaN: no model."""
    at, through = (matrices.on_grid(trained, name, layers, dims) for name in (kind, f"{kind}_through"))
    return at.where(at.isna() | (at > 0), -through)
