"""The papers' figures drawn from the published numbers, by the code that draws an experiment's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.objectives.registry import load_methods
from matryobench.paths import METHODS
from matryobench.published.sources import FOLDER, sources

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_published(out: Path) -> list[Path]:
    """Draws FIGURES of `analysis.published`, each as panels and heat-maps, and quality at the sizes of tables A1 and A2,
    into the folder `out`; returns the files written."""
    from matryobench.analysis import published
    from matryobench.figures import heatmaps, panels, sizes, theme

    methods = load_methods(METHODS)
    styles = {name: theme.Style(one.title, one.colour, one.marker) for name, one in methods.items()}
    written = []

    def save(figure: Figure, name: str, file: str) -> None:
        provenance = {"experiment": "published", "figure": name, "source": sources().files[file].paper}
        written.extend(theme.save(figure, out / name, provenance))

    for name, drawn in published.FIGURES.items():
        rows = published.figure_rows(name)
        what: dict[str, Any] = {"dataset": drawn.dataset, "metric": drawn.metric}
        recipes = {recipe: recipe.upper() for recipe in rows["recipe"].unique()}
        file = "sts_grid.csv" if drawn.experiment == "sts" else "retrieval_grid.csv"
        save(panels.draw(rows, styles, recipes=recipes, **what), f"{name}-panels", file)
        save(heatmaps.draw(rows, styles, recipes=recipes, **what), f"{name}-heatmaps", file)
    for table in ("A1", "A2"):
        one = published.read_sizes(FOLDER / "starbucks_sizes.csv", table)
        groups = {dataset: (metric, [dataset]) for dataset, metric in one.sets.items()}
        figure = sizes.draw(one.cells, styles, sizes=one.sizes, groups=groups)
        save(figure, f"table-{table}-sizes", "starbucks_sizes.csv")
    return written
