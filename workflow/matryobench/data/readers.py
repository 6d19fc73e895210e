"""Files in the usual formats -> columns that know the line of every row.

Nothing is repaired or skipped: what cannot be read stops the reading with one sentence that names file and line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from matryobench.errors import InputError

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")


@dataclass(frozen=True)
class Columns:
    """The columns of one source and where each of their rows stands in it."""

    place: str  # how errors call the source: a file's path, or a name
    values: dict[str, list[Any]]  # all of one length
    lines: Sequence[int]  # (rows,) line, or row number for formats without lines
    unit: str  # "line" or "row"

    def at(self, row: int) -> str:
        """The place of a row, for the beginning of an error."""
        return f"{self.place} {self.unit} {self.lines[row]}"


def read_columns(path: Path, kind: str) -> Columns:
    """All columns of one file, by the ending of its name (`FORMATS`, each also with .gz or .xz; UTF-8).

    .jsonl: an object per line; .json: a list of objects, or an object of lists; .csv: standard quoting; .tsv: no
    quoting; .txt: one text per line, the column `text`, for the kind "text" only. Raises InputError with file and line.
    """
    name = path.name
    for ending in (".gz", ".xz"):
        name = name.removesuffix(ending)
    suffix = Path(name).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"{path}: {_ending(suffix)} cannot be read; use {', '.join(FORMATS)}, plain or with .gz or .xz."
        )
    if suffix == ".txt" and kind != "text":
        raise InputError(f"{path}: a .txt file holds one text per line and {kind} need columns; use .tsv or .jsonl.")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; correct the entry's 'files' or put the file there.")
    if suffix == ".parquet":
        table = read_parquet(path)
        return Columns(str(path), dict(table.to_pydict()), range(1, table.num_rows + 1), "row")
    if suffix == ".txt":
        texts = [line.rstrip("\r\n") for line in _lines(path)]
        return Columns(str(path), {"text": texts}, range(1, len(texts) + 1), "line")
    if suffix == ".jsonl":
        return _read_jsonl(path)
    return _read_json(path) if suffix == ".json" else _read_delimited(path, suffix)


def _ending(suffix: str) -> str:
    return f"files ending in {suffix!r}" if suffix else "files without an ending"


def _open(path: Path) -> IO[bytes] | gzip.GzipFile | lzma.LZMAFile:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return lzma.open(path, "rb") if path.suffix == ".xz" else path.open("rb")


def _lines(path: Path) -> Iterator[str]:
    """The file's lines as text, with their ends; the byte order mark of the first is dropped."""
    number = 0
    try:
        with _open(path) as stream:
            for number, raw in enumerate(stream, start=1):
                line = raw.decode("utf-8")
                yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at {error.start + 1}"
        raise InputError(f"{path} line {number}: this is not UTF-8 ({byte}); save the file as UTF-8.") from None
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise InputError(
            f"{path}: after line {number} the compressed file is damaged or cut short ({error}); get it again."
        ) from None


def _read_jsonl(path: Path) -> Columns:
    rows = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path} line {number}: this is not valid JSON ({error.msg} at column {error.colno}); correct the line."
            ) from None
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number}: one JSON object per line is needed, not {line.strip()[:40]!r}.")
        rows.append(row)
    return _from_rows(path, rows, range(1, len(rows) + 1), "line")


def _read_json(path: Path) -> Columns:
    try:
        value = json.loads("".join(_lines(path)))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} line {error.lineno}: this is not valid JSON ({error.msg} at column {error.colno}); correct it."
        ) from None
    if isinstance(value, dict) and all(isinstance(column, list) for column in value.values()):
        return as_columns(str(path), value)
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return _from_rows(path, value, range(1, len(value) + 1), "row")
    raise InputError(f"{path}: a list of JSON objects, or one object of columns (lists), is needed; convert the file.")


def as_columns(place: str, values: dict[str, list[Any]]) -> Columns:
    """Columns in memory; raises InputError when their lengths differ. `place` is what errors call them."""
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{place}: the columns have unequal lengths ({shown}); every row needs a value in each.")
    return Columns(place, values, range(1, max(lengths.values(), default=0) + 1), "row")


def _from_rows(path: Path, rows: list[dict[str, Any]], lines: Sequence[int], unit: str) -> Columns:
    """Columns of the union of the rows' keys; a row that lacks a key that others have holds None there."""
    names = dict.fromkeys(name for row in rows for name in row)
    return Columns(str(path), {name: [row.get(name) for row in rows] for name in names}, lines, unit)


def _read_delimited(path: Path, suffix: str) -> Columns:
    # A .tsv of sentences has bare quotation marks in its texts, so quoting is for .csv only.
    lines = _lines(path)
    if suffix == ".csv":
        reader = csv.reader(lines, strict=True)
    else:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    rows, numbers, start = [], [], 1
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise InputError(f"{path} line 1: a column name is there twice in {', '.join(header)}; rename one.")
        start = reader.line_num + 1  # where the next record begins: a quoted field may hold line ends
        for row in reader:
            if len(row) != len(header):
                raise InputError(
                    f"{path} line {start}: this row has {len(row)} fields and the header has {len(header)}; quote or "
                    "remove the separators inside fields."
                )
            rows.append(row)
            numbers.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path} line {start}: this row cannot be read ({error}); correct its quoting.") from None
    values = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    return Columns(str(path), values, numbers, "line")


def read_parquet(path: Path) -> pa.Table:
    """A whole parquet file as a table; raises InputError when it is missing, damaged or something else."""
    import pyarrow.parquet as pq

    try:
        data: Any = io.BytesIO(_open(path).read()) if path.suffix in (".gz", ".xz") else str(path)
        return pq.ParquetFile(data).read()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; make it with 'fetch'.") from None
    except (pa.ArrowException, OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(
            f"{path}: this is not a whole parquet file ({str(error).splitlines()[0]}); get it again."
        ) from None
