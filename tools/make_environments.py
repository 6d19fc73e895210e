#!/usr/bin/env python3
"""Writes envs/<stage>.yaml, the conda environment of every stage, from pyproject.toml and the lock envs/requirements.txt.

    python tools/make_environments.py [--check]

pyproject.toml says which direct dependencies a stage has ([tool.matryobench.stages]), the metadata of the installed
packages what these bring, and the lock in which versions; envs/matryobench.yaml has all direct dependencies. It runs in an
environment that was installed from the lock. With --check nothing is written; the exit code is 1 where a file is out of date.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow"))

from matryobench.errors import InputError
from matryobench.files import write_text

PROJECT, LOCK = "pyproject.toml", "envs/requirements.txt"
WHOLE = "matryobench"  # the environment of all direct dependencies
PYTHON = "3.11"

Lock = Mapping[str, tuple[str, str]]  # canonical name -> (name as written, version)


def read_lock(file: Path) -> Lock:
    """The pins of a lock. Raises InputError for a line that is no exact pin."""
    pins = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("#") or not line.strip():
            continue
        name, equal, version = line.strip().partition("==")
        if not equal or not re.fullmatch(r"[\w.!+]+", version):
            raise InputError(f"{file} line {number}: {line!r} is no exact pin; write name==version.")
        pins[str(canonicalize_name(name))] = (name, version)
    return pins


def stages(project: Mapping[str, object]) -> dict[str, list[str]]:
    """The direct dependencies of every stage, as requirements; `WHOLE` has all.

    `project`: pyproject.toml, read. Raises InputError for a stage that names what is no direct dependency of the project,
    and for a direct dependency that is in no stage.
    """
    direct = {canonicalize_name(Requirement(one).name): one for one in project["project"]["dependencies"]}
    table: dict[str, list[str]] = project["tool"]["matryobench"]["stages"]
    for stage, names in table.items():
        for name in names:
            if canonicalize_name(name) not in direct:
                raise InputError(
                    f"{PROJECT}: tool.matryobench.stages.{stage}: {name!r} is no dependency of the project; add it to "
                    "project.dependencies with its version, or correct the name."
                )
    used = {canonicalize_name(name) for names in table.values() for name in names}
    if lacking := sorted(set(direct) - used):
        raise InputError(
            f"{PROJECT}: tool.matryobench.stages: {', '.join(lacking)} is in no stage; name it where a rule imports it."
        )
    named = {stage: [direct[canonicalize_name(name)] for name in names] for stage, names in table.items()}
    return {**named, WHOLE: list(direct.values())}


def closure(requirements: Iterable[str], lock: Lock) -> list[str]:
    """`name==version` of the packages and of all that they bring on this platform, by the lock, sorted.

    Raises InputError where the lock lacks a package or pins a version that another one excludes, and where what is
    installed is not what the lock says.
    """
    found: set[str] = set()
    waiting = [(Requirement(one), PROJECT) for one in requirements]
    seen = set()
    while waiting:
        requirement, wanted_by = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in lock:
            raise InputError(f"{LOCK}: {requirement.name}, which {wanted_by} needs, is not there; run `make lock`.")
        written, version = lock[name]
        if not requirement.specifier.contains(version, prereleases=True):
            raise InputError(
                f"{LOCK}: {written}=={version} is not what {wanted_by} needs ({requirement}); run `make lock`."
            )
        found.add(f"{written}=={version}")
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for needed in map(Requirement, _installed(written, version).requires or []):
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append((needed, written))
    return sorted(found, key=str.lower)


def _installed(name: str, version: str) -> importlib.metadata.Distribution:
    """What is installed of a package, in the version of the lock."""
    fix = f"install the lock first (pip install -r {LOCK})"
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"{LOCK}: {name}=={version} is not installed here; {fix}.") from None
    if Version(distribution.version).public != Version(version).public:  # a build, such as +cpu, is no other version
        raise InputError(f"{LOCK}: {name}=={version}, but {distribution.version} is installed here; {fix}.")
    return distribution


def environment(stage: str, pins: Iterable[str]) -> str:
    """The conda environment of a stage, as YAML. The pins are written out: Snakemake copies the file elsewhere, and a
    path of another file in it would lead nowhere."""
    lines = [
        f"# Made by tools/make_environments.py from {PROJECT} and {LOCK}; docs/environments.md.",
        f"name: {stage if stage == WHOLE else f'{WHOLE}-{stage}'}",
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        f"  - python ={PYTHON}",
        "  - pip",
        "  - pip:",
        *(f"      - {pin}" for pin in pins),
    ]
    return "\n".join(lines) + "\n"


def environments() -> dict[Path, str]:
    """The text of every environment's file."""
    project = tomllib.loads((ROOT / PROJECT).read_text(encoding="utf-8"))
    lock = read_lock(ROOT / LOCK)
    return {
        ROOT / "envs" / f"{stage}.yaml": environment(stage, closure(requirements, lock))
        for stage, requirements in stages(project).items()
    }


def main() -> int:
    """Writes or checks the files; 1 where one is out of date, 2 for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    try:
        wanted = environments()
    except InputError as error:
        print(f"make_environments: {error}", file=sys.stderr)
        return 2
    out_of_date = [file for file, text in wanted.items() if not file.is_file() or file.read_text("utf-8") != text]
    for file in out_of_date:
        if check:
            print(f"{file.relative_to(ROOT)} is out of date; run `make environments`", file=sys.stderr)
        else:
            write_text(file, wanted[file])
            print(file.relative_to(ROOT))
    return 1 if check and out_of_date else 0


if __name__ == "__main__":
    sys.exit(main())
