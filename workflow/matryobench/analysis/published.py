"""The papers' numbers in the form of our own: cells tables, rows of each figure, tables A1 and A2 with their marks.

Each of `EXPERIMENTS` is a shipped config and the numbers that its results are compared with. Methods and datasets have
our ids; experiment, variant are "published", seed and n_items, which were not printed, are 0 and 1, and the two sides of
fix-doc have their layers. `published/sources.yaml` says where the numbers were read and how exact they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from matryobench.analysis.cells import AVERAGE, COLUMNS, KEY, NATIVE, check
from matryobench.analysis.frames import reading
from matryobench.analysis.sizes import Flag
from matryobench.errors import InputError, unknown_name
from matryobench.grid import Cell
from matryobench.published.sources import FOLDER, sources

PUBLISHED = "published"
REFERENCE = "starbucks"
NOTE = "Differs from Starbucks at the same size in the paper's paired test (p < 0.05, without correction)."
SHAPE: Cell = (12, 768)
"""Layers and width of BERT-base, which all published grids are of."""

_TASKS = {
    "spearman": ("sts", "spearman_cosine"),
    "mrr@10": ("retrieval", "mrr@10"),
    "ndcg@10": ("retrieval", "ndcg@10"),
}
_HEADER = ("table", "size", "layer", "dim", "method", "dataset", "metric", "value", "significant_vs_starbucks", "flag")
_STS_METHODS = {("v1", "2dmse"): "2dmse-v1", ("v2", "2dmse"): "2dmse-v2"}
_DIM_LISTS = {  # names in the legends of figure 4 and of its continuation -> method, variant
    "+dims": ("+dims", PUBLISHED),
    "+dims[8,16,32,64,128,512]": ("+dims", PUBLISHED),
    "+dims[8,32,128,512]": ("+dims", "published-four"),
    "+dims[32,128]": ("+dims", "published-two"),
    "+dims[8,16,32,64,128,512]+full-dim": ("+dims+full-dim", PUBLISHED),
}
_OUR_SETS = {"STS-B": "stsb", "SICK-R": "sick-r", **{f"STS{year}": f"sts{year}" for year in range(12, 17)}}
_COUNTERPARTS = {  # published (method, variant) -> variants of ours that train the same thing; others: all variants
    ("+dims", PUBLISHED): ("six", "seven"),  # the figure's legend has six widths, the paper's footnote seven
    ("+dims", "published-four"): ("four",),
    ("+dims", "published-two"): ("two",),
    ("+dims+full-dim", PUBLISHED): ("six", "seven"),
}


@dataclass(frozen=True)
class Drawn:
    """What a figure of the papers shows: of which experiment, dataset and metric, and its (method, variant) lines."""

    title: str
    experiment: str
    dataset: str
    metric: str
    lines: tuple[tuple[str, str], ...]


def _lines(*methods: str) -> tuple[tuple[str, str], ...]:
    return tuple((method, PUBLISHED) for method in methods)


FIGURES: Mapping[str, Drawn] = {
    "figure-1": Drawn(
        "STS, V1 and V2", "sts", AVERAGE, "spearman_cosine", _lines("bert", "bert-s", "mse", "2dmse-v1", "2dmse-v2")
    ),
    "figure-2": Drawn("MS MARCO", "retrieval", "msmarco-dev", "mrr@10", _lines("bert", "bert-s", "mse", "2dmse")),
    "figure-3": Drawn("BEIR, 13 sets", "retrieval", AVERAGE, "ndcg@10", _lines("bert", "mse", "2dmse")),
    "figure-4": Drawn(
        "Losses", "retrieval", "msmarco-dev", "mrr@10", _lines("bert-s", "2dmse", "score", "full-dim", "+dims")
    ),
    "figure-4-dims": Drawn(
        "Lists of widths (repository only)", "retrieval", "msmarco-dev", "mrr@10",
        (*_lines("bert-s", "2dmse"), *sorted(set(_DIM_LISTS.values()))),
    ),
    "figure-5": Drawn("Document encoder", "retrieval", "msmarco-dev", "mrr@10", _lines("paired-doc", "fix-doc")),
}  # fmt: skip
"""Figures 1 to 5 of arXiv 2411.17299, and the continuation of figure 4 that only its repository has."""


@dataclass(frozen=True)
class Published:
    """One published table: `cells` as a cells table without averages (variant, recipe "published"; seed and n_items,
    which were not printed, are 0 and 1), `averages` as printed (size, method, dataset, value), `significance` with the
    asterisks as `significant`, `flags` on suspect values, and the sizes and sets (-> metric) in their order.
    """

    cells: pd.DataFrame
    averages: pd.DataFrame
    significance: pd.DataFrame
    flags: tuple[Flag, ...]
    sizes: dict[str, Cell]
    sets: dict[str, str]


def load(experiment: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The published cells table of one of EXPERIMENTS.

    "sts" has the recipes v1 and v2, "retrieval" the recipe marco, and "starbucks" (tables A1 and A2 with their printed
    averages) the recipe starbucks. `folder` holds the csv files. Raises InputError for another experiment, and for a
    file that is missing, has other columns, a method twice with different values, or a value that cells tables refuse.
    """
    if experiment not in _LOADERS:
        raise unknown_name("published numbers", "experiment", experiment, _LOADERS)
    name, loader = _LOADERS[experiment]
    rows = loader(folder / name)
    rows = rows.assign(experiment=PUBLISHED, variant=rows.get("variant", PUBLISHED), backend=NATIVE, seed=0, n_items=1)
    run = ["task", "method", "variant", "recipe"]
    rows["run_id"] = [f"{PUBLISHED}-{'-'.join(key)}" for key in rows[run].itertuples(index=False, name=None)]
    return check(rows[list(COLUMNS)], f"{PUBLISHED} numbers of {experiment}")


