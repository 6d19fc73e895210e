"""A small experiment derived from the demo's config, snakemake runs of it, and the processes that they start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from matryobench.paths import ROOT

TRAINING = {"batch_size": 16, "steps": 60, "learning_rate": 1e-3, "checkpoint_every": 5}
TARGETS = ["--", "results/demo/tables/cells.parquet", "results/demo/tables/sts-grid.csv"]


def config() -> dict[str, Any]:
    """The demo with one STS set, one search, three runs and an encoder of 2 layers and width 16."""
    demo: dict[str, Any] = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text(encoding="utf-8"))
    del demo["pretraining"], demo["mteb"]
    spec = demo["backbone"]["spec"]
    spec["architecture"] = {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 32, "max_length": 32}
    spec["steps"] = 60
    for task in (demo["sts"], demo["retrieval"]):
        task["grid"] = {"layers": [1, 2], "dims": [8, 16]}
        task["sizes"] = {"Demi": [1, 8], "Short": [2, 16]}
    sts, retrieval = demo["sts"], demo["retrieval"]
    sts["evaluate"], sts["max_length"] = ["demo-sts-roles"], 32
    sts["recipes"] = {"v1": {**sts["recipes"]["v1"], "max_length": 32, "nested_dims": [16, 8], "target_dim": 8}}
    sts["recipes"]["v1"]["training"] = TRAINING
    sts["runs"] = [{"method": "bert-s", "cells": [[1, 8]]}, {"method": "2dmse-v2"}]
    groups = {**retrieval["recipes"]["groups"], "passage_max_length": 32, "target_dims": [8], "training": TRAINING}
    del groups["dim_lists"]
    retrieval["recipes"], retrieval["passage_max_length"] = {"groups": groups}, 32
    retrieval["runs"] = [{"method": "2dmse", "recipes": ["groups"]}]
    return demo


def write_config(folder: Path, **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "demo.yaml").write_text(yaml.safe_dump({**config(), **changes}), encoding="utf-8")


def command(folder: Path, *arguments: str) -> list[str]:
    return [
        sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(folder), "--cores", "2",
        "--configfile", str(folder / "demo.yaml"), *arguments,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *arguments), capture_output=True, text=True, env=environment(), cwd=folder)


def jobs_of(session: int) -> dict[int, str]:
    """{pid: verb} of the jobs' Python processes in a session, also of those whose snakemake is dead."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # The session is the 6th field of stat, the 4th behind the name, which may hold spaces.
                own = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except (OSError, IndexError):
                continue  # it has just ended
            if own == session and len(words) > 2 and words[1].endswith("run.py"):
                found[int(folder.name)] = words[2]
    return found
