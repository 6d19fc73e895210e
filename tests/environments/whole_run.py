"""What takes too long for every test run (`make test-environments`): every rule, and the packages installed by pip.

pytest does not collect this file by itself. The installed packages need a package index and 6 GB under build/.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import experiment
import pytest
from standin_conda import pins_of
from test_running import environment

from matryobench.paths import ROOT

STAGES = ("workflow", "data", "train", "evaluate", "analyse", "report")


@pytest.mark.parametrize("stage", STAGES)
def test_pip_resolves_the_pins_to_themselves(stage: str, tmp_path: Path) -> None:
    """In an empty environment: nothing is missing, nothing contradicts."""
    pins = pins_of(ROOT / "envs" / f"{stage}.yaml")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    subprocess.run(
        [
            tmp_path / "env" / "bin" / "pip",
            "install",
            "--dry-run",
            "--quiet",
            "--report",
            tmp_path / "report.json",
            *pins,
        ],
        check=True,
    )
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    chosen = {f"{one['metadata']['name']}=={one['metadata']['version']}".lower() for one in report["install"]}
    # A build of torch for GPUs brings NVIDIA's libraries, whose versions it pins itself.
    brought = {pin for pin in chosen if not pin.startswith(("nvidia-", "triton", "cuda-"))}
    assert {name.replace("_", "-").partition("+")[0] for name in brought} == {
        pin.lower().replace("_", "-") for pin in pins
    }


@pytest.mark.parametrize("how", ["linked", "installed"])
def test_every_rule_runs_in_its_stages_environment(
    how: str, conda: Path, driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "installed":
        monkeypatch.setenv("STANDIN_CONDA", "install")
    experiment.run(driver, tmp_path, environment(conda), whole=True)
    page = (tmp_path / "results" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert '<div class="missing"' not in page
