"""Layer x dim heat-maps per method, variant and recipe, with values printed and one colour scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from matryobench.analysis.cells import over_seeds, select
from matryobench.figures import matrices, theme
from matryobench.figures.theme import Style

COLOURS = "cividis"  # perceptually uniform, monotonic in lightness, made for colour-blind readers


def draw(
    frame: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    dataset: str,
    metric: str,
    recipes: Mapping[str, str] | None = None,
    methods: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Figure:
    """The heat-maps (means over seeds) of one dataset and metric of a cells table; hatched cells were not evaluated.

    `recipes` gives recipes their titles and order; `methods` restricts the figure to some, and `titles` gives methods
    other titles in it. Layers are those of the query side. Raises InputError as `cells.select` and `theme.lines` do.
    """
    means = over_seeds(select(frame, dataset, metric, methods=methods))
    rows = theme.recipe_titles(means, recipes)
    layers, dims = sorted(means["layer"].unique()), sorted(means["dim"].unique())
    panels = []
    lines = theme.lines(means, styles, titles)
    for recipe in rows:
        for line in lines:
            own = theme.rows_of(means, line, recipe)
            if not own.empty:
                title = theme.line_title(line, recipe, rows)
                panels.append(matrices.Panel(recipe, title, matrices.on_grid(own, "mean", layers, dims)))
    norm = matrices.normalised(means["mean"].min(), means["mean"].max())
    printed = matrices.compact(list(means["mean"]), signed=False)
    label = theme.metric_title(metric, dataset)
    return matrices.draw(panels, norm=norm, colours=COLOURS, printed=printed, label=label, note="not evaluated")