def load_all(folder: Path = FOLDER) -> pd.DataFrame:
    """The published cells of all EXPERIMENTS as one table; what two papers measured differs by its recipe."""
    return check(pd.concat([load(name, folder) for name in EXPERIMENTS], ignore_index=True), "published numbers")


def figure_rows(name: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The rows that one of FIGURES shows, for the figure functions with its dataset and metric."""
    if name not in FIGURES:
        raise unknown_name("published numbers", "figure", name, FIGURES)
    drawn = FIGURES[name]
    rows = load(drawn.experiment, folder)
    shown = [line in drawn.lines for line in zip(rows["method"], rows["variant"], strict=True)]
    rows = rows[shown]
    return rows[(rows["dataset"] == drawn.dataset) & (rows["metric"] == drawn.metric)].reset_index(drop=True)


def flagged(folder: Path = FOLDER) -> pd.DataFrame:
    """Suspect published cells: task, dataset, metric, method, recipe, layer, dim, reason; averages with one, too."""
    wanted = ["task", "dataset", "metric", "method", "recipe", "layer", "dim"]
    table = read_sizes(folder / "starbucks_sizes.csv", "A2")
    reasons = {(flag.method, flag.size, flag.dataset): flag.reason for flag in sources().flags}
    rows = []
    for flag in table.flags:
        method, size, dataset = flag
        reason = reasons.get(flag, "flagged in the csv file")
        for name, why in ((dataset, reason), (AVERAGE, f"average with {dataset}: {reason}")):
            rows.append(("retrieval", name, "ndcg@10", method, REFERENCE, *table.sizes[size], why))
    return pd.DataFrame(rows, columns=[*wanted, "reason"])


def is_counterpart(method: str, variant: str, ours: str) -> bool:
    """Whether our variant `ours` of a method trains what a published line of it shows: the same list of widths."""
    return ours in _COUNTERPARTS.get((method, variant), (ours,))


def read_sizes(path: Path, table: str) -> Published:
    """Reads table "A1" or "A2" from a csv file with the columns table, size, layer, dim, method, dataset, metric, value,
    significant_vs_starbucks (0 or 1) and flag (empty or a reason); datasets that end in "-avg" are printed averages.

    Raises InputError for a file that is missing or has other columns, and for an unknown table or metric.
    """
    raw = _read(path, _HEADER)
    if table not in set(raw["table"]):
        raise unknown_name(str(path), "table", table, raw["table"].unique())
    raw = raw[raw["table"] == table].reset_index(drop=True)
    for metric in raw["metric"]:
        if metric not in _TASKS:
            raise unknown_name(str(path), "metric", metric, _TASKS)
    is_average = raw["dataset"].str.endswith("-avg")
    sizes = raw.drop_duplicates("size")
    raw = raw.assign(
        task=[_TASKS[metric][0] for metric in raw["metric"]],
        metric=[_TASKS[metric][1] for metric in raw["metric"]],
        significant=raw["significant_vs_starbucks"] == 1,
        experiment=PUBLISHED, variant=PUBLISHED, recipe=PUBLISHED, backend=NATIVE, seed=0,
        query_layer=raw["layer"], n_items=1, run_id=raw["method"] + "-" + PUBLISHED, reference=REFERENCE,
    )  # fmt: skip
    single = raw[~is_average].reset_index(drop=True)
    marks = ["task", "dataset", "metric", "recipe", "size", "layer", "dim", "method", "variant", "reference"]
    return Published(
        single[list(COLUMNS)],
        raw.loc[is_average, ["size", "method", "dataset", "value"]].reset_index(drop=True),
        single[[*marks, "significant"]],
        tuple(single.loc[single["flag"] != "", ["method", "size", "dataset"]].itertuples(index=False, name=None)),
        {str(row["size"]): (int(row["layer"]), int(row["dim"])) for _, row in sizes.iterrows()},
        dict(single.drop_duplicates("dataset")[["dataset", "metric"]].itertuples(index=False, name=None)),
    )


def _read(path: Path, header: tuple[str, ...]) -> pd.DataFrame:
    with reading(path, "csv", "give the csv file of the published numbers"):
        raw = pd.read_csv(path, keep_default_na=False)
    if tuple(raw.columns) != header:
        raise InputError(f"{path} must have exactly these columns: {', '.join(header)}.")
    for name in ("layer", "dim", "value"):
        wrong = ~np.isfinite(pd.to_numeric(raw[name], errors="coerce"))
        if wrong.any():
            at = wrong.idxmax()
            raise InputError(
                f"{path} line {at + 2}: {name} {raw.loc[at, name]!r} is not a number; write what was printed."
            )
    return raw


def _sts(path: Path) -> pd.DataFrame:
    raw = _read(path, ("implementation", "task", "method", "layer", "dim", "value"))
    method = [_STS_METHODS.get(key, key[1]) for key in zip(raw["implementation"], raw["method"], strict=True)]
    constant = {"task": "sts", "dataset": AVERAGE, "metric": "spearman_cosine"}
    return raw.assign(method=method, recipe=raw["implementation"], query_layer=raw["layer"], **constant)


def _retrieval(path: Path) -> pd.DataFrame:
    """Every line once: figures 4 and 5 repeat lines of figure 2, which must then have the same values."""
    raw = _read(path, ("figure", "task", "metric", "method", "layer", "dim", "value"))
    lines = [_DIM_LISTS.get(name, (name, PUBLISHED)) for name in raw["method"]]
    dataset = raw["task"].replace({"beir-13-avg": AVERAGE})
    rows = raw.assign(task="retrieval", dataset=dataset, recipe="marco", query_layer=raw["layer"])
    rows[["method", "variant"]] = lines
    rows.loc[rows["method"] == "fix-doc", "layer"] = SHAPE[0]  # its documents are always at the last layer
    key = [name for name in KEY if name in rows]
    again = rows.groupby(key)["value"].transform("first") != rows["value"]
    if again.any():
        at = again.idxmax()
        name = raw.loc[at, "method"]
        raise InputError(f"{path} line {at + 2}: {name} has another value here than above; correct one of the two.")
    return rows.drop_duplicates(key, ignore_index=True)


def _starbucks(path: Path) -> pd.DataFrame:
    found = []
    for name in ("A1", "A2"):
        table = read_sizes(path, name)
        averages = table.averages.assign(
            dataset=AVERAGE, task=table.averages["dataset"].map({"sts-avg": "sts", "beir-12-avg": "retrieval"})
        )
        averages["metric"] = averages["task"].map({"sts": "spearman_cosine", "retrieval": "ndcg@10"})
        cells = [table.sizes[size] for size in averages["size"]]
        averages[["layer", "dim"]] = cells
        averages["query_layer"] = averages["layer"]
        found += [table.cells, averages]
    rows = pd.concat(found, ignore_index=True)
    is_2dmse = (rows["task"] == "sts") & (rows["method"] == "2dmse")
    method = rows["method"].mask(is_2dmse, "2dmse-v1")
    own = [name for name in COLUMNS if name not in ("method", "dataset", "recipe", "variant")]
    return rows[own].assign(method=method, dataset=rows["dataset"].replace(_OUR_SETS), recipe=REFERENCE)


_LOADERS = {
    "sts": ("sts_grid.csv", _sts),
    "retrieval": ("retrieval_grid.csv", _retrieval),
    "starbucks": ("starbucks_sizes.csv", _starbucks),
}
EXPERIMENTS = tuple(_LOADERS)
