"""The workflow itself, end to end on a small experiment: every step, partial reruns, bad configs, clean conventions."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from matryobench.analysis import cells
from matryobench.paths import ROOT

TRAINING = {"batch_size": 16, "steps": 8, "learning_rate": 5e-4}
RECIPE = {
    "description": "test", "train": "demo-triplets", "pooling": "mean", "max_length": 32, "base": {"loss": "mnrl"},
    "nested_dims": [16, 8], "target_dim": 8, "training": TRAINING,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "name": "small",
    "description": "The whole workflow in a minute.",
    "backbone": {
        "source": "pretrain",
        "text": "demo-text",
        "spec": {
            "architecture": {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 32, "max_length": 32},
            "vocab_size": 400, "steps": 6, "batch_size": 8, "learning_rate": 0.001,
        },
    },
    "seeds": [7],
    "pretraining": {
        "smae": {"text": "demo-text", "sizes": ["Demi", "Trenta"], "max_length": 32,
                 "training": {"batch_size": 8, "steps": 4, "learning_rate": 0.001}},
    },
    "sts": {
        "evaluate": ["demo-sts-paraphrase", "demo-sts-roles"],
        "max_length": 32,
        "grid": {"layers": [1, 2], "dims": [8, 16]},
        "sizes": {"Demi": [1, 8], "Trenta": [2, 16]},
        "recipes": {"v1": RECIPE},
        "runs": [
            {"method": "ff"},
            {"method": "ff->mrl"},
            {"method": "bert-s", "cells": [[1, 8]]},
            {"method": "2dmse-v2"},
            {"method": "srl"},
            {"method": "starbucks"},
        ],
        "baselines": ["bert-s", "ff"],
    },
}  # fmt: skip
RUNS = [
    "bert-s-paper-v1-l1-d8",
    "2dmse-v2-released-v1",
    "srl-released-v1",
    "starbucks-released-v1",
    "ff-paper-v1",
    "ff-to-mrl-paper-v1",
]


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(folder), "--cores", "2",
         "--configfile", str(folder / "small.yaml"), *arguments],
        capture_output=True, text=True, env=environment, cwd=folder,
    )  # fmt: skip


def planned(folder: Path) -> dict[str, int]:
    """Jobs per rule that a dry run would start."""
    result = snakemake(folder, "-n")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = (result.stdout + result.stderr).splitlines()
    if "Job stats:" not in lines:
        return {}
    table = lines[lines.index("Job stats:") + 3 :]
    counts = [line.split() for line in table[: table.index("")]]
    return {name: int(count) for name, count in counts if name not in ("all", "total")}


def write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "small.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the experiment has run to the end."""
    folder = tmp_path_factory.mktemp("small")
    write_config(folder, CONFIG)
    result = snakemake(folder)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    return folder


