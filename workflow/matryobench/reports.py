"""Figures and tables of an experiment from its cells table: which exist, and how each is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.errors import InputError, unknown_name
from matryobench.files import sha256_of
from matryobench.tasks import FAMILY_METRICS, RetrievalTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from matryobench.plan import Plan

FIGURE_FORMATS = ("svg", "png", "pdf")
TABLE_FORMATS = ("csv", "md", "tex")
AVERAGE = "average"


@dataclass(frozen=True)
class Product:
    """A figure or table: its kind, what it shows, and of which methods (None: all that were run)."""

    kind: str
    task: str
    dataset: str
    metric: str
    methods: tuple[str, ...] | None = None
    baseline: str | None = None


def figures(plan: Plan) -> dict[str, Product]:
    """The figures of an experiment by name.

    Per task and shown dataset: panels per layer (retrieval: one figure for each entry of `panels`), heat-maps, and
    differences from each baseline that is run; where a reference backend is run, its agreement with the native runs.
    Per task with sizes, quality against size; for mteb, relative performance against dim.
    """
    found: dict[str, Product] = {}
    for task, dataset, metric in _shown(plan):
        run = {one.method for one in plan.runs_of(task)}
        stem, ending = task, "" if task == "sts" else f"-{dataset}"
        if task == "mteb":
            ending = f"-{metric.partition('@')[0]}"  # an average per family, told apart by its metric
        settings = plan.tasks[task]
        if isinstance(settings, RetrievalTask):
            for name, methods in settings.panels.items():
                kept = tuple(method for method in methods if method in run)
                if kept:
                    found[f"{stem}-panels-{name}{ending}"] = Product("panels", task, dataset, metric, kept)
        else:
            found[f"{stem}-panels{ending}"] = Product("panels", task, dataset, metric)
        found[f"{stem}-heatmaps{ending}"] = Product("heatmaps", task, dataset, metric)
        for method in settings.baselines:
            if method in run:
                name = f"{stem}-differences-{method.replace('+', '')}{ending}"
                found[name] = Product("differences", task, dataset, metric, baseline=method)
        if _has_backends(plan, task):
            found[f"{stem}-backends{ending}"] = Product("backends", task, dataset, metric)
    for task in plan.tasks:
        if _has_sizes(plan, task):
            found[f"{task}-sizes"] = Product("sizes", task, AVERAGE, "")
    if _has_relative(plan):
        found["mteb-relative"] = Product("relative", "mteb", AVERAGE, "", baseline="ff")
    return found


def tables(plan: Plan) -> dict[str, Product]:
    """The tables of an experiment by name: grid and summary per task and shown dataset, for retrieval also the bands of
    dims and the single sets, and where a reference backend is run, how far it agrees."""
    found: dict[str, Product] = {}
    for task, dataset, metric in _shown(plan):
        ending = "" if task == "sts" else f"-{dataset}"
        if task == "mteb":
            ending = f"-{metric.partition('@')[0]}"
        kinds = ["grid", "summary"] + (["bands"] if task == "retrieval" else [])
        kinds += ["backends"] if _has_backends(plan, task) else []
        for kind in kinds:
            found[f"{task}-{kind}{ending}"] = Product(kind, task, dataset, metric)
    if plan.experiment.retrieval is not None:
        found["retrieval-sets"] = Product("sets", "retrieval", AVERAGE, "ndcg@10")
    for task in plan.tasks:
        if _has_sizes(plan, task):
            found[f"{task}-sizes"] = Product("sizes", task, AVERAGE, "", baseline=reference(plan, task))
    if _has_relative(plan):
        found["mteb-relative"] = Product("relative", "mteb", AVERAGE, "", baseline="ff")
    return found


def reference(plan: Plan, task: str) -> str | None:
    """The method that the others are compared with at the sizes, None where there is none to compare."""
    run = {one.method for one in plan.runs_of(task) if one.backend == "native"}
    method = plan.tasks[task].reference or "starbucks"
    return method if method in run and len(run) > 1 and _has_sizes(plan, task) and task != "mteb" else None


def compare(plan: Plan, task: str, cells_file: Path, items: Sequence[Path], files: Path, out: Path) -> int:
    """Tests every method of a task against the reference at the sizes, from per-item scores; returns the comparisons.

    `files` is the results folder, for the gold scores of STS sets; `out` is the .parquet file (a .csv goes beside it).
    """
    from matryobench import layout
    from matryobench.analysis import significance
    from matryobench.analysis.items import read_gold

    method = reference(plan, task)
    if method is None:
        raise InputError(f"{plan.place}: {task} has no method to compare with at sizes; run '{task}.reference' of it.")
    common: dict[str, Any] = {
        "sizes": plan.sizes(task), "sets": _metrics(plan, task), "reference": method,
        "variant": _first_variant(plan, task, method),
    }  # fmt: skip
    frame = _rows(cells_file, task)
    if task == "sts":
        gold = {name: read_gold(files / layout.table(name)) for name in plan.sts.evaluate}
        table = significance.compare_sts(frame, items, gold, seed=plan.experiment.seeds[0].name, **common)
    else:
        table = significance.compare_retrieval(frame, items, **common)
    significance.write(table, out)
    return len(table)


def figure_names(plan: Plan) -> list[str]:
    """Names of the figures."""
    return list(figures(plan))


def table_names(plan: Plan) -> list[str]:
    """Names of the tables."""
    return list(tables(plan))


def draw_figure(plan: Plan, name: str, cells_file: Path, stem: Path) -> list[Path]:
    """Draws one figure from the cells table; returns the files written."""
    from matryobench.figures import differences, heatmaps, panels, relative, theme
    from matryobench.figures import sizes as size_lines
    from matryobench.figures.backends import draw as draw_backends

    known = figures(plan)
    if name not in known:
        raise unknown_name(plan.place, "figure", name, known)
    product = known[name]
    frame = _rows(cells_file, product.task)
    styles = {name: theme.Style(m.title, m.colour, m.marker) for name, m in plan.methods.items()}
    common: dict[str, Any] = {
        "dataset": product.dataset, "metric": product.metric, "recipes": _recipe_titles(plan, product.task),
    }  # fmt: skip
    if product.kind == "panels":
        # Beside fix-doc, 2dmse is the method whose two sides are paired, and is run once for both figures.
        both = plan.methods["2dmse"].title if "2dmse" in plan.methods else ""
        titles = {"2dmse": f"{both} (paired-doc)"} if "fix-doc" in (product.methods or ()) else None
        figure = panels.draw(frame, styles, methods=product.methods, titles=titles, **common)
    elif product.kind == "heatmaps":
        figure = heatmaps.draw(frame, styles, **common)
    elif product.kind == "sizes":
        groups = _groups(plan, product.task)
        figure = size_lines.draw(
            frame, styles, sizes=plan.sizes(product.task), groups=groups, recipes=common["recipes"]
        )
    elif product.kind == "relative":
        figure = relative.draw(frame, styles, families=_families(plan), recipes=common["recipes"])
    elif product.baseline is None:
        figure = draw_backends(frame, styles, dataset=product.dataset, metric=product.metric)
    else:
        variant = _first_variant(plan, product.task, product.baseline)
        figure = differences.draw(frame, styles, baseline=product.baseline, variant=variant, **common)
    provenance = {"experiment": plan.experiment.name, "figure": name, "cells_sha256": sha256_of(cells_file)}
    return theme.save(figure, stem, provenance)


def write_table(plan: Plan, name: str, cells_file: Path, stem: Path, compared: Path | None = None) -> list[Path]:
    """Writes one table as csv, markdown and LaTeX; returns the files written.

    `compared`: what `compare` wrote, for the marks of a table at the sizes.
    """
    from matryobench.analysis import relative, significance
    from matryobench.analysis import sizes as size_tables
    from matryobench.analysis import tables as writers
    from matryobench.analysis.backends import write as write_backends

    known = tables(plan)
    if name not in known:
        raise unknown_name(plan.place, "table", name, known)
    product = known[name]
    frame = _rows(cells_file, product.task)
    titles = {name: method.title for name, method in plan.methods.items()}
    common: dict[str, Any] = {"metric": product.metric, "titles": titles}
    match product.kind:
        case "grid":
            return writers.write_grid(frame, stem, dataset=product.dataset, **common)
        case "summary":
            return writers.write_summary(frame, stem, dataset=product.dataset, **common)
        case "bands":
            return writers.write_bands(frame, stem, dataset=product.dataset, bands=plan.retrieval.bands, **common)
        case "sets":
            return writers.write_sets(frame, stem, cells=list(plan.sizes("retrieval").values()), **common)
        case "sizes":
            marks = significance.read(compared) if compared is not None else None
            return size_tables.write_sizes(
                frame,
                stem,
                sizes=plan.sizes(product.task),
                sets=_metrics(plan, product.task),
                average=_averaged(plan, product.task),
                significance=marks,
                note=significance.note(marks, titles) if marks is not None else "",
                titles=titles,
            )
        case "relative":
            return relative.write_relative(frame, stem, _families(plan), titles=titles)
        case _:
            return write_backends(frame, stem, dataset=product.dataset, **common)


def write_claims(plan: Plan, cells_file: Path, stem: Path) -> list[Path]:
    """Writes the verdicts on the papers' claims, by the published numbers and by this experiment, as csv, md and html."""
    from matryobench.analysis import published
    from matryobench.analysis.cells import read
    from matryobench.claims.evaluate import Setting, evaluate, evaluate_published
    from matryobench.claims.registry import load_claims
    from matryobench.claims.tables import Side, write

    known = load_claims()
    layers, hidden = plan.shape.layers, plan.shape.hidden
    setting = Setting(
        shape=(layers, hidden) if layers is not None and hidden is not None else None,
        sizes={task: plan.sizes(task) for task in plan.tasks},
        averages=_averages(plan),
    )
    hrefs = {name: f"../figures/{name}.svg" for name in figures(plan)}
    sides = [
        Side("published", evaluate_published(known, {name: published.load(name) for name in published.EXPERIMENTS})),
        Side(plan.experiment.name, evaluate(known, read(cells_file), setting), hrefs),
    ]
    return write(known, sides, stem)


