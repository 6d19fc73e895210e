"""How sure the difference of two cells of an experiment is, from the per-item scores of their evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from matryobench import layout
from matryobench.analysis import paired
from matryobench.analysis.cells import AVERAGE, LINE, NATIVE
from matryobench.analysis.items import read_gold
from matryobench.analysis.set_scores import Line, Source, read_sets
from matryobench.config import load_experiment
from matryobench.grid import Cell
from matryobench.tasks import RetrievalTask

SEED = 0
REPLICATES = 2_000
ALPHA = 0.05


def difference_interval(
    folder: Path, cells: pd.DataFrame, task: str, dataset: str, metric: str, first: pd.Series, second: pd.Series
) -> tuple[float, float] | None:
    """Ends of the 95 % percentile-bootstrap interval of first minus second, two rows of `weighing.weigh`.

    Pairs (STS) or queries are drawn again with replacement, the same for both cells, set by set, and correlations or means
    taken anew; an average is over its sets. Trainings are taken as they are: of seeds, the mean. None where the results
    folder lacks the per-item scores or the gold scores, and for mteb, whose items are neither.
    Raises InputError where items do not belong to the cells table.
    """
    names = _sets(folder, task, dataset)
    if not names or (task == "sts" and metric != "spearman_cosine"):
        return None
    picked = cells[(cells["task"] == task) & (cells["metric"] == metric) & (cells["backend"] == NATIVE)]
    picked = picked[picked["dataset"].isin(names) & (_at(picked, first) | _at(picked, second))]
    items = [folder / "evaluation" / run / "items.parquet" for run in picked["run_id"].unique()]
    tables = {name: folder / layout.table(name) for name in names} if task == "sts" else {}
    if not all(file.exists() for file in (*items, *tables.values())):
        return None
    gold = {name: read_gold(file) for name, file in tables.items()}
    lines = [Line(str(row["recipe"]), str(row["method"]), str(row["variant"])) for row in (first, second)]
    places: list[Cell] = [(int(row["layer"]), int(row["dim"])) for row in (first, second)]
    drawn = []
    for one in read_sets([Source(picked, items)], dict.fromkeys(names, metric), list(dict.fromkeys(lines)), gold):
        generator = np.random.default_rng([SEED, *one.dataset.encode()])
        if one.gold is not None:
            values = paired.replicates(one.gold, one.scores.astype(np.float32, copy=False), generator, REPLICATES)
        else:
            values = paired.resampled_means(one.scores.astype(np.float64, copy=False), generator, REPLICATES)
        own, other = (
            values[one.places(line).at([cell])[0]].mean(axis=0) for line, cell in zip(lines, places, strict=True)
        )
        drawn.append(own - other)
    low, high = np.quantile(np.mean(drawn, axis=0), [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def _sets(folder: Path, task: str, dataset: str) -> Sequence[str]:
    """The test sets that a dataset stands for; none where that is not known."""
    if task == "mteb":
        return []
    if dataset != AVERAGE:
        return [dataset]
    config = folder / "experiment.yaml"
    settings = load_experiment(config).tasks.get(task) if config.exists() else None
    if settings is None:
        return []
    return (settings.average if isinstance(settings, RetrievalTask) else []) or settings.sets


def _at(cells: pd.DataFrame, row: pd.Series) -> pd.Series:
    """Which rows of a cells table are of this cell."""
    wanted = [(name, row[name]) for name in (*LINE, "dim")] + [("query_layer", row["layer"])]
    found = pd.Series(True, index=cells.index)
    for name, value in wanted:
        found &= cells[name] == value
    return found
