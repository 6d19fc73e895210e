"""What the environment holds stays there: no token, password, user or home is in any file or message of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from matryobench.paths import ROOT

CANARY = "canary7f3a"
SECRETS = {
    "HF_TOKEN": f"hf_{CANARY}",
    "HUGGING_FACE_HUB_TOKEN": f"hf_{CANARY}",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}/aws",
    "WANDB_API_KEY": CANARY,
    "GITHUB_TOKEN": f"ghp_{CANARY}",
    "DATABASE_URL": f"postgres://user:{CANARY}@db/x",
    "HTTP_PROXY": f"http://user:{CANARY}@127.0.0.1:9",
    "HTTPS_PROXY": f"http://user:{CANARY}@127.0.0.1:9",
    "USER": f"user-{CANARY}",
    "LOGNAME": f"user-{CANARY}",
    "HOSTNAME": f"host-{CANARY}",
}
TRAINING = {"batch_size": 8, "steps": 2, "learning_rate": 1e-3}
CONFIG: dict[str, Any] = {
    "name": "tiny",
    "description": "test",
    "backbone": {
        "source": "pretrain", "text": "demo-text",
        "spec": {"architecture": {"layers": 1, "hidden": 8, "heads": 2, "intermediate": 16, "max_length": 32},
                 "vocab_size": 300, "steps": 2, "batch_size": 4, "learning_rate": 0.001},
    },
    "seeds": [7],
    "sts": {
        "evaluate": ["demo-sts-roles"], "max_length": 32, "grid": {"layers": [1], "dims": [8]},
        "recipes": {"v1": {"description": "test", "train": "demo-triplets", "pooling": "mean", "max_length": 32,
                           "base": {"loss": "mnrl"}, "nested_dims": [8], "target_dim": 8, "training": TRAINING}},
        "runs": [{"method": "ff"}],
    },
}  # fmt: skip
Verb = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a user, in which the working folder is."""
    return tmp_path_factory.mktemp(f"home-{CANARY}")


@pytest.fixture(scope="module")
def verb(home: Path) -> Verb:
    """Runs a verb in a folder of that home, with secrets in the environment; its output must not have one."""
    work = home / "work"
    work.mkdir()
    (work / "tiny.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    hub = {"HF_HUB_OFFLINE": "0", "HF_HUB_ETAG_TIMEOUT": "1", "HF_HOME": str(home / "hub"), "HOME": str(home)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "workflow" / "run.py"), *arguments],
            capture_output=True, text=True, cwd=work, env={**os.environ, **SECRETS, **hub},
        )  # fmt: skip

    return run


def test_no_file_and_no_message_of_a_run_has_a_secret_or_a_name_of_this_machine(verb: Verb, home: Path) -> None:
    steps = [
        "fetch tiny.yaml --dataset demo-text --out r/data/demo-text.parquet",
        "fetch tiny.yaml --dataset demo-triplets --out r/data/demo-triplets.parquet",
        "fetch tiny.yaml --dataset demo-sts-roles --out r/data/demo-sts-roles.parquet",
        "pretrain tiny.yaml --text r/data/demo-text.parquet --out r/backbone",
        "tokenise r/data/demo-triplets.parquet 32 --backbone r/backbone/backbone.json "
        "--out r/tokens/demo-triplets.32.safetensors",
        "tokenise r/data/demo-sts-roles.parquet 32 --backbone r/backbone/backbone.json "
        "--out r/tokens/demo-sts-roles.32.safetensors",
        "train tiny.yaml sts-ff-paper-v1-s7 --tokens r/tokens/demo-triplets.32.safetensors "
        "--table r/data/demo-triplets.parquet --start r/backbone/backbone.json --out r/runs/sts-ff-paper-v1-s7",
        "evaluate-run tiny.yaml sts-ff-paper-v1-s7 --model r/runs/sts-ff-paper-v1-s7/model --files r "
        "--out r/evaluation/sts-ff-paper-v1-s7",
        "collect tiny.yaml r/evaluation/sts-ff-paper-v1-s7/cells.parquet --files r --out r/tables/cells.parquet",
        "report tiny.yaml --results r",
    ]
    for step in steps:
        result = verb(*step.split())
        assert result.returncode == 0, result.stderr
        assert CANARY not in result.stdout + result.stderr, step
    written = [path for path in (home / "work").rglob("*") if path.is_file()]
    names = {path.name for path in written}
    assert {
        "run.json",
        "evaluation.json",
        "backbone.json",
        "pretraining.json",
        "report.html",
        "telemetry.jsonl",
    } <= names
    for path in written:
        assert CANARY.encode() not in path.read_bytes(), path


def test_a_hub_that_cannot_be_reached_is_said_without_the_proxys_password(verb: Verb) -> None:
    result = verb("evaluate", "someone/model", "--sets", "demo-sts-roles", "--revision", "a" * 40)
    assert result.returncode == 2
    assert result.stderr.startswith("matryobench: someone/model at revision aaaa")
    assert CANARY not in result.stdout + result.stderr


def test_an_address_with_a_password_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a library says of an address that it was given."""
    from matryobench.data.fetch import _unreachable

    said = str(_unreachable("a/b", None, OSError(f"cannot connect to http://me:{CANARY}@proxy:3128/x?token={CANARY}")))
    assert CANARY not in said and "proxy:3128" in said


def test_the_commit_is_taken_without_the_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    from matryobench import provenance

    for command in (
        ["init", "-q"],
        ["remote", "add", "origin", f"https://me:{CANARY}@example.org/x.git"],
        ["-c", f"user.name={CANARY}", "-c", f"user.email={CANARY}@x", "commit", "-q", "--allow-empty", "-m", CANARY],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    found = provenance.environment()
    assert len(found["git_commit"]) == 40 and CANARY not in json.dumps(found)
