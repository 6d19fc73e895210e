"""A corpus's files -> its sorted table on disk, without ever holding its texts.

What is read is sorted in runs of a bounded size, each written beside the table. The order of all ids is known then, and the
rows of the table that stand one after the other are also one after the other in every run, so that one sequential pass over
the runs writes the table. In memory are the ids (some 20 bytes a passage), their order (8 bytes) and a few row groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matryobench.data.readers import read_chunks
from matryobench.data.records import (
    METADATA_KEY,
    PIECE,
    ROW_GROUP,
    SORTED,
    Places,
    check_rows,
    checked_part,
    note,
    repeated,
)
from matryobench.data.specs import DatasetSpec
from matryobench.errors import InputError
from matryobench.files import atomic_path, scratch_folder

_RUN_BYTES = 64 * 2**20
"""Texts that are sorted at once."""


def write_passages(paths: Sequence[Path], spec: DatasetSpec, name: str, out: Path, meta: dict[str, Any]) -> int:
    """Writes the passages of files to `out` as `read_records` and `write_table` do, byte for byte; returns their number.

    Raises InputError as `read_records` does, with nothing written.
    """
    places, missing = Places(), 0
    runs: list[_Run] = []
    ids: list[pa.Array] = []
    with scratch_folder(out) as folder:
        for table in _portions(paths, spec, name, places):
            missing += _count(table, spec.missing_text)
            ids.append(table.column("doc_id").combine_chunks())
            runs.append(_Run(table, folder / str(len(runs))))
            del table
        rows = places.rows
        check_rows(rows, places.names, spec, name)
        facts = {**meta, "rows": rows}
        if spec.missing_text is not None:
            facts["missing_text"] = {"text": spec.missing_text, "texts": missing}
        starts = np.cumsum([0, *map(len, ids)])
        every = pa.chunked_array(ids)
        ids.clear()
        order = pc.sort_indices(every, sort_keys=[("", "descending")]).to_numpy()
        del every
        schema = runs[0].schema.with_metadata({METADATA_KEY: note(facts)})
        with atomic_path(out) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            last: tuple[str, int] | None = None
            for start in range(0, rows, ROW_GROUP):
                numbers = order[start : start + ROW_GROUP]
                table = _gathered(runs, np.searchsorted(starts, numbers, side="right") - 1)
                last = _refuse_repeats(table.column("doc_id"), numbers, last, places)
                writer.write_table(table.replace_schema_metadata(schema.metadata))
    return rows


def _portions(paths: Sequence[Path], spec: DatasetSpec, name: str, places: Places) -> Iterator[pa.Table]:
    """The checked rows of all files in the order in which they stand, in tables of some _RUN_BYTES."""
    parts: list[pa.Table] = []
    for path in paths:
        for raw in read_chunks(Path(path), spec.kind, spec.header, PIECE[spec.kind]):
            parts.append(checked_part(raw, spec, name))
            places.add(raw)
            if sum(part.nbytes for part in parts) >= _RUN_BYTES:
                yield pa.concat_tables(parts)
                parts = []
    if parts:
        yield pa.concat_tables(parts)


class _Run:
    """Rows that were sorted in memory and lie on the disk, to be read once, from the first on."""

    def __init__(self, table: pa.Table, path: Path) -> None:
        self.schema = table.schema
        self._path = path
        ordered = table.combine_chunks().take(pc.sort_indices(table, sort_keys=[("doc_id", "descending")]))
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(ordered, max_chunksize=SORTED)
        self._batches = self._read()
        self._rest = table.schema.empty_table()

    def _read(self) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(self._path)) as source:
            stored = pa.ipc.open_file(source)
            for number in range(stored.num_record_batches):
                yield stored.get_batch(number)

    def following(self, rows: int) -> pa.Table:
        """The next rows."""
        parts = [self._rest]
        held = len(self._rest)
        while held < rows:
            parts.append(pa.table(next(self._batches)))
            held += len(parts[-1])
        table = pa.concat_tables(parts)
        self._rest = table.slice(rows)
        return table.slice(0, rows)


def _gathered(runs: Sequence[_Run], sources: NDArray[np.int64]) -> pa.Table:
    """The next rows of the table, given for each the run that it is in; pieces of SORTED rows."""
    counts = np.bincount(sources, minlength=len(runs)).tolist()
    table = pa.concat_tables([run.following(count) for run, count in zip(runs, counts, strict=True) if count])
    places = np.empty(len(sources), dtype=np.int64)
    places[np.argsort(sources, kind="stable")] = np.arange(len(sources))
    # One row group of a corpus may have more bytes than 32-bit offsets can count, so it is ordered with 64-bit ones.
    large = table.cast(pa.schema([(name, pa.large_string()) for name in table.column_names])).combine_chunks()
    parts = [large.take(pa.array(places[at : at + SORTED])).cast(table.schema) for at in range(0, len(places), SORTED)]
    return pa.concat_tables(parts)


def _refuse_repeats(
    ids: pa.ChunkedArray, numbers: NDArray[np.uint64], last: tuple[str, int] | None, places: Places
) -> tuple[str, int]:
    """Raises InputError where an id is that of the row before; returns the last id with the number of its row."""
    ids = ids.combine_chunks()
    first = (ids[0].as_py(), int(numbers[0]))
    if last is not None and last[0] == first[0]:
        raise _repeat(first[0], last[1], first[1], places)
    found = pc.indices_nonzero(pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1)))
    if len(found):
        at = found[0].as_py()
        raise _repeat(ids[at].as_py(), int(numbers[at]), int(numbers[at + 1]), places)
    return ids[len(ids) - 1].as_py(), int(numbers[-1])


def _repeat(doc_id: str, one: int, other: int, places: Places) -> InputError:
    return repeated(max(one, other), min(one, other), f"the doc_id {doc_id!r}", places)


def _count(table: pa.Table, text: str | None) -> int:
    """How many texts are `text`."""
    if text is None:
        return 0
    return sum(pc.sum(pc.equal(column, text)).as_py() or 0 for column in table.itercolumns())
