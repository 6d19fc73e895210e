"""The cells table: one row per (run, dataset, cell), the only form in which scores travel between steps.

Layer `l` in 1..L is `hidden_states[l]` and dim `d` its first `d` coordinates; `query_layer` is the layer of the query
side and `layer` that of the document side, which differ only where a method keeps its documents at one layer (fix-doc).
`backend` is what trained the run: this program, or a reference library that it is compared with. Every metric here is
"more is better".
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from matryobench.analysis import frames
from matryobench.errors import InputError, unknown_name
from matryobench.tasks import Backend

AVERAGE = "average"
NATIVE = "native"
BACKENDS: tuple[str, ...] = get_args(Backend)
TEXT = ("experiment", "task", "dataset", "metric", "method", "variant", "recipe", "backend", "run_id")
INTEGERS = {"seed": 0, "query_layer": 1, "layer": 1, "dim": 1, "n_items": 1}  # column -> least valid value
COLUMNS = (
    *("experiment", "task", "dataset", "metric", "method", "variant", "recipe", "backend", "seed"),
    *("query_layer", "layer", "dim", "value", "n_items", "run_id"),
)
KEY = ("dataset", "metric", "method", "variant", "recipe", "backend", "seed", "query_layer", "layer", "dim")
LINE = ["recipe", "method", "variant"]
"""What one line of a figure, or one row of a table, stands for."""

_KIND = "a cells table"
_ORDER = ["experiment", "task", *KEY]
_RUN = ["experiment", "task", "method", "variant", "recipe", "backend", "seed"]  # constant within a run


def check(frame: pd.DataFrame, place: str = "cells table", first_line: int = 1) -> pd.DataFrame:
    """A valid copy of `frame`: the columns in COLUMNS order, text, int64 and float64, rows in the given order.

    `place` names the table in errors and `first_line` is the line of its first row.
    Raises InputError for a missing or extra column, no rows, empty text, a backend that is none of BACKENDS, a number
    that is not finite, not whole or too small, and two rows for the same cell.
    """
    missing = [name for name in COLUMNS if name not in frame.columns]
    extra = [str(name) for name in frame.columns if name not in COLUMNS]
    if missing or extra or frame.columns.has_duplicates:
        parts = [f"lacks the column(s) {', '.join(missing)}"] * bool(missing)
        parts += [f"has the unknown column(s) {', '.join(extra)}"] * bool(extra)
        problem = " and ".join(parts) or "has a column twice"
        raise InputError(f"{place} {problem}; a cells table has exactly these columns: {', '.join(COLUMNS)}.")
    if frame.empty:
        raise InputError(f"{place} has no rows; evaluate at least one run before using it.")
    valid = frame.loc[:, list(COLUMNS)].reset_index(drop=True)
    for name in TEXT:
        empty = valid[name].isna() | (valid[name].astype("str").str.strip() == "")
        _refuse(valid, empty, name, place, first_line, "is empty; give every row a value")
        valid[name] = valid[name].astype("str")
    wrong = f"is not a backend; write one of {', '.join(BACKENDS)}"
    _refuse(valid, ~valid["backend"].isin(BACKENDS), "backend", place, first_line, wrong)
    for name in (*INTEGERS, "value"):
        number = pd.Series([_number(entry) for entry in valid[name]], dtype="float64")
        wrong = "is not a finite number; rerun the evaluation that wrote it"
        _refuse(valid, ~number.between(-sys.float_info.max, sys.float_info.max), name, place, first_line, wrong)
        if name in INTEGERS:
            low = INTEGERS[name]
            wrong = f"must be a whole number of at least {low}"
            _refuse(valid, (number % 1 != 0) | (number < low), name, place, first_line, wrong)
        valid[name] = number.astype("int64" if name in INTEGERS else "float64")
    twice = np.flatnonzero(valid.duplicated(list(KEY)))
    if twice.size:
        row = valid.loc[twice[0]]
        first = np.flatnonzero((valid[list(KEY)] == row[list(KEY)]).all(axis=1))[0]
        raise InputError(
            f"{place} lines {first + first_line} and {twice[0] + first_line} both score {_cell_name(row)}; "
            "keep one of the two runs that wrote them."
        )
    return valid


def read(path: Path) -> pd.DataFrame:
    """The checked cells table in a .parquet or .csv file; InputError names the file (and line)."""
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path} is not a cells table; give its .parquet or .csv file.")
    is_csv = path.suffix == ".csv"
    with frames.reading(path, _KIND, reason=True):
        if is_csv:
            frame = pd.read_csv(path, dtype="str", keep_default_na=False, skip_blank_lines=False)
        else:
            frame = pd.read_parquet(path)
    return check(frame, str(path), first_line=2 if is_csv else 1)


def write(frame: pd.DataFrame, path: Path) -> None:
    """Writes the checked table to `path` (.parquet) and beside it as .csv, rows sorted, each whole or not at all.

    Raises ValueError for a path with another ending, and InputError as `check` does.
    """
    frames.write(_ordered(check(frame, str(path))), Path(path), _KIND)


def collect(paths: Sequence[Path], *, sets: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """All per-run tables as one, with the rows of dataset "average" added per run, metric and cell.

    An average is the plain mean over the datasets that `sets` names for the task (by default: over all that its runs
    hold), and its n_items their sum; where one of them is absent, there is no average.
    Raises InputError when runs of one task hold different datasets, when a run lacks a cell on one of its datasets,
    when a file already holds averages, and when two files score the same cell.
    """
    if not paths:
        raise InputError("no cells tables to collect; name at least one file that an evaluation wrote.")
    tables = [read(Path(path)) for path in paths]
    frame = pd.concat(tables, ignore_index=True)
    source = np.repeat([str(path) for path in paths], [len(one) for one in tables])
    _refuse_overlap(frame, source)
    _refuse_mixed(frame, source)
    return _ordered(check(pd.concat([frame, *_averages(frame, sets or {})], ignore_index=True)))


def select(
    frame: pd.DataFrame, dataset: str, metric: str, *, methods: Sequence[str] | None = None, backend: str = NATIVE
) -> pd.DataFrame:
    """The checked rows of one dataset, metric and backend, of one task, ready to be drawn over (layer, dim).

    `layer` of the result is the query layer, on which figures and tables arrange the cells; the layer of the document
    side is no longer in it. `methods` keeps only these (default: all). Raises InputError for a dataset, metric, backend
    or method that the table lacks (with the names that it has), and where rows would have to be mixed silently: several
    tasks, or several document layers for one cell.
    """
    frame = check(frame)
    wanted = [("dataset", dataset), ("metric", metric), ("backend", backend)]
    for column, name in wanted:
        if name not in set(frame[column]):
            raise unknown_name("cells table", column, name, frame[column].unique())
        frame = frame[frame[column] == name]
    if methods is not None:
        for name in methods:
            if name not in set(frame["method"]):
                raise unknown_name("cells table", "method", name, frame["method"].unique())
        frame = frame[frame["method"].isin(methods)]
    tasks = sorted(frame["task"].unique())
    if len(tasks) > 1:
        raise InputError(f"cells table: dataset {dataset!r} has rows of the tasks {', '.join(tasks)}; pass one task.")
    mixed = frame[frame.duplicated([*LINE, "seed", "query_layer", "dim"])]
    if not mixed.empty:
        raise InputError(
            f"cells table: {_cell_name(mixed.iloc[0])} is also scored with another document layer; pass the rows of "
            "one document layer per query layer."
        )
    return frame.assign(layer=frame["query_layer"]).reset_index(drop=True)


def over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Selected rows per recipe, method, variant, layer, dim: mean, sd (n - 1; NaN for one seed), low, high, seeds."""
    values = frame.groupby([*LINE, "layer", "dim"], sort=True)["value"]
    columns = {"mean": values.mean(), "sd": values.std(), "low": values.min(), "high": values.max()}
    return pd.DataFrame({**columns, "seeds": values.size()}).reset_index()


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values([*_ORDER, "run_id"], ignore_index=True)