def test_every_step_leaves_its_files(finished: Path) -> None:
    root = finished / "results" / "small"
    for run in RUNS:
        assert (root / "runs" / f"sts-{run}-s7" / "model" / "model.safetensors").is_file()
        record = json.loads((root / "runs" / f"sts-{run}-s7" / "run.json").read_text())
        assert record["steps"] == 8
    for name in (
        *("sts-panels", "sts-heatmaps", "sts-sizes", "sts-differences-bert-s", "sts-differences-ff"),
        *("sts-coverage", "sts-pareto"),
    ):
        for ending in ("svg", "png", "pdf"):
            assert (root / "figures" / f"{name}.{ending}").stat().st_size > 5000
    for name in ("sts-grid", "sts-summary", "sts-sizes", "sts-tests", "sts-deployment", "training-costs"):
        for ending in ("csv", "md", "tex"):
            assert (root / "tables" / f"{name}.{ending}").stat().st_size > 100
    assert len(pd.read_csv(root / "tables" / "coverage.csv")) > 6
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "sts-coverage" in page and '<div class="missing"' not in page
    assert "analysis" in (root / "notebooks" / "analysis.html").read_text(encoding="utf-8")
    assert not list(root.rglob("*.partial"))
    assert not list(root.rglob("checkpoints"))
    assert not [path for path in root.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_the_table_has_every_cell_of_every_run(finished: Path) -> None:
    frame = cells.read(finished / "results" / "small" / "tables" / "cells.parquet")
    grid = {(1, 8), (1, 16), (2, 8), (2, 16)}
    for run_id, rows in frame.groupby("run_id"):
        expected = {(1, 8)} if "bert-s" in str(run_id) else grid
        for dataset in ("demo-sts-paraphrase", "demo-sts-roles", "average"):
            own = rows[rows["dataset"] == dataset]
            assert set(zip(own["layer"], own["dim"], strict=True)) == expected
    wide = frame.pivot(index=["run_id", "layer", "dim"], columns="dataset", values="value")
    assert ((wide["demo-sts-paraphrase"] + wide["demo-sts-roles"]) / 2 - wide["average"]).abs().max() < 1e-12


def test_items_are_the_pairs_behind_the_scores(finished: Path) -> None:
    from scipy.stats import spearmanr

    root = finished / "results" / "small"
    own = root / "evaluation" / "sts-srl-released-v1-s7"
    items, table = pd.read_parquet(own / "items.parquet"), pd.read_parquet(own / "cells.parquet")
    gold = pd.read_parquet(root / "data" / "demo-sts-roles.parquet")["score"]
    at = (items["dataset"] == "demo-sts-roles") & (items["layer"] == 2) & (items["dim"] == 8)
    row = table[(table["dataset"] == "demo-sts-roles") & (table["layer"] == 2) & (table["dim"] == 8)]
    value = spearmanr(gold, items[at].sort_values("item")["similarity"]).statistic
    assert value == pytest.approx(row["value"].item(), abs=1e-9)


def test_a_finished_experiment_has_nothing_to_do_whatever_happens_to_unrelated_files(finished: Path) -> None:
    assert planned(finished) == {}
    source = ROOT / "workflow" / "matryobench" / "training" / "loop.py"
    before = source.stat()
    try:
        os.utime(source)
        os.utime(ROOT / "workflow" / "matryobench" / "evaluation" / "sts.py")
        assert planned(finished) == {}
    finally:
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_change_to_one_method_reruns_that_method_and_what_depends_on_it(finished: Path) -> None:
    config = copy.deepcopy(CONFIG)
    config["sts"]["sizes"]["Demi"] = [1, 16]  # only srl and starbucks train the sizes
    try:
        write_config(finished, config)
        assert planned(finished) == {
            "train": 2, "evaluate": 2, "collect": 1, "significance": 1, "test_grids": 1, "cover": 1, "sum_training_costs": 1,
            "judge": 1, "tabulate": 5, "draw": 7, "run_notebook": 1, "report": 1,
        }  # fmt: skip
        config["sts"]["recipes"]["v1"]["training"] = {**TRAINING, "steps": 9}
        write_config(finished, config)
        assert planned(finished)["train"] == len(RUNS)
        assert "pretrain" not in planned(finished)
    finally:
        write_config(finished, CONFIG)


def test_a_new_set_is_evaluated_without_training(finished: Path) -> None:
    config = copy.deepcopy(CONFIG)
    config["sts"]["evaluate"].append("demo-sts-topics")
    try:
        write_config(finished, config)
        jobs = planned(finished)
        assert "train" not in jobs
        assert (jobs["fetch_data"], jobs["tokenise"], jobs["evaluate"]) == (1, 1, len(RUNS))
    finally:
        write_config(finished, CONFIG)


def test_a_deleted_figure_is_drawn_again_alone(finished: Path) -> None:
    figure = finished / "results" / "small" / "figures" / "sts-panels.svg"
    whole = figure.read_bytes()
    figure.unlink()
    assert planned(finished) == {"draw": 1, "report": 1}
    assert snakemake(finished).returncode == 0
    assert figure.read_bytes() == whole


def test_until_stops_after_a_rule(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIG)
    result = snakemake(tmp_path, "--until", "fetch_data")
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(path.name for path in (tmp_path / "results" / "small" / "data").iterdir()) == [
        "demo-sts-paraphrase.parquet", "demo-sts-roles.parquet", "demo-text.parquet", "demo-triplets.parquet",
    ]  # fmt: skip
    assert not (tmp_path / "results" / "small" / "runs").exists()


def test_a_bad_config_stops_before_any_job_with_code_2(tmp_path: Path) -> None:
    config = copy.deepcopy(CONFIG)
    config["sts"]["runs"].append({"method": "2dmse-v3"})
    write_config(tmp_path, config)
    result = snakemake(tmp_path)
    assert result.returncode == 2
    assert "sts.runs.6.method: unknown method '2dmse-v3'; did you mean" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "results").exists()


def test_a_missing_config_is_said(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(tmp_path), "-n"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 2
    assert "no experiment was given; add --configfile config/demo.yaml" in result.stderr


def test_every_rule_is_complete() -> None:
    wanted = ("output:", "log:", "benchmark:", "threads:", "resources:", "message:", "conda:", "shell:")
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        blocks = path.read_text(encoding="utf-8").split("rule ")[1:]
        for block in blocks:
            if block.startswith(tuple("abcdefghijklmnopqrstuvwxyz")) and ":\n" in block.splitlines()[0] + "\n":
                missing = [part for part in wanted if part not in block]
                assert not missing, f"{path.name}, rule {block.splitlines()[0]} lacks {missing}"
