"""The environments' files: made from one source, exact, and named by every rule."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from matryobench.errors import InputError
from matryobench.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import make_environments

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FILES = sorted((ROOT / "envs").glob("*.yaml"))
# A package of conda as `name`, `name =version` or `name ==version`: what its files here use of conda's MatchSpec.
MATCH_SPEC = re.compile(r"[a-z0-9][a-z0-9_.-]*( ={1,2}\d+(\.\d+)*)?")


def lock_lines() -> list[str]:
    lines = (ROOT / "envs" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_the_files_are_what_the_tool_makes() -> None:
    made = make_environments.environments()
    assert {path: path.read_text(encoding="utf-8") for path in FILES} == made


def test_the_lock_has_every_direct_dependency_in_its_version() -> None:
    project = PROJECT["project"]
    lock = lock_lines()
    assert all(line.count("==") == 1 for line in lock)
    assert {*project["dependencies"], *project["optional-dependencies"]["dev"]} <= set(lock)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_a_conda_environment_of_exact_pins_from_the_lock(path: Path) -> None:
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert list(spec) == ["name", "channels", "dependencies"]
    assert spec["channels"] == ["conda-forge", "nodefaults"]
    *packages, pip = spec["dependencies"]
    assert packages == ["python =3.11", "pip"]
    assert all(MATCH_SPEC.fullmatch(package) for package in packages)
    assert list(pip) == ["pip"] and set(pip["pip"]) <= set(lock_lines())
    assert len(set(pip["pip"])) == len(pip["pip"])


def test_every_rule_names_a_stage_that_exists() -> None:
    named = set()
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        text = path.read_text(encoding="utf-8")
        files = re.findall(r'^ +conda:\n +"([^"]+)"$', text, re.MULTILINE)
        assert len(files) == len(re.findall(r"^ *rule \w+:", text, re.MULTILINE)), path.name
        assert all((path.parent / file).is_file() for file in files), path.name
        named |= {Path(file).stem for file in files}
    assert named == set(PROJECT["tool"]["matryobench"]["stages"]) - {"workflow"}  # which drives the rules


def project(dependencies: list[str], **stages: list[str]) -> dict[str, object]:
    return {"project": {"dependencies": dependencies}, "tool": {"matryobench": {"stages": stages}}}


def test_a_dependency_without_a_stage_and_a_stage_without_its_dependency_are_said() -> None:
    with pytest.raises(InputError, match=r"stages: rich is in no stage; name it where a rule imports it\."):
        make_environments.stages(project(["rich==15.0.0", "PyYAML==6.0.3"], data=["pyyaml"]))
    with pytest.raises(InputError, match=r"stages\.data: 'torhc' is no dependency of the project; add it"):
        make_environments.stages(project(["torch==2.13.0"], data=["torch", "torhc"]))


def test_the_closure_is_what_the_installed_packages_say_they_need() -> None:
    lock = make_environments.read_lock(ROOT / "envs" / "requirements.txt")
    assert [pin.partition("==")[0] for pin in make_environments.closure(["Jinja2==3.1.6"], lock)] == [
        "Jinja2", "MarkupSafe",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"markupsafe": None}, "MarkupSafe, which Jinja2 needs, is not there; run `make lock`"),
        ({"markupsafe": ("MarkupSafe", "1.9")}, r"MarkupSafe==1\.9 is not what Jinja2 needs"),
        ({"markupsafe": ("MarkupSafe", "99.0")}, r"MarkupSafe==99\.0, but [\d.]+ is installed here; install the lock"),
        ({"jinja2": ("Jinja2", "3.1.5")}, r"Jinja2==3\.1\.5 is not what pyproject\.toml needs"),
    ],
)
def test_a_lock_that_does_not_hold_together_is_said(change: dict[str, tuple[str, str] | None], message: str) -> None:
    lock = {**make_environments.read_lock(ROOT / "envs" / "requirements.txt"), **change}
    with pytest.raises(InputError, match=message):
        make_environments.closure(["Jinja2==3.1.6"], {name: pin for name, pin in lock.items() if pin is not None})


def test_a_line_of_the_lock_that_is_no_pin_is_said(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text("torch==2.13.0\nnumpy>=2\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"lock\.txt line 2: 'numpy>=2' is no exact pin; write name==version\."):
        make_environments.read_lock(tmp_path / "lock.txt")


def test_the_tool_says_what_is_out_of_date() -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_environments.py"), "--check"], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
