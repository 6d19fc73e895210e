"""Which cell to deploy: the best within bounds of cost, or the cheapest that is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

import pandas as pd

from matryobench.errors import InputError, unknown_name

METRICS = {"sts": "spearman_cosine", "retrieval": "ndcg@10"}
CHEAPEST_IN = {"query-ms": "query_ms", "bytes": "bytes_per_document"}
GB = 1e9


@dataclass(frozen=True)
class Wish:
    """What is asked for; see the command line. None: no bound, or what the results have one of."""

    task: str | None = None
    dataset: str = "average"
    metric: str | None = None
    max_query_ms: float | None = None
    max_bytes_per_document: float | None = None
    max_index_gb: float | None = None
    documents: int | None = None
    min_quality: float | None = None
    min_share: float | None = None
    cheapest_in: str = "query-ms"
    methods: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bound:
    """One condition on a column: at most (or, `least`, at least) `limit`; `unit` converts the column to the option's."""

    option: str
    column: str
    limit: float
    least: bool = False
    unit: float = 1.0

    def holds(self, frame: pd.DataFrame) -> pd.Series:
        """Which rows satisfy it."""
        values = frame[self.column] * self.unit
        slack = 1e-12 * abs(self.limit)  # a bound that is just reached is reached, whatever the conversion rounded
        return values >= self.limit - slack if self.least else values <= self.limit + slack

    def needed(self, frame: pd.DataFrame) -> float:
        """The limit that the nearest of the rows would satisfy, in the option's unit."""
        values = frame[self.column] * self.unit
        return float(values.max() if self.least else values.min())


@dataclass(frozen=True)
class Choice:
    """The cells that satisfy the wish, the recommended one first; `best` is the best quality of all cells of the task."""

    rows: pd.DataFrame
    best: float
    cheapest: bool


def task_and_metric(frame: pd.DataFrame, wish: Wish) -> tuple[str, str]:
    """The task and the metric that are meant. Raises InputError where the results leave a choice or lack them."""
    tasks = sorted(set(frame["task"]))
    if wish.task is None and len(tasks) > 1:
        raise InputError(f"--task: the results have several tasks; give one of {', '.join(tasks)}.")
    task = wish.task or tasks[0]
    if task not in tasks:
        raise unknown_name("--task", "task", task, tasks)
    held = frame[(frame["task"] == task) & (frame["dataset"] == wish.dataset)]
    if held.empty:
        raise unknown_name("--dataset", "dataset", wish.dataset, set(frame.loc[frame["task"] == task, "dataset"]))
    metrics = sorted(set(held["metric"]))
    metric = wish.metric or METRICS.get(task) or (metrics[0] if len(metrics) == 1 else None)
    if metric is None:
        raise InputError(f"--metric: {task}, {wish.dataset} has several; give one of {', '.join(metrics)}.")
    if metric not in metrics:
        raise unknown_name("--metric", "metric", metric, metrics)
    return task, metric


def bounds(wish: Wish, best: float) -> list[Bound]:
    """The wish's conditions; `best` is what --min-share is a share of. Raises InputError for one that makes no sense."""
    if (wish.max_index_gb is None) != (wish.documents is None):
        raise InputError("--max-index-gb and --documents: a size and how many documents go together; give both.")
    if wish.min_share is not None and not 0 < wish.min_share <= 1:
        raise InputError(f"--min-share: {wish.min_share:g} is no share; give a number above 0 and up to 1.")
    if wish.cheapest_in not in CHEAPEST_IN:
        raise unknown_name("--cheapest-in", "cost", wish.cheapest_in, CHEAPEST_IN)
    found = []
    if wish.max_query_ms is not None:
        found.append(Bound("--max-query-ms", "query_ms", wish.max_query_ms))
    if wish.max_bytes_per_document is not None:
        found.append(Bound("--max-bytes-per-document", "bytes_per_document", wish.max_bytes_per_document))
    if wish.max_index_gb is not None and wish.documents is not None:
        unit = wish.documents / GB
        found.append(Bound("--max-index-gb", "bytes_per_document", wish.max_index_gb, unit=unit))
    if wish.min_quality is not None:
        found.append(Bound("--min-quality", "mean", wish.min_quality, least=True))
    if wish.min_share is not None:
        found.append(Bound("--min-share", "mean", wish.min_share, least=True, unit=1 / best if best > 0 else 1.0))
    return found