def collect(plan: Plan, files: list[Path], out: Path) -> int:
    """Joins the runs' cells tables, adds the average over the test sets; returns the number of rows.

    Raises InputError where a file's rows are not those of the plan's runs.
    """
    from matryobench.analysis import cells

    frame = cells.collect(files, sets={task: _averaged(plan, task) for task in plan.tasks if task != "mteb"})
    found, wanted = set(frame["run_id"]), set(plan.by_id)
    if found != wanted:
        name = sorted(found ^ wanted)[0]
        raise InputError(f"{out}: run {name} is in only one of plan and results; evaluate all runs of the plan again.")
    cells.write(frame, out)
    return len(frame)


def _shown(plan: Plan) -> list[tuple[str, str, str]]:
    """(task, dataset, metric) that figures are drawn for: the averages, and the retrieval sets that are in none."""
    shown = []
    if plan.experiment.sts is not None:
        shown.append(("sts", AVERAGE, "spearman_cosine"))
    if plan.experiment.retrieval is not None:
        averaged = _averaged(plan, "retrieval")
        single = [name for name in plan.retrieval.evaluate if name not in averaged or len(averaged) == 1]
        shown += [("retrieval", name, plan.collections[name].metric) for name in single]
        if len(averaged) > 1:
            shown.append(("retrieval", AVERAGE, "ndcg@10"))
    if plan.experiment.mteb is not None and len(plan.mteb.grid.layers) > 1:
        for family in plan.mteb.evaluate:
            shown.append(("mteb", AVERAGE, FAMILY_METRICS[family]))
    return shown


