"""The folder of collected public data that tools/mirror_from_shared.py reads: checked files, in the form that is asked for."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from matryobench.errors import InputError
from matryobench.files import sha256_of

STS_COLUMNS = ("sentence1", "sentence2", "score", "subset")


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
        rows = (row for name in names for row in self.rows(name))
        kept = [{column: row[column] for column in STS_COLUMNS if column in row} for row in rows]
        return gzip.compress(json_lines(kept), mtime=0)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The objects of a JSON Lines file, plain or with .gz."""
        path = self.file(name)
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return [json.loads(line) for line in text.decode("utf-8").rstrip("\n").split("\n")]

    def labelled(self, name: str, labels: list[str] | None, target: str) -> bytes:
        """Labelled texts with the hub's columns: the label's number in `labels` (None: names in order, case ignored)."""
        rows = self.rows(name)
        names = labels or sorted({row["label"] for row in rows}, key=str.lower)
        numbered = [{**row, "label": names.index(row["label"]), "label_text": row["label"]} for row in rows]
        return as_parquet(numbered) if target.endswith(".parquet") else json_lines(numbered)

    def split(self, name: str, part: str) -> bytes:
        """The part `train` or `test` of a file without a split: a fifth of each class's distinct texts is the test set.

        The draw has a seed of its own, so that both parts, and every mirror, agree; no text is in both parts.
        """
        rows = self.rows(name)
        test: set[str] = set()
        generator = np.random.default_rng(0)
        for label in sorted({row["label"] for row in rows}):
            texts = list(dict.fromkeys(row["text"] for row in rows if row["label"] == label))
            test.update(texts[drawn] for drawn in generator.permutation(len(texts))[: round(len(texts) / 5)])
        return json_lines([row for row in rows if (row["text"] in test) == (part == "test")])

    def converted(self, name: str, target: str) -> bytes:
        """A file in the form that the name `target` says: unpacked without .gz, judgements as JSON lines with .jsonl."""
        content = self.file(name).read_bytes()
        if name.endswith(".gz") and not target.endswith(".gz"):
            content = gzip.decompress(content)
        if name.endswith(".tsv") and target.endswith(".jsonl"):
            header, *rows = (line.split("\t") for line in content.decode("utf-8").rstrip("\n").split("\n"))
            keys = ("query-id", "corpus-id", "score")
            assert tuple(header) == keys
            content = json_lines([{**dict(zip(keys, row, strict=True)), "score": int(row[2])} for row in rows])
        return content


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON Lines in UTF-8."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    """Rows as a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()
