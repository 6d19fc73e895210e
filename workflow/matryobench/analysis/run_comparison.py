"""`matryobench compare RUN_A RUN_B`: two evaluations, cell by cell, from what lies in their folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from matryobench import layout
from matryobench.analysis import cells
from matryobench.analysis.grid_tests import compare_lines, lines_of
from matryobench.analysis.items import read_gold
from matryobench.analysis.set_scores import Source
from matryobench.analysis.set_tests import Options
from matryobench.errors import InputError, unknown_name


def compare_runs(
    first: str | Path,
    second: str | Path,
    *,
    metric: str | None = None,
    data: Path | None = None,
    options: Options,
) -> pd.DataFrame:
    """The first evaluation minus the second on their common cells and test sets, as a table with grid_tests.COLUMNS.

    Each is an evaluation folder (results/<experiment>/evaluation/<run id>), or a pattern with * for all seeds of a method,
    or for the runs of one that trains each cell alone. `metric` is of retrieval sets (None: each collection's own, ndcg@10
    where the registry has none). `data` is the folder of STS sets with the gold scores (None: data/ beside the first
    one's evaluation/). Raises InputError for a folder without an evaluation, several methods on one side, two tasks, no
    common set or cell, an unknown metric, and as `grid_tests.compare_lines` does.
    """
    sides = [_source(str(one)) for one in (first, second)]
    tasks = [str(side.frame["task"].iloc[0]) for side in sides]
    if tasks[0] != tasks[1]:
        raise InputError(f"{first} is of the task {tasks[0]} and {second} of {tasks[1]}; compare runs of one task.")
    task = tasks[0]
    held = [set(side.frame["dataset"]) for side in sides]
    names = [str(name) for name in sides[0].frame["dataset"].unique() if name in held[1]]
    if not names:
        raise InputError(f"{first} and {second} have no test set in common; evaluate both on the same sets.")
    if task == "sts":
        sets = dict.fromkeys(names, metric or "spearman_cosine")
        folder = data or Path(sides[0].items[0]).parent.parent.parent / Path(layout.table("")).parent
        gold = {name: read_gold(folder / Path(layout.table(name)).name) for name in names}
    else:
        sets, gold = _retrieval_metrics(names, metric, sides[0].frame), {}
    pair = lines_of(sides[0].frame, 0)[0], lines_of(sides[1].frame, 1)[0]
    return compare_lines(sides, [pair], gold, sets=sets, options=options)


def _source(pattern: str) -> Source:
    """The evaluations that a folder or pattern names, which must be of one method, without averages."""
    folders = _folders(pattern)
    frame = pd.concat([cells.read(folder / "cells.parquet") for folder in folders], ignore_index=True)
    frame = cells.check(frame[frame["dataset"] != cells.AVERAGE], pattern)
    for column in ("task", "recipe", "method", "variant", "backend"):
        found = sorted(frame[column].unique())
        if len(found) > 1:
            raise InputError(f"{pattern} names runs of several {column}s ({', '.join(found)}); narrow it to one.")
    return Source(frame, [folder / "items.parquet" for folder in folders], str(frame["backend"].iloc[0]))


def _folders(pattern: str) -> Sequence[Path]:
    path = Path(pattern)
    if "*" in pattern:
        found = sorted(one for one in path.parent.glob(path.name) if (one / "cells.parquet").is_file())
        if not found:
            raise InputError(f"{pattern} names no evaluation folder; give one of results/<experiment>/evaluation.")
        return found
    for name in ("cells.parquet", "items.parquet"):
        if not (path / name).is_file():
            raise InputError(f"{path} has no {name}; give a folder of results/<experiment>/evaluation.")
    return [path]


def _retrieval_metrics(names: Sequence[str], metric: str | None, frame: pd.DataFrame) -> dict[str, str]:
    if metric is not None:
        if metric not in set(frame["metric"]):
            raise unknown_name("--metric", "metric", metric, frame["metric"].unique())
        return dict.fromkeys(names, metric)
    from matryobench.data.registry import load_collections
    from matryobench.paths import DATASETS

    known = load_collections(DATASETS)
    return {name: known[name].metric if name in known else "ndcg@10" for name in names}
