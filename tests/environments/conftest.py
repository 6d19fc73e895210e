"""A stand-in for conda on the path, and a Python that has nothing but Snakemake to drive it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from linked import link
from standin_conda import pins_of

from matryobench.paths import ROOT

# Activating an environment is setting its prefix and putting its programs first.
_ACTIVATE = 'export CONDA_PREFIX="$1"\nexport PATH="$1/bin:$PATH"\n'


@pytest.fixture(scope="session")
def conda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as conda's own is: bin/conda and bin/activate."""
    folder = tmp_path_factory.mktemp("conda")
    (folder / "bin").mkdir()
    command = folder / "bin" / "conda"
    standin = Path(__file__).with_name("standin_conda.py")
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{standin}" "{folder}" "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    (folder / "bin" / "activate").write_text(_ACTIVATE, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment of the stage `workflow` alone."""
    prefix = tmp_path_factory.mktemp("driver") / "env"
    link(pins_of(ROOT / "envs" / "workflow.yaml"), prefix)
    return prefix / "bin" / "python"


@pytest.fixture
def in_stage(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python with arguments in an environment of a stage, as a conda job of it would."""

    def run(stage: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        prefix = tmp_path / stage
        if not prefix.exists():
            link(pins_of(ROOT / "envs" / f"{stage}.yaml"), prefix)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
        return subprocess.run(
            [prefix / "bin" / "python", *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment
        )

    return run
