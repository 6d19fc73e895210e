"""The figures and tables of an experiment: which exist, and what each is made from. `reports` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from matryobench.published.comparable import COMPARABLE
from matryobench.tasks import FAMILY_METRICS, RetrievalTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matryobench.grid import Cell
    from matryobench.plan import Plan

FIGURE_FORMATS = ("svg", "png", "pdf")
TABLE_FORMATS = ("csv", "md", "tex")
AVERAGE = "average"
COVERAGE = "coverage.csv"
DEPLOYMENT = "deployment.parquet"


@dataclass(frozen=True)
class Product:
    """A figure or table: its kind, what it shows, and of which methods (None: all that were run).

    `needs` are the files beside the experiment's cells table that it is also made from.
    """

    kind: str
    task: str
    dataset: str
    metric: str
    methods: tuple[str, ...] | None = None
    baseline: str | None = None
    needs: tuple[str, ...] = ()


def figures(plan: Plan) -> dict[str, Product]:
    """The figures of an experiment by name.

    Per task and shown dataset: panels per layer (retrieval: one figure for each entry of `panels`), heat-maps, and
    differences from each baseline that is run; where numbers are published, both beside them; where a reference backend
    is run, its agreement with the native runs. Per task: gradient coverage beside scores, and with sizes, quality against
    size; for mteb, relative performance against dim.
    """
    found: dict[str, Product] = {}
    covered = set()
    for task, dataset, metric in shown(plan):
        run = {one.method for one in plan.runs_of(task) if one.backend == "native"}
        ending = _ending(task, dataset, metric)
        for name, methods in _panels(plan, task).items():
            found[f"{task}-panels{name}{ending}"] = Product("panels", task, dataset, metric, methods)
        found[f"{task}-heatmaps{ending}"] = Product("heatmaps", task, dataset, metric)
        for method in plan.tasks[task].baselines:
            if method in run and len(run) > 1:
                name = f"{task}-differences-{method.replace('+', '')}{ending}"
                found[name] = Product("differences", task, dataset, metric, baseline=method)
        for name, product in _beside_published(plan, task, dataset, metric):
            found[f"{name}{ending}"] = product
        if _has_backends(plan, task):
            found[f"{task}-backends{ending}"] = Product("backends", task, dataset, metric)
        if task not in covered:  # the map is the same for every dataset
            found[f"{task}-coverage"] = Product("coverage", task, dataset, metric, needs=(COVERAGE,))
            covered.add(task)
    for task, ending, metric in _weighed(plan):
        found[f"{task}-pareto{ending}"] = Product("pareto", task, AVERAGE, metric, needs=(DEPLOYMENT,))
    for task in plan.tasks:
        if _has_sizes(plan, task):
            found[f"{task}-sizes"] = Product("sizes", task, AVERAGE, "")
    if _has_relative(plan):
        found["mteb-relative"] = Product("relative", "mteb", AVERAGE, "", baseline="ff")
    return found


def tables(plan: Plan) -> dict[str, Product]:
    """The tables of an experiment by name.

    Per task and shown dataset: grid and summary, for retrieval also the bands of dims and the single sets; where several
    variants of a method are run, their differences; where numbers are published, the agreement with them; where a
    reference backend is run, how far it agrees. Per task, how many cells differ from the baselines beyond chance, and the
    scores at the sizes. Of the whole experiment, its expected values, if it names any.
    """
    found: dict[str, Product] = {}
    for task, dataset, metric in shown(plan):
        ending = _ending(task, dataset, metric)
        kinds = ["grid", "summary"] + (["bands"] if task == "retrieval" else [])
        kinds += ["backends"] if _has_backends(plan, task) else []
        kinds += ["variants"] if _has_variants(plan, task) else []
        kinds += ["agreement"] if is_published(plan, task, dataset, metric) else []
        for kind in kinds:
            found[f"{task}-{kind}{ending}"] = Product(kind, task, dataset, metric)
    for task, ending, metric in _weighed(plan):
        found[f"{task}-deployment{ending}"] = Product("deployment", task, AVERAGE, metric, needs=(DEPLOYMENT,))
    if plan.experiment.retrieval is not None:
        found["retrieval-sets"] = Product("sets", "retrieval", AVERAGE, "ndcg@10")
    for task in plan.tasks:
        if tested_against(plan, task):
            found[f"{task}-tests"] = Product("tests", task, "", "", needs=(grid_tests_file(task),))
        if _has_sizes(plan, task):
            method = reference(plan, task)
            needs = (significance_file(task),) if method is not None else ()
            found[f"{task}-sizes"] = Product("sizes", task, AVERAGE, "", baseline=method, needs=needs)
    if _has_relative(plan):
        found["mteb-relative"] = Product("relative", "mteb", AVERAGE, "", baseline="ff")
    if plan.experiment.expected:
        found["expected"] = Product("expected", "", "", "")
    return found


def tested_against(plan: Plan, task: str) -> list[str]:
    """The baselines of a task whose per-item scores every other method is tested against on the whole grid."""
    run = {(one.method, one.variant, one.recipe) for one in plan.runs_of(task) if one.backend == "native"}
    found = []
    for method in plan.tasks[task].baselines if task != "mteb" else ():
        variant = first_variant(plan, task, method) if method in {name for name, _, _ in run} else None
        recipes = {recipe for name, own, recipe in run if (name, own) == (method, variant)}
        if any(recipe in recipes and (name, own) != (method, variant) for name, own, recipe in run):
            found.append(method)
    return found


def grid_tests_file(task: str) -> str:
    """The table of the tests of every cell against the baselines."""
    return f"{task}-grid-tests.parquet"


def significance_file(task: str) -> str:
    """The table of the paired tests at a task's sizes."""
    return f"{task}-significance.parquet"


