"""The container recipe, without an engine to build it: what its instructions name is there and is enough for a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from matryobench.paths import ROOT

LINES = [
    line.split(maxsplit=1)
    for line in (ROOT / "envs" / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]


def values(instruction: str) -> list[str]:
    return [value for name, value in LINES if name == instruction]


def test_it_installs_the_lock_and_nothing_else() -> None:
    assert {name for name, _ in LINES} == {
        "FROM", "ENV", "ARG", "COPY", "RUN", "WORKDIR", "USER", "ENTRYPOINT", "CMD",
    }  # fmt: skip
    assert values("FROM") == ["python:3.11-slim"]
    installed = [value for value in values("RUN") if "pip" in value]
    assert installed == ["pip install -r /opt/requirements.txt"]
    assert "envs/requirements.txt /opt/requirements.txt" in values("COPY")
    assert not any(word in value for value in values("RUN") for word in ("apt", "curl", "wget"))


def test_it_does_not_run_as_root() -> None:
    names = [name for name, _ in LINES]
    assert values("USER") == ["matryobench"]
    assert names.index("USER") > max(at for at, name in enumerate(names) if name in ("RUN", "COPY"))
    assert any("useradd" in value and "matryobench" in value for value in values("RUN"))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of the image: what its COPY and `ln` instructions put there."""
    folder = tmp_path_factory.mktemp("work")
    for value in values("COPY"):
        *sources, target = value.split()
        for source in sources:
            if target.startswith("/"):
                continue
            # As the build does: a folder's contents, a file under its name.
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, folder / target)
    for value in values("RUN"):
        if value.startswith("ln "):
            subprocess.run(value.split(), check=True, cwd=folder)
    return folder


def test_the_demo_can_be_planned_from_what_it_copies(copied: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--configfile", "config/demo.yaml"],
        capture_output=True, text=True, cwd=copied, env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert "train" in result.stdout
    verb = subprocess.run(
        [sys.executable, "workflow/run.py", "plan", "config/demo.yaml"],
        capture_output=True, text=True, cwd=copied, env=environment,
    )  # fmt: skip
    assert verb.returncode == 0 and verb.stdout.startswith("demo: ")


def test_what_it_copies_is_let_through_to_the_build() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    copied = {source.split("/")[0] for value in values("COPY") for source in value.split()[:-1]}
    assert copied == kept
