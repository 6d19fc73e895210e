"""Small claims and cells tables that several tests share."""

from __future__ import annotations

from typing import Any

import pandas as pd

from matryobench.analysis import cells as cells_table
from matryobench.claims.evaluate import Setting, Verdict, evaluate
from matryobench.claims.spec import Claims

GRID = {"layers": [1, 2], "dims": [4, 8, 16]}


def frame(values: dict[str, dict[tuple[int, int], float]], **other: Any) -> pd.DataFrame:
    """A cells table from method -> (layer, dim) -> value."""
    row = {
        "experiment": "tiny", "task": "sts", "dataset": "average", "metric": "spearman_cosine", "variant": "paper",
        "recipe": "r", "backend": "native", "seed": 0, "n_items": 1,
    }  # fmt: skip
    rows = [
        {**row, **other, "method": method, "query_layer": la, "layer": la, "dim": d, "value": v, "run_id": method}
        for method, own in values.items()
        for (la, d), v in own.items()
    ]
    return pd.DataFrame(rows)[list(cells_table.COLUMNS)]


def grid_of(rows: list[list[float]]) -> dict[tuple[int, int], float]:
    """Values of layers x dims of GRID from nested lists."""
    return {(la, d): v for la, row in enumerate(rows, 1) for d, v in zip(GRID["dims"], row, strict=True)}


def claims_of(*checks: dict[str, Any], **other: Any) -> Claims:
    claim = {
        "paper": "p", "section": "1", "statement": "s", "task": "sts", "dataset": "average",
        "metric": "spearman_cosine", "figure": "f-{dataset}", "checks": list(checks), **other,
    }  # fmt: skip
    sizes = {"Small": [1, 4], "Large": [2, 16]}
    paper = {"title": "T", "source": "s", "grid": GRID, "sizes": sizes}
    return Claims.model_validate({"papers": {"p": paper}, "claims": {"c": claim}})


def verdict(check: dict[str, Any], values: dict[str, Any], setting: Setting | None = None, **other: Any) -> Verdict:
    return evaluate(claims_of(check, **other), frame(values), setting)[0]


A = {"mse": grid_of([[0.2, 0.3, 0.4], [0.5, 0.6, 0.7]]), "bert": grid_of([[0.1, 0.3, 0.5], [0.4, 0.5, 0.6]])}
COMPARE = {"kind": "compare", "method": "mse", "against": ["bert"], "direction": "above"}
