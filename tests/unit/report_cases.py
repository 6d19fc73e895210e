"""Small finished results for tests of the report: a plan, its tables, figures and records, with scores of known sums."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from test_plan import config

from matryobench import products
from matryobench.analysis import cells
from matryobench.analysis.grid_tests import COLUMNS as GRID_TESTS
from matryobench.plan import Plan

HOSTILE = "</script><img src=x onerror=alert(1)>"
SETS = ("demo-sts-roles", "demo-sts-topics")
LAYERS, DIMS, SEEDS = (1, 2, 4), (8, 32), (1, 2)
LINES = (("bert", "paper"), ("mse", "v1"), ("2dmse-v1", "released"), ("2dmse-v1", HOSTILE))
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="504pt" height="252pt" viewBox="0 0 504 252"><text>1</text></svg>'
INTERVAL = (0.011, 0.042)  # of mse minus bert at (2, 8), first set
COMMIT = "ab" * 20


def score(method: str, variant: str, seed: int, dataset: str, layer: int, dim: int) -> float:
    """A score that is different in every cell of every line."""
    line = LINES.index((method, variant))
    return 0.3 + 0.07 * line + 0.011 * layer + 0.0013 * dim + 0.0022 * seed * (line + 1) + 0.05 * SETS.index(dataset)


@cache
def frame() -> pd.DataFrame:
    """The cells table of a run per line and seed; bert lacks the cell (4, 8)."""
    rows = [
        ("tiny", "sts", dataset, "spearman_cosine", method, variant, "v1", "native", seed, layer, layer, dim,
         score(method, variant, seed, dataset, layer, dim), 10, f"run-{at}-{seed}")
        for at, (method, variant) in enumerate(LINES) for seed in SEEDS for dataset in SETS
        for layer in LAYERS for dim in DIMS
        if (method, layer, dim) != ("bert", 4, 8)
    ]  # fmt: skip
    single = pd.DataFrame(rows, columns=list(cells.COLUMNS))
    by = [name for name in cells.COLUMNS if name not in ("dataset", "value", "n_items")]
    average = single.groupby(by, as_index=False).agg(value=("value", "mean"), n_items=("n_items", "sum"))
    return pd.concat([single, average.assign(dataset="average")], ignore_index=True)


def mean(dataset: str, method: str, variant: str, layer: int, dim: int) -> float:
    """The mean over seeds in the table."""
    rows = frame().query("dataset == @dataset and method == @method and variant == @variant")
    return float(rows.query("layer == @layer and dim == @dim")["value"].mean())


def plan(folder: Path) -> Plan:
    """The plan of bert, mse and 2dmse-v1 with two seeds."""
    whole = config(
        description=f"A test {HOSTILE}.", results=str(folder / "results"), sts__evaluate=list(SETS),
        sts__grid={"layers": list(LAYERS), "dims": list(DIMS)}, sts__baselines=["bert"],
        sts__runs=[{"method": "bert"}, {"method": "mse"}, {"method": "2dmse-v1"}],
    )  # fmt: skip
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return Plan.load(path)


def results(folder: Path) -> tuple[Plan, Path]:
    """The plan and its whole results folder."""
    made = plan(folder)
    root = made.experiment.folder
    for name in ("tables", "figures", "runs", "evaluation"):
        (root / name).mkdir(parents=True)
    cells.write(frame(), root / "tables" / "cells.parquet")
    for name in products.figures(made):
        (root / "figures" / f"{name}.svg").write_text(SVG, encoding="utf-8")
    for name in [*products.tables(made), "training-costs"]:
        text = f"**{name}**\n\n| method | score |\n| :-- | --: |\n| B <i>x</i> | 0.2 |\n| **A** | 0.10 |\n\n[p](http://x.y)\n"
        (root / "tables" / f"{name}.md").write_text(text, encoding="utf-8")
    _write_claims(root / "tables" / "claims.csv")
    _write_tests(root / "tables" / "sts-tests.csv")
    for run in made.runs:
        record: dict[str, Any] = {
            "run_id": run.run_id, "git_commit": COMMIT, "date": "2026-01-02T03:04:05+00:00", "device": "cpu",
            "processor": "a machine", "libraries": {"torch": "2.13.0"}, "wall_seconds": 3.5, "peak_memory_mb": 100,
        }  # fmt: skip
        trained = {"train_seconds": 2.0, "steps": 2, "tokens_seen": 500_000, "final_loss": 1.5,
                   "dataset": {"dataset": "demo-triplets", "revision": "triplets, seed 0", "rows": 20000}}  # fmt: skip
        _write_json(root / "runs" / run.run_id / "run.json", record | trained)
        _write_json(root / "evaluation" / run.run_id / "evaluation.json", record)
    return made, root


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _write_claims(path: Path) -> None:
    sides = ("published", "tiny")
    names = [f"{side} {name}" for side in sides for name in ("verdict", "counts", "failing", "evidence", "figure")]
    figure = "../figures/sts-panels.svg"
    rows = [
        ["first", "ir", "4.1", "One is better.", "", "reproduced", "3/3 cells", "", "by .1", "",
         "partly", "2/3 cells", "(1, 8) -0.1; (2, 8) -0.2", HOSTILE, figure],
        ["second", "starbucks", "4.2", "Two is <b>better</b>.", "In all cells.", "not reproduced", "0/3 cells", "", "", "",
         "cannot be tested here", "", "", "no method starbucks", ""],
    ]  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["claim", "paper", "section", "statement", "reading", *names])
        writer.writerows(rows)


def _write_tests(path: Path) -> None:
    row = dict.fromkeys(GRID_TESTS, "") | {
        "task": "sts", "dataset": SETS[0], "metric": "spearman_cosine", "recipe": "v1", "layer": 2, "dim": 8,
        "method": "mse", "variant": "v1", "reference": "bert", "reference_variant": "paper", "reference_recipe": "v1",
        "difference": 0.07, "low": INTERVAL[0], "high": INTERVAL[1], "p_holm": 0.0123, "alpha": 0.05, "equivalent": True,
    }  # fmt: skip
    pd.DataFrame([row]).to_csv(path, index=False)