def _refuse(frame: pd.DataFrame, bad: pd.Series, name: str, place: str, first_line: int, wrong: str) -> None:
    at = np.flatnonzero(bad)
    if at.size:
        shown = frame[name].iloc[at[0]]
        raise InputError(f"{place} line {at[0] + first_line}: {name} {shown!r} {wrong}.")


def _averages(frame: pd.DataFrame, sets: Mapping[str, Sequence[str]]) -> Iterator[pd.DataFrame]:
    by = [name for name in COLUMNS if name not in ("dataset", "value", "n_items")]
    for (task, _), rows in frame.groupby(["task", "metric"]):
        wanted = sets.get(str(task), rows["dataset"].unique())
        if set(wanted) <= set(rows["dataset"]):
            rows = rows[rows["dataset"].isin(wanted)]
            average = rows.groupby(by, as_index=False).agg(value=("value", "mean"), n_items=("n_items", "sum"))
            yield average.assign(dataset=AVERAGE)


def _number(entry: Any) -> float:
    try:
        return float(entry)
    except (TypeError, ValueError):
        return math.nan


def _refuse_overlap(frame: pd.DataFrame, source: np.ndarray) -> None:
    again = np.flatnonzero(frame.duplicated(list(KEY)))
    if again.size:
        row = frame.loc[again[0]]
        first = np.flatnonzero((frame[list(KEY)] == row[list(KEY)]).all(axis=1))[0]
        raise InputError(
            f"{source[first]} and {source[again[0]]} both score {_cell_name(row)}; collect only one of the two."
        )
    averages = np.flatnonzero(frame["dataset"] == AVERAGE)
    if averages.size:
        raise InputError(f"{source[averages[0]]} already holds averages; collect the tables of single runs.")


