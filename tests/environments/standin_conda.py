"""Answers what Snakemake asks of conda, and makes every environment as a venv; for tests, where there is no conda.

    conda info --json | --version | config --get channel_priority --json | env create --file F --prefix P | clean ...

Packages of the pip section are linked from the Python that runs this (`linked`). The first argument is the folder that plays
conda's own. It takes environments of the form that envs/*.yaml have, and refuses conda packages other than python and pip.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import yaml
from linked import link


def pins_of(file: Path) -> list[str]:
    """The pip section of an environment's file. Exits with a sentence for what this stand-in cannot make."""
    spec = yaml.safe_load(file.read_text(encoding="utf-8"))
    pins: list[str] = []
    for one in spec["dependencies"]:
        if isinstance(one, dict):
            pins += one["pip"]
        elif one not in ("pip", "python ={}.{}".format(*sys.version_info[:2])):
            sys.exit(f"{file}: this stand-in for conda has no {one!r}")
    if strange := [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)]:
        sys.exit(f"{file}: {strange[0]!r} is no exact pin")
    return pins


def create(arguments: list[str]) -> None:
    """`conda env create`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--prefix", type=Path, required=True)
    asked, _ = parser.parse_known_args(arguments)
    link(pins_of(asked.file), asked.prefix)


def main(folder: str, arguments: list[str]) -> None:
    """One call of the command."""
    match arguments:
        case ["--version", *_]:
            print("conda 24.9.2")
        case ["info", *_]:
            print(json.dumps({"conda_prefix": folder, "platform": "linux-64", "conda_version": "24.9.2"}))
        case ["config", "--get", *_]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", *rest]:
            create(rest)
        case ["clean", *_]:
            pass
        case _:
            sys.exit(f"this stand-in for conda does not know {' '.join(arguments)!r}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
