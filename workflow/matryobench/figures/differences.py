"""Heat-maps of the difference from a baseline method, cell by cell within a recipe: blue is better, red is worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure

from matryobench.analysis.cells import over_seeds, select
from matryobench.errors import InputError, unknown_name
from matryobench.figures import matrices, theme
from matryobench.figures.theme import Style

COLOURS = "RdBu"


def draw(
    frame: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    dataset: str,
    metric: str,
    baseline: str,
    variant: str | None = None,
    recipes: Mapping[str, str] | None = None,
    methods: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Figure:
    """Mean over seeds minus the baseline's mean at the same recipe, layer and dim; hatched where one is missing.

    `variant` names the baseline's variant and may be left out where it has one. `recipes` gives recipes their titles
    and order; `methods` restricts the figure to some (and the baseline), and `titles` gives methods other titles in it.
    Layers are those of the query side. Methods that share no cell with the baseline have no panel. Raises InputError
    for a baseline, method or variant that the table lacks, for a baseline with several variants and none named, and
    where nothing can be compared.
    """
    methods = None if methods is None else [*methods, baseline]
    means = over_seeds(select(frame, dataset, metric, methods=methods))
    of_baseline = means[means["method"] == baseline]
    if of_baseline.empty:
        raise unknown_name("cells table", "baseline method", baseline, means["method"].unique())
    variants = sorted(of_baseline["variant"].unique())
    if variant is None and len(variants) > 1:
        raise InputError(f"baseline {baseline!r} has the variants {', '.join(variants)}; name one of them.")
    variant = variants[0] if variant is None else variant
    if variant not in variants:
        raise unknown_name("cells table", f"variant of baseline {baseline!r}", variant, variants)
    lines = theme.lines(means, styles, titles)
    base = next(line for line in lines if (line.method, line.variant) == (baseline, variant))
    rows = theme.recipe_titles(means, recipes)
    layers, dims = sorted(means["layer"].unique()), sorted(means["dim"].unique())
    cell = ["recipe", "layer", "dim"]
    reference = of_baseline[of_baseline["variant"] == variant].set_index(cell)["mean"]
    means = means.join(reference.rename("reference"), on=cell)
    means["difference"] = means["mean"] - means["reference"]
    panels = []
    for recipe in rows:
        for line in lines:
            own = theme.rows_of(means, line, recipe)
            if line is not base and own["difference"].notna().any():
                title = theme.line_title(line, recipe, rows)
                panels.append(matrices.Panel(recipe, title, matrices.on_grid(own, "difference", layers, dims)))
    if not panels:
        raise InputError(f"no method shares a cell with baseline {baseline!r} ({variant}); evaluate one on its cells.")
    shared = [float(value) for panel in panels for value in panel.values.to_numpy().ravel() if math.isfinite(value)]
    norm = CenteredNorm(0.0, max(1e-3, *map(abs, shared)))
    label = f"{theme.metric_title(metric, dataset)}: difference from {base.title}"
    printed = matrices.compact(shared, signed=True)
    note = f"not evaluated here or for {base.title}"
    return matrices.draw(panels, norm=norm, colours=COLOURS, printed=printed, label=label, note=note)