def _refuse_mixed(frame: pd.DataFrame, source: np.ndarray) -> None:
    """Every run of a task holds the same (dataset, metric) pairs, and each of them on all cells of the run."""
    expected: dict[str, tuple[str, set[tuple[str, str]]]] = {}
    for run_id, run in frame.groupby("run_id", sort=False):
        file = source[run.index[0]]
        identity = run[_RUN].drop_duplicates()
        if len(identity) > 1:
            varied = ", ".join(name for name in _RUN if identity[name].nunique() > 1)
            raise InputError(f"{file}: run {run_id!r} has several values of {varied}; give every run its own run_id.")
        task = str(run["task"].iloc[0])
        held = set(zip(run["dataset"], run["metric"], strict=True))
        first, known = expected.setdefault(task, (file, held))
        if held != known:
            odd = ", ".join(sorted(f"{dataset} ({metric})" for dataset, metric in held ^ known))
            raise InputError(
                f"{file}: run {run_id!r} and the runs before it ({first}) were evaluated on different {task} sets, "
                f"namely {odd} is in only one of them; evaluate all runs on the same sets."
            )
        counts = run.groupby(["query_layer", "layer", "dim", "metric"])["dataset"].size().unstack(fill_value=0)
        full = run.groupby("metric")["dataset"].nunique()
        short = counts.lt(full).stack()
        short = short[short]
        if not short.empty:
            query_layer, layer, dim, metric = short.index[0]
            at = _place(query_layer, layer, dim)
            raise InputError(
                f"{file}: run {run_id!r} has cell ({at}) on {counts.loc[(query_layer, layer, dim), metric]} of "
                f"{full[metric]} sets ({metric}); evaluate the run again on its whole grid."
            )


def _cell_name(row: pd.Series) -> str:
    run = [
        row["variant"],
        row["recipe"],
        *([] if row["backend"] == NATIVE else [row["backend"]]),
        f"seed {row['seed']}",
    ]
    at = _place(row["query_layer"], row["layer"], row["dim"])
    return f"{row['dataset']} {row['metric']} of {row['method']} ({', '.join(run)}) at {at}"


def _place(query_layer: int, layer: int, dim: int) -> str:
    sides = f"layer {layer}" if query_layer == layer else f"query layer {query_layer}, document layer {layer}"
    return f"{sides}, dim {dim}"
