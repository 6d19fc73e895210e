"""Jobs that come after the evaluations: tables, tests, figures, claims, costs, notebook, report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from matryobench.config import PretrainedBackbone
from matryobench.deployment.inputs import first_set
from matryobench.estimating.budgets import MEGABYTE, RESIDENT
from matryobench.estimating.evaluating import encoding
from matryobench.estimating.texts import Texts
from matryobench.estimating.work import Job
from matryobench.products import figures, tables
from matryobench.tasks import RetrievalTask

if TYPE_CHECKING:
    from matryobench.estimating.shapes import EncoderShape
    from matryobench.estimating.sizes import Sizes
    from matryobench.plan import Plan

RESAMPLES, FOR_ERRORS = 10_000, 2_000
"""Of `analysis.paired.REPLICATES` and of the standard errors of `analysis.set_tests`."""
FIGURE_BYTES, TABLE_BYTES, PAGE_BYTES = 250_000, 60_000, 12_000_000
CELL_BYTES = 220  # of a row of the cells table, as parquet and CSV
HEAVY = {"coverage": 2.0, "heatmaps": 1.0}  # figures of these kinds: so many figures more


def analysis_jobs(plan: Plan, sizes: Sizes, shape: EncoderShape, gpu: bool) -> Iterator[Job]:
    """Every job of the workflow behind the evaluations, once each."""
    evaluated = tuple(("evaluate", run.run_id) for run in plan.runs)
    trained = tuple(("train", run.run_id) for run in plan.runs)
    cells = sum(len(run.evaluated) * len(plan.tasks[run.task].sets) for run in plan.runs)
    yield _job("collect", None, "tables", after=evaluated, items=10.0 * cells, disk=CELL_BYTES * cells)
    drawn, written = figures(plan), tables(plan)
    needs = {file for product in [*drawn.values(), *written.values()] for file in product.needs}
    for task in plan.tasks:
        if f"{task}-significance.parquet" in needs:
            yield _tests(plan, sizes, "significance", task)
        if f"{task}-grid-tests.parquet" in needs:
            yield _tests(plan, sizes, "test_grids", task)
    if "coverage.csv" in needs:
        yield _job("cover", None, "light", after=trained, disk=TABLE_BYTES)
    yield _measured(plan, shape, gpu)
    yield _job("sum_training_costs", None, "light", after=trained, disk=TABLE_BYTES)
    behind = _behind(plan)
    for name, product in drawn.items():
        after = (("collect", None), *behind)
        yield _job("draw", name, "figures", 1 + HEAVY.get(product.kind, 0.0), after, disk=FIGURE_BYTES)
    for name in written:
        yield _job("tabulate", name, "tables", after=(("collect", None), *behind), disk=TABLE_BYTES)
    yield _job("judge", None, "tables", 2.5, (("collect", None),), disk=TABLE_BYTES)
    made = tuple(("draw", name) for name in drawn) + tuple(("tabulate", name) for name in written)
    yield _job("run_notebook", None, "figures", 3.0, (("collect", None), *behind), disk=800_000)
    yield _job("report", None, "tables", 2.0, (*made, ("judge", None)), disk=PAGE_BYTES)


def _behind(plan: Plan) -> tuple[tuple[str, object], ...]:
    """What figures and tables wait for besides the cells table; those that do not need it lose little by waiting."""
    return ("measure_cost", None), *((rule, task) for task in plan.tasks for rule in ("significance", "test_grids"))


def _tests(plan: Plan, sizes: Sizes, rule: str, task: str) -> Job:
    """Paired tests: resampled correlations of every model at the sizes (or at every cell) on every STS set; of retrieval
    t-tests, which cost nothing besides reading."""
    runs = plan.runs_of(task)
    grid = set(plan.tasks[task].grid.cells())
    wanted = set(plan.sizes(task).values()) if rule == "significance" else grid
    models = sum(len(wanted.intersection(run.evaluated)) for run in runs)
    evaluated = sum(len(run.evaluated) for run in runs)
    resampled = 0.0
    if task == "sts":
        items = sum(sizes.rows(name) for name in plan.sts.evaluate)
        resampled = float(items * models * (RESAMPLES if rule == "significance" else FOR_ERRORS))
    else:
        items = round(sum(sizes.queries(name, 64).count for name in plan.tasks[task].sets))
        if rule == "test_grids":
            resampled = float(items * models * FOR_ERRORS) / 10  # means, not ranks
    read = float(items * evaluated)
    after = (("collect", None), *(("evaluate", run.run_id) for run in runs))
    held = 16.0 * items * models
    return _job(rule, task, "tables", 1.0, after, items=read, resampled=resampled, disk=TABLE_BYTES, held=held)


def _measured(plan: Plan, shape: EncoderShape, gpu: bool) -> Job:
    """What cells cost: single queries and all texts at every layer, an exact search at every dim."""
    settings = plan.experiment.deployment
    amounts: dict[str, float] = {"start_model": 1.0}
    dims: set[int] = set()
    for task in plan.tasks.values():
        layers = sorted({*task.grid.layers, shape.layers})
        dims.update({*task.grid.dims, shape.hidden})
        length = float(task.passage_max_length if isinstance(task, RetrievalTask) else task.max_length)
        length = min(length, 32.0 if task is plan.experiment.sts else length)
        single = Texts.of_mean(settings.repeats + 10, min(length, 32.0))
        passes = Texts.of_mean(4 * settings.max_texts, length)
        for layer in layers:
            for name, value in encoding(shape, single + passes, layer, gpu).items():
                amounts[name] = amounts.get(name, 0.0) + value
            amounts["layer_passes"] += float((layer + 1) * single.count)
    searches = 4 * 64 * settings.documents
    amounts["scores"] = float(searches * len(dims))
    amounts["search_operations"] = 2.0 * searches * sum(dims)
    rule = "pretrain" if isinstance(plan.experiment.backbone, PretrainedBackbone) else "fetch_backbone"
    after: list[tuple[str, object]] = [(rule, None)]
    for name in plan.tasks:
        after.append(("fetch_data", _table_of(plan, first_set(plan, name))))
    held = 8.0 * settings.documents * shape.hidden + 4.0 * shape.parameters()
    memory = RESIDENT["model"] * MEGABYTE + held
    return Job("measure_cost", None, "analyse", amounts, disk=TABLE_BYTES, memory=memory,
               device_memory=held if gpu else 0.0, after=tuple(after), accelerated=True)  # fmt: skip


def _table_of(plan: Plan, name: str) -> str:
    """The largest table of a test set."""
    if name in plan.collections:
        return plan.collections[name].corpus
    return plan.classifications[name].test if name in plan.classifications else name


def _job(
    rule: str, key: object, start: str, starts: float = 1.0, after: tuple[tuple[str, object], ...] = (), *,
    items: float = 0.0, resampled: float = 0.0, disk: float = 0.0, held: float = 0.0,
) -> Job:  # fmt: skip
    amounts = {f"start_{start}": starts, "items": items, "resampled": resampled}
    memory = RESIDENT["figures" if start == "figures" else "tables"] * MEGABYTE + held + 40.0 * items
    return Job(rule, key, "analyse", amounts, disk=disk, memory=memory, after=after)
