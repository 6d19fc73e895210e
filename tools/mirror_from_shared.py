#!/usr/bin/env python3
"""Turns a folder of collected public data into a mirror that the configs read as if it came from the hub.

    python tools/mirror_from_shared.py SHARED_DATA MIRROR [--model NAME=FOLDER ...]

SHARED_DATA holds MANIFEST.json (sha256 per file), sts/ and nli/. The STS sets go under the hub ids and revisions of the
registry, as JSON lines with MTEB's column names; what the hub does not have in that form goes under local/. --model
copies a transformers or sentence-transformers folder in as the model NAME. docs/data.md describes what differs from the
hub's own files.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "workflow"))

from matryobench.data.fetch import check_model_files, fetch_dataset, is_model_file
from matryobench.data.mirror import Mirror, NotInMirror, copy_into
from matryobench.data.registry import DatasetSpec, find_dataset, load_datasets
from matryobench.errors import InputError
from matryobench.files import sha256_of

# Data set of the registry -> files of the shared folder that make it up, in order.
HUB_SETS = {
    "stsb-train": ["sts/STSBenchmark/train.jsonl.gz"],
    "stsb-dev": ["sts/STSBenchmark/dev.jsonl"],
    "sts12": ["sts/STS12/test.jsonl"],
    "sts13": ["sts/STS13/test.jsonl"],
    "sts14": ["sts/STS14/test.jsonl"],
    "sts15": ["sts/STS15/test.jsonl"],
    "sts16": ["sts/STS16/test.jsonl"],
    "stsb": ["sts/STSBenchmark/test.jsonl"],
    "sick-r": ["sts/SICK-R/train.jsonl", "sts/SICK-R/trial.jsonl", "sts/SICK-R/test.jsonl"],
}
# The same for sets that only a mirror has: one file each, copied as it is.
LOCAL_SETS = {
    "nli-public": "nli/train.jsonl.gz",
    "sick-train": "sts/SICK-R/train.jsonl",
    "sick-r-test": "sts/SICK-R/test.jsonl",
}
STS_COLUMNS = ("sentence1", "sentence2", "score", "subset")

HUB_NOTE = (
    "Made by tools/mirror_from_shared.py from collected public copies: the same pairs and gold scores as the hub's file "
    "as far as known, but not the hub's bytes, and the texts of STS12-16 are about 2 % shorter (not tokenised)."
)
LOCAL_NOTE = "Made by tools/mirror_from_shared.py from collected public copies; the hub has no such file."
MODEL_NOTE = "Copied from a local folder by tools/mirror_from_shared.py; the revision is a digest of the files."


class Shared:
    """The shared data folder; every file that is taken from it has the SHA-256 of its MANIFEST.json."""

    def __init__(self, root: Path) -> None:
        self.root = root
        manifest = root / "MANIFEST.json"
        try:
            files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
            self.sums = {file["name"]: file["sha256"] for file in files}
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{manifest}: no readable manifest there; give the folder that holds it.") from None

    def file(self, name: str) -> Path:
        path = self.root / name
        if name not in self.sums or not path.is_file():
            raise InputError(
                f"{path}: the shared folder lacks this file or its manifest does not list it; complete it."
            )
        found = sha256_of(path)
        if found != self.sums[name]:
            raise InputError(
                f"{path}: this file has changed (sha256 {found[:12]}, the manifest says {self.sums[name][:12]}); "
                "get the original."
            )
        return path

    def pairs(self, names: list[str]) -> bytes:
        """Scored pairs of JSON Lines files, joined, with the columns that MTEB has (and `subset`), as .jsonl.gz bytes."""
        lines = []
        for name in names:
            path = self.file(name)
            text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            for line in text.decode("utf-8").rstrip("\n").split("\n"):
                row: dict[str, Any] = json.loads(line)
                kept = {column: row[column] for column in STS_COLUMNS if column in row}
                lines.append(json.dumps(kept, ensure_ascii=False) + "\n")
        return gzip.compress("".join(lines).encode("utf-8"), mtime=0)


def add_hub_set(name: str, spec: DatasetSpec, shared: Shared, mirror: Mirror) -> None:
    """Puts one STS set under its hub id and revision, unless the mirror has that file already."""
    assert spec.hub is not None and spec.hub.revision is not None
    entry = mirror.entry("datasets", spec.hub.id, spec.hub.revision)
    if not _held(mirror, entry, spec.hub.files[0]):
        with mirror.incoming() as gathered:
            (gathered / spec.hub.files[0]).write_bytes(shared.pairs(HUB_SETS[name]))
            identity = {"id": spec.hub.id, "revision": spec.hub.revision, "note": HUB_NOTE}
            mirror.add(entry, gathered, identity, origin="shared-data")


def add_local_set(name: str, spec: DatasetSpec, shared: Shared, mirror: Mirror) -> None:
    """Copies one file to the place that the registry gives for it."""
    assert spec.mirror is not None
    place = mirror.root / spec.mirror.files[0]
    source = shared.file(LOCAL_SETS[name])
    with mirror.incoming() as gathered:
        (gathered / place.name).write_bytes(source.read_bytes())
        identity = {"id": place.parent.name, "revision": None, "note": LOCAL_NOTE}
        mirror.add(place.parent, gathered, identity, origin="shared-data")


def add_model(name: str, folder: Path, mirror: Mirror) -> Path:
    """Copies a model folder in under a revision that is a digest of its files, and pins that revision."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give --model NAME=FOLDER with a model's folder.")
    every = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [file for file in every if is_model_file(file)]
    check_model_files(names, str(folder))
    listing = "".join(f"{file} {sha256_of(folder / file)}\n" for file in names)
    revision = hashlib.sha256(listing.encode()).hexdigest()[:40]
    mirror.pin("models", name, revision)
    with mirror.incoming() as gathered:
        copy_into(folder, gathered, names)
        identity = {"id": name, "revision": revision, "note": MODEL_NOTE}
        mirror.add(mirror.entry("models", name, revision), gathered, identity, origin="tool")
    return mirror.model_folder(name, None)


def _held(mirror: Mirror, entry: Path, file: str) -> bool:
    try:
        return bool(mirror.verified(entry, [file], thorough=True))
    except NotInMirror:
        return False


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when all sets are in the mirror and fit the registry, 2 after an InputError's sentence."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("shared", type=Path, metavar="SHARED_DATA", help="folder with MANIFEST.json, sts/ and nli/")
    parser.add_argument("mirror", type=Path, metavar="MIRROR", help="the mirror to fill; made if needed")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER", help="a model folder to copy in")
    parser.add_argument(
        "--datasets", type=Path, default=PROJECT / "config" / "datasets.yaml", help="registry to follow"
    )
    options = parser.parse_args(arguments)
    try:
        datasets = load_datasets(options.datasets)
        specs = {name: find_dataset(datasets, name, str(options.datasets)) for name in (*HUB_SETS, *LOCAL_SETS)}
        shared, mirror = Shared(options.shared), Mirror(options.mirror)
        for name, spec in specs.items():
            add = add_hub_set if name in HUB_SETS else add_local_set
            add(name, spec, shared, mirror)
            table, meta = fetch_dataset(name, spec, mirror, offline=True)
            print(f"{name:12} {table.num_rows:6} rows  {next(iter(meta['sha256']))}")
        for model in options.model:
            name, equals, folder = model.partition("=")
            if not equals:
                raise InputError(f"--model {model}: write NAME=FOLDER.")
            print(f"{name}  {add_model(name, Path(folder), mirror)}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
