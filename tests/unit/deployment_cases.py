"""Hand-made costs and scores that the tests of deployment share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from matryobench.deployment.weighing import weigh
from matryobench.figures import theme

CONFIG = Path(__file__).resolve().parents[2] / "config"
METRIC = "spearman_cosine"
STYLES = {"bert": theme.Style("BERT", "#4D4D4D", "o"), "srl": theme.Style("SRL", "#0072B2", "s")}


def cost_table(layers: tuple[int, ...] = (1, 2), dims: tuple[int, ...] = (8, 16), task: str = "sts") -> pd.DataFrame:
    """A layer's query takes as many ms as it counts; 1000 texts/s over layer; searches 100 over dim."""
    rows = []
    for layer in layers:
        for dim in dims:
            encoder = {"query_ms": float(layer), "query_ms_p95": 2.0 * layer, "query_tokens": 9.0,
                       "texts_per_second": 1000.0 / layer, "text_tokens": 9.0, "parameters": 10 * layer,
                       "encoder_bytes": 40 * layer, "peak_device_memory_mb": None}  # fmt: skip
            index = {
                "bytes_per_document": 4 * dim,
                "bytes_per_document_float16": 2 * dim,
                "searches_per_second": 100.0 / dim,
            }
            rows.append({"task": task, "layer": layer, "dim": dim, **encoder, **index})
    return pd.DataFrame(rows)


def cells(values: dict[tuple[str, int, int, int], float], seeds: tuple[int, ...] = (1,), **fixed: Any) -> pd.DataFrame:
    """A cells table of (method, query layer, document layer, dim) -> score; a seed adds a hundredth of itself."""
    rows = []
    for (method, query_layer, layer, dim), value in values.items():
        for seed in seeds:
            own = {"experiment": "x", "task": "sts", "dataset": "average", "metric": METRIC, "method": method,
                   "variant": "paper", "recipe": "v1", "backend": "native", "seed": seed, "query_layer": query_layer,
                   "layer": layer, "dim": dim, "value": value + (seed - 1) / 100, "n_items": 10,
                   "run_id": f"sts-{method}-s{seed}"}  # fmt: skip
            rows.append(own | fixed)
    return pd.DataFrame(rows)


GRID = cells(
    {("bert", 1, 1, 8): 0.2, ("bert", 1, 1, 16): 0.5, ("bert", 2, 2, 8): 0.4, ("bert", 2, 2, 16): 0.8,
     ("srl", 1, 1, 8): 0.6, ("srl", 1, 1, 16): 0.6, ("srl", 2, 2, 8): 0.7, ("srl", 2, 2, 16): 0.7}
)  # fmt: skip


def weighed(frame: pd.DataFrame = GRID, table: pd.DataFrame | None = None) -> pd.DataFrame:
    return weigh(frame, cost_table() if table is None else table, task="sts", dataset="average", metric=METRIC)


WEIGHED = weighed()
