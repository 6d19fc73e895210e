"""`--sdm conda` for real but for conda itself: every job in the environment of its stage, which has nothing else."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import experiment
import pytest

from matryobench.dag import PACKAGE

InStage = Callable[..., "CompletedProcess[str]"]


# What the rules of a stage run, besides the checking of a config, which all do. Imports inside functions count.
PARTS = {
    "workflow": ["dag.py", "listing.py", "report/places.py"],
    "data": ["data"],
    "train": ["training", "pretraining", "objectives", "models", "data/tokens.py", "data/group_tokens.py"],
    "evaluate": ["evaluation", "models", "deployment/jobs.py", "deployment/measuring.py"],
    "analyse": ["analysis", "claims", "evidence.py", "deployment"],
    "report": ["figures", "report", "notebook.py", "reports.py"],
}
COMMON = ["cli.py", "cli_results.py", "plan.py", "config.py", "tasks.py", "checks.py", "validation.py", "files.py"]
# Measuring is of the stage `evaluate`, whose numbers the analysis reads; no rule asks for half-precision documents (FAISS).
NOT_OF = {"analyse": {"torch"}, "evaluate": {"faiss"}}


def environment(conda: Path) -> dict[str, str]:
    """This environment with the stand-in for conda, and nothing that would lead Python elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    return {**kept, "PATH": os.pathsep.join([str(conda / "bin"), kept["PATH"]])}


def third_party(parts: list[str]) -> set[str]:
    """First names of the modules that files (or all of a folder) of the package import, but for type checking."""
    found = set()
    for part in parts:
        path = PACKAGE / part
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            typing = {
                id(node)
                for block in ast.walk(tree)
                if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
                for node in ast.walk(block)
            }
            for node in ast.walk(tree):
                if id(node) in typing:
                    continue
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    return found - {"matryobench"} - sys.stdlib_module_names


def test_a_tiny_experiment_runs_with_nothing_but_the_stages_environments(
    conda: Path, driver: Path, tmp_path: Path
) -> None:
    tables = "results/tiny/tables"
    targets = [
        f"{tables}/cells.parquet", f"{tables}/mteb-relative.csv", f"{tables}/claims.csv",
        "results/tiny/figures/mteb-relative.svg",
    ]  # fmt: skip
    printed = experiment.run(driver, tmp_path, environment(conda), *targets)
    assert all((tmp_path / target).is_file() for target in targets)
    made = [line.rsplit("/", 1)[1] for line in printed.splitlines() if "Creating conda environment" in line]
    assert sorted(name.removesuffix("...") for name in made) == [
        "analyse.yaml", "data.yaml", "evaluate.yaml", "report.yaml", "train.yaml",
    ]  # fmt: skip


@pytest.mark.parametrize("stage", PARTS)
def test_all_that_a_stages_code_imports_is_there(in_stage: InStage, stage: str) -> None:
    wanted = sorted(third_party(PARTS[stage] + COMMON) - NOT_OF.get(stage, set()))
    assert len(wanted) > 2
    code = "import sys, importlib.util as u; print([m for m in sys.argv[1:] if u.find_spec(m) is None])"
    result = in_stage(stage, "-c", code, *wanted)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize(
    ("stage", "module"),
    [("workflow", "torch"), ("data", "matplotlib"), ("train", "mteb"), ("evaluate", "tevatron"), ("analyse", "torch"),
     ("report", "torch")],
)  # fmt: skip
def test_what_a_stage_does_not_name_is_not_there(in_stage: InStage, stage: str, module: str) -> None:
    result = in_stage(stage, "-c", f"import {module}")
    assert f"No module named '{module}'" in result.stderr
