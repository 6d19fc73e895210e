"""The ids of a corpus: a document's number is the place of its id. In memory, or in a table's file and read as needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from matryobench.data.parquet import damage, parquet_file, read_batches
from matryobench.data.records import read_meta

_BATCH = 65_536


class StoredIds:
    """The column doc_id of a passages table that `fetch` wrote, of which a batch is in memory at a time.

    Raises InputError where the file is missing or something else wrote it.
    """

    def __init__(self, path: Path) -> None:
        read_meta(path)
        self._path = path
        with damage(path):
            self._count = int(parquet_file(path).metadata.num_rows)

    def __len__(self) -> int:
        return self._count

    def batches(self) -> Iterator[pa.Array]:
        """All ids, in order."""
        return (batch.column(0) for batch in read_batches(self._path, ["doc_id"], _BATCH))


DocumentIds: TypeAlias = Sequence[str] | pa.ChunkedArray | StoredIds


def numbers_of(ids: DocumentIds, names: Sequence[str]) -> dict[str, int]:
    """The numbers of those names that the corpus has."""
    wanted = pa.array(names, type=pa.string())
    numbers: dict[str, int] = {}
    for first, part in _parts(ids):
        places = pc.indices_nonzero(pc.is_in(part, value_set=wanted))
        numbers.update(zip(part.take(places).to_pylist(), (first + place for place in places.to_pylist()), strict=True))
    return numbers


def names_of(ids: DocumentIds, numbers: NDArray[np.int64]) -> list[str]:
    """The ids of documents by their numbers, which may come in any order and repeat."""
    distinct, places = np.unique(numbers, return_inverse=True)
    found = []
    for first, part in _parts(ids):
        start, stop = np.searchsorted(distinct, [first, first + len(part)])
        found.append(part.take(pa.array(distinct[start:stop] - first)))
    return list(pa.chunked_array(found, type=pa.string()).take(pa.array(places.reshape(-1))).to_pylist())


def are_descending(ids: DocumentIds) -> bool:
    """Whether every id is below the one before it, in byte order."""
    last = None
    for _, part in _parts(ids):
        if len(part) == 0:
            continue
        if last is not None and not pc.greater(last, part[0]).as_py():
            return False
        if len(part) > 1 and not pc.all(pc.greater(part.slice(0, len(part) - 1), part.slice(1))).as_py():
            return False
        last = part[len(part) - 1]
    return True


def _parts(ids: DocumentIds) -> Iterator[tuple[int, pa.Array]]:
    """(number of its first document, ids) of every part."""
    if isinstance(ids, StoredIds):
        parts = ids.batches()
    elif isinstance(ids, pa.ChunkedArray):
        parts = iter(ids.chunks)
    else:
        parts = iter([pa.array(ids, type=pa.string())])
    first = 0
    for part in parts:
        yield first, part
        first += len(part)
