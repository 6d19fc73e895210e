"""Figures and tables of an experiment from its cells table: which exist, and how each is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.errors import InputError, unknown_name
from matryobench.files import sha256_of

if TYPE_CHECKING:
    from matryobench.plan import Plan

FIGURE_FORMATS = ("svg", "png", "pdf")
TABLE_FORMATS = ("csv", "md", "tex")
TABLES = ("sts-grid", "sts-summary")


def figure_names(plan: Plan) -> list[str]:
    """The figures of an experiment: figure 1's panels, heat-maps, and differences from each baseline that it runs."""
    compared = [method for method in plan.sts.baselines if any(run.method == method for run in plan.runs)]
    return ["sts-panels", "sts-heatmaps", *(f"sts-differences-{method}" for method in compared)]


def draw_figure(plan: Plan, name: str, cells_file: Path, stem: Path) -> list[Path]:
    """Draws one figure of the average over the test sets from the cells table; returns the files written."""
    from matryobench.analysis.cells import AVERAGE, read
    from matryobench.evaluation.sts import METRIC
    from matryobench.figures import differences, heatmaps, panels, theme

    frame = read(cells_file)
    styles = {name: theme.Style(m.title, m.colour, m.marker) for name, m in plan.methods.items()}
    common: dict[str, Any] = {"dataset": AVERAGE, "metric": METRIC, "recipes": _recipe_titles(plan)}
    if name not in figure_names(plan):
        raise unknown_name(plan.place, "figure", name, figure_names(plan))
    if name == "sts-panels":
        figure = panels.draw(frame, styles, **common)
    elif name == "sts-heatmaps":
        figure = heatmaps.draw(frame, styles, **common)
    else:
        baseline = name.removeprefix("sts-differences-")
        # Where the baseline has several variants, the first that the config lists is compared with.
        variant = next(run.variant for run in plan.runs if run.method == baseline)
        figure = differences.draw(frame, styles, baseline=baseline, variant=variant, **common)
    provenance = {"experiment": plan.experiment.name, "figure": name, "cells_sha256": sha256_of(cells_file)}
    return theme.save(figure, stem, provenance)


def write_table(plan: Plan, name: str, cells_file: Path, stem: Path) -> list[Path]:
    """Writes one table of the average over the test sets as csv, markdown and LaTeX; returns the files written."""
    from matryobench.analysis import tables
    from matryobench.analysis.cells import AVERAGE, read
    from matryobench.evaluation.sts import METRIC

    writers = {"sts-grid": tables.write_grid, "sts-summary": tables.write_summary}
    if name not in writers:
        raise unknown_name(plan.place, "table", name, writers)
    titles = {name: method.title for name, method in plan.methods.items()}
    return writers[name](read(cells_file), stem, dataset=AVERAGE, metric=METRIC, titles=titles)


def collect(plan: Plan, files: list[Path], out: Path) -> int:
    """Joins the runs' cells tables, adds the average over the test sets; returns the number of rows.

    Raises InputError where a file's rows are not those of the plan's runs.
    """
    from matryobench.analysis import cells

    frame = cells.collect(files, sets={"sts": plan.sts.evaluate})
    found, wanted = set(frame["run_id"]), set(plan.by_id)
    if found != wanted:
        name = sorted(found ^ wanted)[0]
        raise InputError(f"{out}: run {name} is in only one of plan and results; evaluate all runs of the plan again.")
    cells.write(frame, out)
    return len(frame)


def _recipe_titles(plan: Plan) -> dict[str, str]:
    return {name: name.upper() for name in plan.sts.recipes}