def reference(plan: Plan, task: str) -> str | None:
    """The method that the others are compared with at the sizes, None where there is none to compare."""
    run = {one.method for one in plan.runs_of(task) if one.backend == "native"}
    method = plan.tasks[task].reference or "starbucks"
    return method if method in run and len(run) > 1 and _has_sizes(plan, task) and task != "mteb" else None


def shown(plan: Plan) -> list[tuple[str, str, str]]:
    """(task, dataset, metric) that figures are drawn for: the averages, and the retrieval sets that are in none."""
    found = []
    if plan.experiment.sts is not None:
        found.append(("sts", AVERAGE, "spearman_cosine"))
    if plan.experiment.retrieval is not None:
        averaged = averaged_sets(plan, "retrieval")
        single = [name for name in plan.retrieval.evaluate if name not in averaged or len(averaged) == 1]
        found += [("retrieval", name, plan.collections[name].metric) for name in single]
        if len(averaged) > 1:
            found.append(("retrieval", AVERAGE, "ndcg@10"))
    if plan.experiment.mteb is not None and len(plan.mteb.grid.layers) > 1:
        for family in plan.mteb.evaluate:
            found.append(("mteb", AVERAGE, FAMILY_METRICS[family]))
    return found


def averaged_sets(plan: Plan, task: str) -> list[str]:
    """The test sets that the average of a task (sts, retrieval) is over."""
    settings = plan.tasks[task]
    return (settings.average if isinstance(settings, RetrievalTask) else []) or settings.sets


def averages(plan: Plan) -> dict[tuple[str, str], list[str]]:
    """The test sets that the average of each task and metric is over."""
    found = {(task, metric): averaged_sets(plan, task) for task, _, metric in shown(plan) if task != "mteb"}
    if plan.experiment.mteb is not None:
        found |= {("mteb", FAMILY_METRICS[family]): names for family, names in plan.mteb.evaluate.items()}
    return found


def is_published(plan: Plan, task: str, dataset: str, metric: str) -> bool:
    """Whether the numbers that the task names have this dataset and metric, over the same sets if it is the average, and
    one of the methods and recipes that are run."""
    name = plan.tasks[task].published
    if name is None:
        return False
    published = COMPARABLE[name]
    if dataset == AVERAGE and set(averaged_sets(plan, task)) != set(published.averages.get(task, ())):
        return False
    known = published.shown.get((task, dataset, metric), ())
    run = [one for one in plan.runs_of(task) if one.backend == "native" and one.method in known]
    return any(not published.recipes or one.recipe in published.recipes for one in run)


