"""What takes too long for every test run (`make test-environments`): every rule, and every environment installed by pip.

pytest does not collect this file by itself. Installing needs a package index, and 2 GB for one environment at a time.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import experiment
import pytest
from standin_conda import pins_of
from test_running import COMMON, NOT_OF, PARTS, environment, third_party

from matryobench.paths import ROOT


def test_every_rule_runs_in_its_stages_environment(conda: Path, driver: Path, tmp_path: Path) -> None:
    printed = experiment.run(driver, tmp_path, environment(conda), whole=True)
    page = (tmp_path / "results" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert '<div class="missing"' not in page
    rules = {name for path in (ROOT / "workflow" / "rules").glob("*.smk")
             for name in re.findall(r"^ *rule (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)}  # fmt: skip
    ran = set(re.findall(r"\(Rule: (\w+)\)", printed))
    assert rules - ran == {"fetch_backbone"}  # this experiment pre-trains its own


@pytest.mark.parametrize("stage", PARTS)
def test_pip_installs_the_pins_and_nothing_else(stage: str, tmp_path: Path) -> None:
    pins = pins_of(ROOT / "envs" / f"{stage}.yaml")
    python = tmp_path / "env" / "bin" / "python"
    try:
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *pins], check=True)
        subprocess.run([python, "-m", "pip", "check"], check=True)
        listed = subprocess.run([python, "-m", "pip", "freeze", "--all"], capture_output=True, text=True, check=True)
        # The build of torch is no part of the pin, and one for GPUs brings NVIDIA's libraries, pinned by itself.
        installed = {canonical(line.partition("+")[0]) for line in listed.stdout.splitlines()}
        extra = {
            pin for pin in installed if not pin.startswith(("pip==", "setuptools==", "nvidia-", "cuda-", "triton=="))
        }
        assert extra == {canonical(pin) for pin in pins if not pin.startswith("setuptools==")}
        modules = sorted(third_party(PARTS[stage] + COMMON) - NOT_OF.get(stage, set()))
        subprocess.run([python, "-c", f"import {', '.join(modules)}"], check=True, cwd=tmp_path)
    finally:
        shutil.rmtree(tmp_path / "env")


def canonical(pin: str) -> str:
    return pin.lower().replace("_", "-")
