"""What an experiment's results say beyond its scores: tests at the sizes, gradient coverage, verdicts on the claims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench import layout, products
from matryobench.chain.sources import Sources
from matryobench.errors import InputError
from matryobench.paths import CLAIMS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from matryobench.plan import Plan


def write_significance(plan: Plan, task: str, cells_file: Path, items: Sequence[Path], files: Path, out: Path) -> int:
    """Tests every method of a task against the reference at the sizes, from per-item scores; returns the comparisons.

    `files` is the results folder, for the gold scores of STS sets; `out` is the .parquet file (a .csv goes beside it).
    """
    from matryobench.analysis import significance

    method = products.reference(plan, task)
    if method is None:
        raise InputError(f"{plan.place}: {task} has no method to compare with at sizes; run '{task}.reference' of it.")
    common: dict[str, Any] = {
        "sizes": plan.sizes(task), "sets": products.metrics(plan, task), "reference": method,
        "variant": products.first_variant(plan, task, method),
    }  # fmt: skip
    sources = _tested(plan, task, cells_file, items, files)
    frame = _rows(cells_file, task)
    if task == "sts":
        gold, seed = _gold(plan, task, files), plan.experiment.seeds[0].name
        table = significance.compare_sts(frame, items, gold, seed=seed, **common)
    else:
        table = significance.compare_retrieval(frame, items, **common)
    significance.write(table, out)
    sources.sign(f"tables/{out.stem}", [out, out.with_suffix(".csv")])
    return len(table)


def write_grid_tests(plan: Plan, task: str, cells_file: Path, items: Sequence[Path], files: Path, out: Path) -> int:
    """Tests every cell of every method against the task's baselines, from per-item scores; returns the comparisons.

    `files` and `out` are as in `write_significance`.
    """
    import pandas as pd

    from matryobench.analysis import grid_tests
    from matryobench.analysis.set_tests import Options

    baselines = products.tested_against(plan, task)
    if not baselines:
        raise InputError(
            f"{plan.place}: {task} runs none of its baselines beside another method; nothing can be tested."
        )
    sources = _tested(plan, task, cells_file, items, files)
    frame = _rows(cells_file, task)
    tables = [
        grid_tests.compare_with(
            frame,
            items,
            _gold(plan, task, files),
            sets=products.metrics(plan, task),
            reference=method,
            variant=products.first_variant(plan, task, method),
            averaged=products.averaged_sets(plan, task),
            options=Options(seed=plan.experiment.seeds[0].name),
        )
        for method in baselines
    ]
    whole = pd.concat(tables, ignore_index=True)
    grid_tests.write(whole, out)
    sources.sign(f"tables/{out.stem}", [out, out.with_suffix(".csv")])
    return len(whole)


def write_coverage(plan: Plan, records: Sequence[Path], out: Path) -> int:
    """Writes the gradient-coverage map of the finished runs (their run.json) as csv; returns its number of rows."""
    from matryobench.analysis import coverage

    sources = Sources.of(plan, out.parent.parent, records)
    table = coverage.table(plan, coverage.recorded(plan, records))
    coverage.write(table, out)
    sources.sign("tables/coverage", [out])
    return len(table)


def write_claims(plan: Plan, cells_file: Path, stem: Path) -> list[Path]:
    """Writes the verdicts on the papers' claims, by the published numbers and by this experiment, as csv, md and html."""
    from matryobench.analysis import published
    from matryobench.analysis.cells import read
    from matryobench.claims.evaluate import Setting, evaluate, evaluate_published
    from matryobench.claims.registry import load_claims
    from matryobench.claims.tables import Side, write

    sources = Sources.of(plan, cells_file.parent.parent, [cells_file, CLAIMS])
    known = load_claims()
    setting = Setting(
        shape=plan.known_shape(),
        sizes={task: plan.sizes(task) for task in plan.tasks},
        stand_ins=plan.retrieval.stand_ins if plan.experiment.retrieval is not None else {},
        averages=products.averages(plan),
    )
    hrefs = {name: f"../figures/{name}.svg" for name in products.figures(plan)}
    sides = [
        Side("published", evaluate_published(known, {name: published.load(name) for name in published.EXPERIMENTS})),
        Side(plan.experiment.name, evaluate(known, read(cells_file), setting), hrefs),
    ]
    paths = write(known, sides, stem)
    return [*paths, sources.sign("tables/claims", paths)]


def _tested(plan: Plan, task: str, cells_file: Path, items: Sequence[Path], files: Path) -> Sources:
    """The cells table, the per-item scores and, of STS, the test sets with the gold scores."""
    gold = [files / layout.table(name) for name in plan.sts.evaluate] if task == "sts" else []
    return Sources.of(plan, files, [cells_file, *items, *gold])


def _rows(cells_file: Path, task: str) -> pd.DataFrame:
    from matryobench.analysis.cells import read

    frame = read(cells_file)
    return frame[frame["task"] == task]


def _gold(plan: Plan, task: str, files: Path) -> dict[str, NDArray[np.float64]]:
    """The gold scores of the task's test sets; retrieval's items carry theirs."""
    from matryobench.analysis.items import read_gold

    return {name: read_gold(files / layout.table(name)) for name in plan.sts.evaluate} if task == "sts" else {}
