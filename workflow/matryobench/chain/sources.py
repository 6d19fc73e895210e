"""What a product was made from: hashes of its inputs, in a record beside it and, by one hash of them all, inside it.

The record `<name>.made.json` names code, inputs and outputs. Inside a product stands only what depends on nothing but its
inputs, so that the same inputs give the same bytes: in pictures by `figures.theme.save`, in the other forms by `sign`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from matryobench.files import atomic_path, sha256_of, write_json, write_text
from matryobench.provenance import code, config_hash

if TYPE_CHECKING:
    from matryobench.plan import Plan

METADATA_KEY = b"matryobench"
_FORMS = {".md": "\n[//]: # ({})\n", ".tex": "% {}\n", ".html": "<!-- {} -->\n"}  # none of them shows


@dataclass(frozen=True)
class Sources:
    """The inputs of a product, hashed before it is made; paths are relative to the results folder `root`."""

    experiment: str
    config_hash: str
    root: Path
    inputs: Mapping[str, str]

    @classmethod
    def of(cls, plan: Plan, root: Path, files: Iterable[Path]) -> Sources:
        """Hashes these files; one that is not below `root` goes by its name alone."""
        sums = {_inside(path, root): sha256_of(path) for path in files}
        return cls(plan.experiment.name, config_hash(plan.experiment), root, dict(sorted(sums.items())))

    def note(self, product: str) -> dict[str, str]:
        """What stands inside a product: experiment, product and the one hash of its inputs."""
        return {"experiment": self.experiment, "product": product, "inputs_sha256": inputs_sha256(self.inputs)}

    def sign(
        self,
        product: str,
        outputs: Iterable[Path],
        *,
        noted: Iterable[Path] = (),
        facts: Mapping[str, Any] | None = None,
        record: Path | None = None,
    ) -> Path:
        """Writes the note into outputs that have a place for it (not those in `noted`), then the record beside them.

        `facts` are more keys of the record, `record` its path where it is not `<name>.made.json`. Returns the path.
        """
        paths = list(outputs)
        for path in paths:
            if path not in set(noted):
                _write_note(path, self.note(product))
        target = record or paths[0].with_suffix(".made.json")
        content = {
            **self.note(product), "config_hash": self.config_hash, **code(), **(facts or {}), "inputs": self.inputs,
            "outputs": {path.name: sha256_of(path) for path in paths},
        }  # fmt: skip
        write_json(target, content)
        return target


def inputs_sha256(inputs: Mapping[str, str]) -> str:
    """The SHA-256 of the lines `<sha256>  <path>`, sorted by path, as `sha256sum` prints them."""
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(inputs.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _inside(path: Path, root: Path) -> str:
    whole, folder = path.resolve(), root.resolve()
    return PurePosixPath(whole.relative_to(folder)).as_posix() if whole.is_relative_to(folder) else path.name


def _write_note(path: Path, note: Mapping[str, str]) -> None:
    """Adds the note as a comment, or as metadata of a parquet file; other forms have no place for it."""
    text = json.dumps(note, sort_keys=True)
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        with atomic_path(path) as partial:
            metadata = {**(table.schema.metadata or {}), METADATA_KEY: text.encode()}
            pq.write_table(table.replace_schema_metadata(metadata), partial)
    elif path.suffix in _FORMS:
        write_text(path, path.read_text(encoding="utf-8") + _FORMS[path.suffix].format(f"matryobench {text}"))