def _metrics(plan: Plan, task: str) -> dict[str, str]:
    """The test sets of a task with sizes and the metric that each is reported by."""
    if task == "sts":
        return dict.fromkeys(plan.sts.evaluate, "spearman_cosine")
    return {name: plan.collections[name].metric for name in plan.retrieval.evaluate}


def _groups(plan: Plan, task: str) -> dict[str, tuple[str, list[str]]]:
    """Panels of quality against size: the average, and each retrieval set that is in none."""
    metrics, averaged = _metrics(plan, task), _averaged(plan, task)
    name = "STS" if task == "sts" else "retrieval"
    found = {one: (metrics[one], [one]) for one in metrics if one not in averaged}
    metric = metrics[averaged[0]] if task == "sts" else "ndcg@10"
    found[f"{name}, mean of {len(averaged)} sets" if len(averaged) > 1 else averaged[0]] = (metric, list(averaged))
    return found


def _has_sizes(plan: Plan, task: str) -> bool:
    """Whether quality against size is reported: sizes are named and on the grid. (mteb has the figure of its own.)"""
    grid = plan.tasks[task].grid
    sizes = plan.sizes(task).values() if task != "mteb" else []
    return bool(sizes) and all(layer in grid.layers and dim in grid.dims for layer, dim in sizes)


def _has_relative(plan: Plan) -> bool:
    """Whether the mteb task has ff, which performance is relative to."""
    return plan.experiment.mteb is not None and "ff" in {run.method for run in plan.runs_of("mteb")}


def _families(plan: Plan) -> dict[str, list[str]]:
    return {str(family): names for family, names in plan.mteb.evaluate.items()}


def _first_variant(plan: Plan, task: str, method: str) -> str:
    """The variant that stands for a method that others are compared with: the first that the config lists."""
    return next(run.variant for run in plan.runs_of(task) if run.method == method)


def _averages(plan: Plan) -> dict[tuple[str, str], list[str]]:
    """The test sets that the average of each task and metric is over."""
    found = {(task, metric): _averaged(plan, task) for task, _, metric in _shown(plan) if task != "mteb"}
    if plan.experiment.mteb is not None:
        found |= {("mteb", FAMILY_METRICS[family]): names for family, names in plan.mteb.evaluate.items()}
    return found


def _averaged(plan: Plan, task: str) -> list[str]:
    settings = plan.tasks[task]
    return (settings.average if isinstance(settings, RetrievalTask) else []) or settings.sets


def _has_backends(plan: Plan, task: str) -> bool:
    return any(run.backend != "native" for run in plan.runs_of(task))


def _rows(cells_file: Path, task: str) -> pd.DataFrame:
    from matryobench.analysis.cells import read

    frame = read(cells_file)
    return frame[frame["task"] == task]


def _recipe_titles(plan: Plan, task: str) -> dict[str, str]:
    return {name: name.upper() for name in plan.tasks[task].recipes}
