"""A tiny experiment, and a whole one with every rule, to run through `--sdm conda`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from matryobench.paths import ROOT

TRAINING = {"batch_size": 8, "steps": 2, "learning_rate": 1e-3}
_GRID = {"layers": [1, 2], "dims": [8, 16]}


def config(whole: bool = False) -> dict[str, Any]:
    """One run, evaluated by mteb; `whole`: also STS, retrieval, SMAE, and runs by the reference libraries."""
    common: dict[str, Any] = {"description": "test", "pooling": "mean", "training": TRAINING}
    experiment: dict[str, Any] = {
        "name": "tiny",
        "description": "What every stage imports.",
        "offline": True,
        "backbone": {
            "source": "pretrain",
            "text": "demo-text",
            "spec": {
                "architecture": {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 32, "max_length": 32},
                "vocab_size": 400, "steps": 2, "batch_size": 4, "learning_rate": 0.001,
            },
        },
        "seeds": [7],
        "mteb": {
            "evaluate": {"classification": ["demo-events"], "retrieval": ["demo-search"]},
            "max_length": 32,
            "grid": {"layers": [2], "dims": [8, 16]},
            "recipes": {"instructed": {**common, "train": "demo-instructed", "max_length": 32, "nested_dims": [16, 8],
                                       "base": {"loss": "instructor", "temperature": 0.05}}},
            "runs": [{"method": "ff"}],
        },
    }  # fmt: skip
    if whole:
        experiment["pretraining"] = {
            "smae": {"text": "demo-text", "sizes": ["Demi", "Trenta"], "max_length": 32,
                     "training": {"batch_size": 4, "steps": 2, "learning_rate": 0.001}},
        }  # fmt: skip
        experiment["sts"] = {
            "evaluate": ["demo-sts-roles"], "max_length": 32, "grid": _GRID, "baselines": ["ff"],
            "sizes": {"Demi": [1, 8], "Trenta": [2, 16]},
            "recipes": {"v1": {**common, "train": "demo-triplets", "max_length": 32, "base": {"loss": "mnrl"},
                               "nested_dims": [16, 8], "target_dim": 8}},
            "runs": [{"method": "ff"}, {"method": "starbucks"},
                     {"method": "mse", "variants": ["v1"], "backends": ["native", "sentence-transformers"]}],
        }  # fmt: skip
        experiment["retrieval"] = {
            "evaluate": ["demo-search"], "query_max_length": 16, "passage_max_length": 32, "shard_documents": 1500,
            "grid": _GRID, "bands": [8],
            "recipes": {"groups": {**common, "pooling": "cls", "train": "demo-groups", "query_max_length": 16,
                                   "passage_max_length": 32, "group_size": 2, "base": {"loss": "contrastive"},
                                   "target_dims": [8]}},
            "runs": [{"method": "bert", "backends": ["native", "tevatron"]}, {"method": "fix-doc"}],
        }  # fmt: skip
    return experiment


def run(driver: Path, folder: Path, environment: dict[str, str], *targets: str, whole: bool = False) -> str:
    """Runs the experiment in `folder` through `--sdm conda`; what it printed. Fails with that where it fails."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config(whole)), encoding="utf-8")
    result = subprocess.run(
        [driver, "-m", "snakemake", "-s", ROOT / "Snakefile", "--directory", folder, "--cores", "2", "--configfile",
         folder / "tiny.yaml", "--sdm", "conda", "--show-failed-logs", "--", *targets],
        capture_output=True, text=True, env=environment, cwd=folder,
    )  # fmt: skip
    printed = result.stdout + result.stderr
    assert result.returncode == 0, printed[-8000:]
    return printed
