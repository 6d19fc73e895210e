"""Parquet files, whole, by columns or in batches, also compressed ones."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from matryobench.data.archives import ARCHIVE_DAMAGE, open_bytes
from matryobench.errors import InputError


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A parquet file, or some columns of it, as a table; InputError when it is missing, damaged or something else."""
    with damage(path):
        return parquet_file(path).read(columns=None if columns is None else list(columns))


def read_batches(path: Path, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of some columns of a parquet file, of at most `rows` rows, read one after the other."""
    with damage(path):
        yield from parquet_file(path).iter_batches(batch_size=rows, columns=list(columns))


def column_names(path: Path) -> list[str]:
    """The columns of a parquet file."""
    with damage(path):
        return list(parquet_file(path).schema_arrow.names)


def parquet_file(path: Path) -> Any:
    """The file, opened; call it within `damage`."""
    import pyarrow.parquet as pq

    data: Any = io.BytesIO(open_bytes(path).read()) if path.suffix in (".gz", ".xz") else str(path)
    return pq.ParquetFile(data)


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """What reading a parquet file raises, as one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; make it with 'fetch'.") from None
    except (pa.ArrowException, OSError, *ARCHIVE_DAMAGE) as error:
        raise InputError(
            f"{path}: this is not a whole parquet file ({str(error).splitlines()[0]}); get it again."
        ) from None
