"""Environments without installing: a venv into which packages that are installed here are linked, and no others.

What an environment's file leaves out cannot be imported in it, though this Python has it.
"""

from __future__ import annotations

import csv
import importlib.metadata
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version


class NotInstalledError(Exception):
    """A pin is not what is installed here."""


def link(pins: Iterable[str], prefix: Path) -> None:
    """Makes the venv `prefix` with the packages of `pins` (name==version). Raises NotInstalledError where one is not here."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    site = next((prefix / "lib").glob("python3*")) / "site-packages"
    chosen = [_installed(pin) for pin in pins]
    names = {_name(one) for one in chosen}
    for distribution in chosen:
        here = Path(str(distribution.locate_file("")))
        for top, files in _files(distribution).items():
            if top == "..":  # what belongs to the prefix: templates, man pages; programs would run in this Python
                for source in (Path(os.path.normpath(here / file)) for file in files):
                    part = source.relative_to(sys.prefix)
                    if part.parts[0] != "bin":
                        _link(prefix / part, source)
            elif _owners()[top] <= names:
                _link(site / top, here / top)
            elif top != "__pycache__":  # a folder of several packages, of which one is not wanted
                for file in files:
                    _link(site / file, here / file)


def _link(target: Path, source: Path) -> None:
    if not target.exists() and source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)


def _name(distribution: importlib.metadata.Distribution) -> str:
    return str(canonicalize_name(distribution.metadata["Name"]))


@lru_cache(maxsize=1)
def _owners() -> dict[str, set[str]]:
    """First part of a file's name in site-packages -> the packages that have files there."""
    owners: dict[str, set[str]] = defaultdict(set)
    for distribution in importlib.metadata.distributions():
        for top in _files(distribution):
            owners[top].add(_name(distribution))
    return owners


def _files(distribution: importlib.metadata.Distribution) -> dict[str, list[str]]:
    """The files of a package, relative to site-packages, by the first part of their names. `Distribution.files` asks the
    disk for each of them, which takes a minute for all packages."""
    files: dict[str, list[str]] = defaultdict(list)
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        files[row[0].partition("/")[0]].append(row[0])
    return files


def _installed(pin: str) -> importlib.metadata.Distribution:
    name, _, version = pin.partition("==")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise NotInstalledError(f"{pin}: not installed here") from None
    if Version(distribution.version).public != version:
        raise NotInstalledError(f"{pin}: {distribution.version} is installed here")
    return distribution
