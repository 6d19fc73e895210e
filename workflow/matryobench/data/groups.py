"""Training groups in Tevatron's form: a query, its positive passages and its negative passages."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from matryobench.data.specs import COLUMNS
from matryobench.data.values import arrow_type
from matryobench.files import atomic_path

_PIECE = 1_000  # groups at a time: each carries dozens of passages


def groups_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A groups table of rows {query_id, query, positive_passages, negative_passages}; passages are {docid, title, text}."""
    schema = pa.schema([(column, arrow_type(column)) for column in COLUMNS["groups"]])
    # In pieces: the texts of one piece must not have more bytes than 32-bit offsets can count.
    pieces = [pa.Table.from_pylist(piece, schema=schema) for piece in _pieces(rows)]
    return pa.concat_tables(pieces) if pieces else schema.empty_table()


def write_tevatron(table: pa.Table, path: Path) -> None:
    """Writes a groups table as Tevatron's JSON lines, gzipped where the name ends in .gz, whole or not at all.

    The same table gives the same bytes. Reading the file as an entry of kind groups gives the table again.
    """
    with atomic_path(path) as partial, partial.open("wb") as raw:
        if Path(path).suffix == ".gz":
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as stream:
                _write_lines(table, stream)
        else:
            _write_lines(table, raw)


def _pieces(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(rows)
    while piece := list(islice(iterator, _PIECE)):
        yield piece


def _write_lines(table: pa.Table, stream: Any) -> None:
    for batch in table.to_batches(max_chunksize=_PIECE):
        for row in batch.to_pylist():
            stream.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))