def recommend(weighed: pd.DataFrame, wish: Wish) -> Choice:
    """Chooses among the cells that `weighing.weigh` gave.

    With a bound on quality: the cheapest first, by `cheapest_in`, equally cheap ones by the other cost, then by quality.
    Without one: the best first, equally good ones by cost. --min-share is of the best cell of any method.
    Raises InputError for an unknown method, and where nothing satisfies all bounds, with the nearest one that would.
    """
    best = float(weighed["mean"].max())
    for name in wish.methods:
        if name not in set(weighed["method"]):
            raise unknown_name("--method", "method", name, set(weighed["method"]))
    own = weighed[weighed["method"].isin(wish.methods)] if wish.methods else weighed
    limits = bounds(wish, best)
    within = _all_hold(own, limits)
    if within.empty:
        raise InputError(_nearest(own, limits))
    cheapest = any(limit.least for limit in limits)
    first = CHEAPEST_IN[wish.cheapest_in]
    costs = [first, *(name for name in CHEAPEST_IN.values() if name != first)]
    keys = [*costs, "mean"] if cheapest else ["mean", *costs]
    rows = within.sort_values(keys, ascending=[key != "mean" for key in keys], kind="stable", ignore_index=True)
    return Choice(rows, best, cheapest)


def full_model(weighed: pd.DataFrame, row: pd.Series) -> pd.Series:
    """The cell that a recommended one replaces: the deepest layer and widest dim of its own method, else of the best.

    (BERT-S has a model per cell, so its full one is another model than the recommended.)
    """
    full = weighed[(weighed["layer"] == weighed["layer"].max()) & (weighed["dim"] == weighed["dim"].max())]
    line = ["recipe", "method", "variant"]
    own = full[(full[line] == row[line]).all(axis=1)]
    return own.iloc[0] if not own.empty else full.loc[full["mean"].idxmax()]


def _all_hold(frame: pd.DataFrame, limits: Sequence[Bound]) -> pd.DataFrame:
    for limit in limits:
        frame = frame[limit.holds(frame)]
    return frame


def _nearest(frame: pd.DataFrame, limits: Sequence[Bound]) -> str:
    """The sentence that names the bound which, moved least (as a factor), would let a cell through."""
    moves = []
    for limit in limits:
        rest = _all_hold(frame, [other for other in limits if other is not limit])
        if not rest.empty:
            needed = limit.needed(rest)
            moves.append((abs(needed - limit.limit) / max(abs(limit.limit), 1e-9), limit, needed))
    asked = " and ".join(f"{limit.option} {limit.limit:g}" for limit in limits)
    if not moves:  # several bounds are out of reach by themselves
        parts = ", ".join(f"{limit.option} {shown(limit.needed(frame), limit.least)}" for limit in limits)
        return f"no cell satisfies {asked}; each alone can be met from {parts} on, give these up one by one."
    _, limit, needed = min(moves, key=lambda move: move[0])
    return f"no cell satisfies {asked}; the nearest one needs {limit.option} {shown(needed, limit.least)}."


def shown(value: float, least: bool) -> str:
    """Four significant digits, rounded to the side on which a bound of that value is satisfied."""
    context = Context(prec=4, rounding=ROUND_FLOOR if least else ROUND_CEILING)
    rounded = context.create_decimal(Decimal(repr(value)))  # .6, and not the binary number just below it
    return f"{float(rounded):.10g}"
