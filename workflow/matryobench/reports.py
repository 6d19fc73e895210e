"""Figures and tables of an experiment from its cells table: how each of `products` is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench import layout, products
from matryobench.chain.guards import check_runs
from matryobench.chain.sources import Sources
from matryobench.errors import InputError, unknown_name
from matryobench.products import Product

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from matryobench.plan import Plan


def draw_figure(plan: Plan, name: str, cells_file: Path, stem: Path) -> list[Path]:
    """Draws one figure from the cells table and what it needs beside it; returns the files written."""
    from matryobench.figures import theme

    known = products.figures(plan)
    if name not in known:
        raise unknown_name(plan.place, "figure", name, known)
    sources = _sources(plan, known[name], cells_file)
    figure = _figure(plan, known[name], cells_file)
    paths = theme.save(figure, stem, sources.note(f"figures/{name}"))
    return [*paths, sources.sign(f"figures/{name}", paths, noted=paths)]


def _sources(plan: Plan, product: Product, cells_file: Path) -> Sources:
    """The cells table and the files beside it that a figure or table is made from."""
    folder = cells_file.parent
    return Sources.of(plan, folder.parent, [cells_file, *(folder / file for file in product.needs)])


def _figure(plan: Plan, product: Product, cells_file: Path) -> Figure:
    from matryobench.figures import backends, differences, heatmaps, panels, pareto, relative
    from matryobench.figures import coverage as maps
    from matryobench.figures import sizes as size_lines

    frame, styles = _rows(cells_file, product.task), _styles(plan)
    recipes = _recipe_titles(plan, product.task)
    common: dict[str, Any] = {"dataset": product.dataset, "metric": product.metric, "recipes": recipes}
    match product.kind:
        case "panels":
            return panels.draw(frame, styles, methods=product.methods, titles=_paired(plan, product), **common)
        case "heatmaps":
            return heatmaps.draw(frame, styles, **common)
        case "differences":
            baseline = product.baseline or ""
            variant = products.first_variant(plan, product.task, baseline)
            return differences.draw(frame, styles, baseline=baseline, variant=variant, **common)
        case "published-panels" | "published-heatmaps":
            return _beside_published(plan, product, frame, common | {"titles": _paired(plan, product)})
        case "coverage":
            from matryobench.analysis.coverage import read

            return maps.draw(frame, read(cells_file.parent / products.COVERAGE), styles, **common)
        case "pareto":
            return pareto.draw(_weighed(product, frame, cells_file.parent), styles, **common)
        case "sizes":
            groups = _groups(plan, product.task)
            return size_lines.draw(frame, styles, sizes=plan.sizes(product.task), groups=groups, recipes=recipes)
        case "relative":
            return relative.draw(frame, styles, families=products.families(plan), recipes=recipes)
        case _:
            return backends.draw(frame, styles, dataset=product.dataset, metric=product.metric)


def _beside_published(plan: Plan, product: Product, frame: pd.DataFrame, common: dict[str, Any]) -> Figure:
    from matryobench.analysis import published
    from matryobench.figures import side_by_side

    theirs = published.load(plan.tasks[product.task].published or "")
    draw = side_by_side.draw if product.kind == "published-panels" else side_by_side.draw_heatmaps
    native = frame[frame["backend"] == "native"]
    return draw(native, theirs, _styles(plan), shape=plan.known_shape(), methods=product.methods, **common)


def write_table(plan: Plan, name: str, cells_file: Path, stem: Path) -> list[Path]:
    """Writes one table as csv, markdown and LaTeX, from the cells table and what it needs beside it; returns the files
    written."""
    known = products.tables(plan)
    if name not in known:
        raise unknown_name(plan.place, "table", name, known)
    sources = _sources(plan, known[name], cells_file)
    paths = _table(plan, known[name], cells_file, stem)
    return [*paths, sources.sign(f"tables/{name}", paths)]


def _table(plan: Plan, product: Product, cells_file: Path, stem: Path) -> list[Path]:
    from matryobench import expected
    from matryobench.analysis import agreement, expected_tables, relative, variants
    from matryobench.analysis import tables as writers
    from matryobench.analysis.backends import write as write_backends

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
        case "variants":
            order = {name: list(method.variants) for name, method in plan.methods.items()}
            return variants.write(frame, stem, dataset=product.dataset, order=order, **common)
        case "agreement":
            from matryobench.analysis import published

            theirs = published.load(plan.tasks[product.task].published or "")
            native = frame[frame["backend"] == "native"]
            return agreement.write_agreement(
                native, theirs, stem, dataset=product.dataset, shape=plan.known_shape(), **common
            )
        case "deployment":
            from matryobench.deployment.tables import write_deployment

            weighed = _weighed(product, frame, cells_file.parent)
            return write_deployment(weighed, stem, dataset=product.dataset, **common)
        case "tests":
            from matryobench.analysis import grid_tests, tests_table

            tested = grid_tests.read(cells_file.parent / products.grid_tests_file(product.task))
            return tests_table.write(tested, stem, titles)
        case "sizes":
            return _write_sizes(plan, product, frame, cells_file.parent, stem, titles)
        case "relative":
            return relative.write_relative(frame, stem, products.families(plan), titles=titles)
        case "expected":
            return expected_tables.write(expected.compare(frame, plan.experiment.expected), stem, titles)
        case _:
            return write_backends(frame, stem, dataset=product.dataset, **common)


def _write_sizes(
    plan: Plan, product: Product, frame: pd.DataFrame, folder: Path, stem: Path, titles: dict[str, str]
) -> list[Path]:
    """The table at the sizes, with the marks of the paired tests where there is a method to compare with."""
    from matryobench.analysis import significance, sizes

    marks = significance.read(folder / products.significance_file(product.task)) if product.needs else None
    return sizes.write_sizes(
        frame,
        stem,
        sizes=plan.sizes(product.task),
        sets=products.metrics(plan, product.task),
        average=products.averaged_sets(plan, product.task),
        significance=marks,
        note=significance.note(marks, titles) if marks is not None else "",
        titles=titles,
    )


def collect(plan: Plan, tables: list[Path], files: Path, out: Path) -> int:
    """Joins the runs' cells tables, adds the average over the test sets; returns the number of rows.

    `files` is the results folder with the records of runs and evaluations. Raises InputError where a table's rows are not
    those of the plan's runs, and where a run or its evaluation is not what the plan asks for (`guards.check_runs`).
    """
    from matryobench.analysis import cells

    check_runs(plan, files)
    # Everything on the way from tokens to these tables is named by hash in the two records of every run.
    records = [
        files / record(run) for run in plan.by_id for record in (layout.training_record, layout.evaluation_record)
    ]
    sources, behind = Sources.of(plan, files, tables), Sources.of(plan, files, records)
    averaged = {task: products.averaged_sets(plan, task) for task in plan.tasks if task != "mteb"}
    frame = cells.collect(tables, sets=averaged)
    found, wanted = set(frame["run_id"]), set(plan.by_id)
    if found != wanted:
        name = sorted(found ^ wanted)[0]
        raise InputError(f"{out}: run {name} is in only one of plan and results; evaluate all runs of the plan again.")
    cells.write(frame, out)
    # Records hold times, so what stands in the table itself is of the tables that it was joined from alone.
    sources.sign("tables/cells", [out, out.with_suffix(".csv")], facts={"records": behind.inputs})
    return len(frame)


def _groups(plan: Plan, task: str) -> dict[str, tuple[str, list[str]]]:
    """Panels of quality against size: the average, and each retrieval set that is in none."""
    metrics, averaged = products.metrics(plan, task), products.averaged_sets(plan, task)
    name = "STS" if task == "sts" else "retrieval"
    found = {one: (metrics[one], [one]) for one in metrics if one not in averaged}
    metric = metrics[averaged[0]] if task == "sts" else "ndcg@10"
    found[f"{name}, mean of {len(averaged)} sets" if len(averaged) > 1 else averaged[0]] = (metric, list(averaged))
    return found


def _paired(plan: Plan, product: Product) -> dict[str, str] | None:
    """Beside fix-doc, 2dmse is the method whose two sides are paired, and is run once for both figures."""
    both = plan.methods["2dmse"].title if "2dmse" in plan.methods else ""
    return {"2dmse": f"{both} (paired-doc)"} if "fix-doc" in (product.methods or ()) else None


def _styles(plan: Plan) -> dict[str, Any]:
    from matryobench.figures.theme import Style

    return {name: Style(method.title, method.colour, method.marker) for name, method in plan.methods.items()}


def _rows(cells_file: Path, task: str) -> pd.DataFrame:
    """The rows of a task; of all tasks where none is named."""
    from matryobench.analysis.cells import read

    frame = read(cells_file)
    return frame[frame["task"] == task] if task else frame


def _recipe_titles(plan: Plan, task: str) -> dict[str, str]:
    return {name: name.upper() for name in plan.tasks[task].recipes}


def _weighed(product: Product, frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The cells of the product's task with what they cost."""
    from matryobench.deployment import costs, weighing

    measured = costs.read(folder / products.DEPLOYMENT)
    return weighing.weigh(frame, measured, task=product.task, dataset=product.dataset, metric=product.metric)
