"""Published tables A1 and A2 of arXiv 2410.13230 in the form of our own: cells, significance marks, flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from matryobench.analysis.cells import COLUMNS, NATIVE
from matryobench.analysis.sizes import Flag
from matryobench.errors import InputError, unknown_name
from matryobench.grid import Cell

PUBLISHED = "published"
REFERENCE = "starbucks"
NOTE = "Differs from Starbucks at the same size in the paper's paired test (p < 0.05, without correction)."

_TASKS = {
    "spearman": ("sts", "spearman_cosine"),
    "mrr@10": ("retrieval", "mrr@10"),
    "ndcg@10": ("retrieval", "ndcg@10"),
}
_HEADER = ("table", "size", "layer", "dim", "method", "dataset", "metric", "value", "significant_vs_starbucks", "flag")


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


def read_sizes(path: Path, table: str) -> Published:
    """Reads table "A1" or "A2" from a csv file with the columns table, size, layer, dim, method, dataset, metric, value,
    significant_vs_starbucks (0 or 1) and flag (empty or a reason); datasets that end in "-avg" are printed averages.

    Raises InputError for a file that is missing or has other columns, and for an unknown table or metric.
    """
    try:
        raw = pd.read_csv(path, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the csv file of the published sizes.") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as csv; write it again.") from error
    if tuple(raw.columns) != _HEADER:
        raise InputError(f"{path} must have exactly these columns: {', '.join(_HEADER)}.")
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