def metrics(plan: Plan, task: str) -> dict[str, str]:
    """The metric that each test set of a task is reported by."""
    if task == "sts":
        return dict.fromkeys(plan.sts.evaluate, "spearman_cosine")
    return {name: plan.collections[name].metric for name in plan.retrieval.evaluate}


def first_variant(plan: Plan, task: str, method: str) -> str:
    """The variant that stands for a method that others are compared with: the first that the config lists."""
    return next(run.variant for run in plan.runs_of(task) if run.method == method)


def families(plan: Plan) -> dict[str, list[str]]:
    """The mteb task's test sets by family."""
    return {str(family): names for family, names in plan.mteb.evaluate.items()}


def _ending(task: str, dataset: str, metric: str) -> str:
    """What tells the products of a task's datasets apart; mteb has an average per family, told apart by its metric."""
    return {"sts": "", "mteb": f"-{metric.partition('@')[0]}"}.get(task, f"-{dataset}")


def _panels(plan: Plan, task: str) -> dict[str, tuple[str, ...] | None]:
    """The figures of panels by the end of their names, with the run methods in each."""
    settings = plan.tasks[task]
    if not isinstance(settings, RetrievalTask):
        return {"": None}
    run = {one.method for one in plan.runs_of(task)}
    kept = {f"-{name}": tuple(m for m in methods if m in run) for name, methods in settings.panels.items()}
    return {name: methods for name, methods in kept.items() if methods}


def _beside_published(plan: Plan, task: str, dataset: str, metric: str) -> Iterator[tuple[str, Product]]:
    if not is_published(plan, task, dataset, metric):
        return
    published = COMPARABLE[plan.tasks[task].published or ""]
    if not published.grid:
        return
    known = published.shown[task, dataset, metric]
    run = {one.method for one in plan.runs_of(task) if one.backend == "native"}
    for name, methods in _panels(plan, task).items():
        both = tuple(method for method in methods or sorted(run) if method in known)
        if both:
            yield f"{task}-published-panels{name}", Product("published-panels", task, dataset, metric, both)
    yield f"{task}-published-heatmaps", Product("published-heatmaps", task, dataset, metric)


def _has_sizes(plan: Plan, task: str) -> bool:
    """Whether the task names sizes that are on its grid, so that methods can be compared at them."""
    grid = plan.tasks[task].grid
    sizes = plan.sizes(task).values() if task != "mteb" else []
    return bool(sizes) and all(layer in grid.layers and dim in grid.dims for layer, dim in sizes)


def _has_relative(plan: Plan) -> bool:
    """Whether the mteb task has ff, which performance is relative to."""
    return plan.experiment.mteb is not None and "ff" in {run.method for run in plan.runs_of("mteb")}


def _has_variants(plan: Plan, task: str) -> bool:
    """Whether two variants of a method have a common cell in a recipe."""
    cells: dict[tuple[str, str], dict[str, set[Cell]]] = {}
    for run in plan.runs_of(task):
        if run.backend == "native":
            cells.setdefault((run.method, run.recipe), {}).setdefault(run.variant, set()).update(run.evaluated)
    return any(one & other for held in cells.values() for one, other in combinations(held.values(), 2))


def _has_backends(plan: Plan, task: str) -> bool:
    return any(run.backend != "native" for run in plan.runs_of(task))


def _weighed(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """(task, ending of names, metric) that is weighed against cost: the average of each task, for mteb of each family."""
    if plan.experiment.sts is not None:
        yield "sts", "", "spearman_cosine"
    if plan.experiment.retrieval is not None:
        yield "retrieval", "", "ndcg@10"
    if plan.experiment.mteb is not None:
        for family in plan.mteb.evaluate:
            yield "mteb", f"-{family}", FAMILY_METRICS[family]
