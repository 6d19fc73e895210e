"""Files in the usual formats -> columns that know the line of every row.

Nothing is repaired or skipped: what cannot be read stops the reading with one sentence that names file and line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from matryobench.data.archives import ARCHIVE_DAMAGE, open_bytes
from matryobench.data.json_lists import begins_list, list_rows
from matryobench.data.parquet import damage, parquet_file, read_parquet
from matryobench.errors import InputError

T = TypeVar("T")

# Bytes of a line at most, once decompressed: a small archive that unpacks to one endless line must not fill the memory.
LONGEST_LINE = 1 << 28
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


def read_chunks(
    path: Path, kind: str, header: Sequence[str] | None = None, rows: int | None = None
) -> Iterator[Columns]:
    """The columns of one file, by the ending of its name (`FORMATS`, each also with .gz or .xz; UTF-8), in pieces of at
    most `rows` rows (None: in one piece), so that a corpus never has to be in memory as Python objects.

    .jsonl: an object per line; .json: a list of objects, or an object of lists; .csv: standard quoting; .tsv: no quoting;
    .txt: one text per line, the column `text`, for the kind "text"; for "qrels" the judgements of TREC (query, 0, document,
    grade; no header), which may also be called .tsv. `header` names the columns of .csv and .tsv files that have none. A
    column that no row of a piece has is not in that piece. Raises InputError with file and line.
    """
    name = path.name
    for ending in (".gz", ".xz"):
        name = name.removesuffix(ending)
    suffix = Path(name).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"{path}: {_ending(suffix)} cannot be read; use {', '.join(FORMATS)}, plain or with .gz or .xz."
        )
    if suffix == ".txt" and kind not in ("text", "qrels"):
        raise InputError(f"{path}: a .txt file holds one text per line and {kind} need columns; use .tsv or .jsonl.")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; correct the entry's 'files' or put the file there.")
    if suffix == ".parquet":
        yield from _parquet_chunks(path, rows)
    elif kind == "qrels" and header is None and (suffix == ".txt" or (suffix == ".tsv" and _is_trec(path))):
        yield _read_trec(path)
    elif suffix == ".txt":
        yield from _text_chunks(path, rows)
    elif suffix == ".jsonl":
        yield from _jsonl_chunks(path, rows)
    elif suffix == ".json":
        yield from _json_chunks(path, rows)
    else:
        yield from _delimited_chunks(path, suffix, header, rows)


def _ending(suffix: str) -> str:
    return f"files ending in {suffix!r}" if suffix else "files without an ending"


def _lines(path: Path) -> Iterator[str]:
    """The file's lines as text, with their ends; the byte order mark of the first is dropped."""
    number = 0
    try:
        with open_bytes(path) as stream:
            for number, raw in enumerate(iter(lambda: stream.readline(LONGEST_LINE + 1), b""), start=1):
                if len(raw) > LONGEST_LINE:
                    raise InputError(
                        f"{path} line {number}: this line has more than {LONGEST_LINE >> 20} MB; a list of objects may be "
                        "longer than that, so convert the file to .json in that form, or to .jsonl."
                    )
                line = raw.decode("utf-8")
                yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at {error.start + 1}"
        raise InputError(f"{path} line {number}: this is not UTF-8 ({byte}); save the file as UTF-8.") from None
    except ARCHIVE_DAMAGE as error:
        raise InputError(
            f"{path}: after line {number} the compressed file is damaged or cut short ({error}); get it again."
        ) from None


def _pieces(items: Iterable[T], rows: int | None) -> Iterator[list[T]]:
    """Lists of `rows` items, the last one shorter; one list (perhaps empty) of all for None, and where there are none."""
    iterator = iter(items)
    piece = list(islice(iterator, rows))
    while True:
        yield piece
        if rows is None or not (piece := list(islice(iterator, rows))):
            return


def _text_chunks(path: Path, size: int | None) -> Iterator[Columns]:
    start = 1
    for texts in _pieces((line.rstrip("\r\n") for line in _lines(path)), size):
        yield Columns(str(path), {"text": texts}, range(start, start + len(texts)), "line")
        start += len(texts)


def _jsonl_chunks(path: Path, size: int | None) -> Iterator[Columns]:
    start = 1
    for rows in _pieces(_objects(path), size):
        yield _from_rows(path, rows, range(start, start + len(rows)), "line")
        start += len(rows)


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path} line {number}: this is not valid JSON ({error.msg} at column {error.colno}); correct the line."
            ) from None
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number}: one JSON object per line is needed, not {line.strip()[:40]!r}.")
        yield row


def _json_chunks(path: Path, size: int | None) -> Iterator[Columns]:
    # A list first: it may be one line of gigabytes, which must not be read as a line.
    is_list = begins_list(path)
    if not is_list and _is_json_lines(path):
        yield from _jsonl_chunks(path, size)
        return
    if size is None or not is_list:
        yield _read_json(path)
        return
    start = 1
    for rows in _pieces(list_rows(path), size):
        yield _from_rows(path, rows, range(start, start + len(rows)), "row")
        start += len(rows)


def _is_json_lines(path: Path) -> bool:
    """Whether a .json file has an object per line, as some hub repositories call them (MASSIVE's)."""
    lines = (line.lstrip() for line in _lines(path))
    return [line[0] for line in islice((line for line in lines if line), 2)] == ["{", "{"]


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


def _is_trec(path: Path) -> bool:
    """Whether a file's first line has TREC's four fields, the last of them a grade: MS MARCO calls such files .tsv."""
    fields = next(_lines(path), "").split()
    return len(fields) == 4 and fields[3].removeprefix("-").isdecimal()


def _read_trec(path: Path) -> Columns:
    values: dict[str, list[Any]] = {"query_id": [], "doc_id": [], "grade": []}
    for number, line in enumerate(_lines(path), start=1):
        fields = line.split()
        if len(fields) != 4:
            raise InputError(
                f"{path} line {number}: a judgement in TREC's form has four fields (query, 0, document, grade) and this "
                f"line has {len(fields)}; correct the line."
            )
        for column, field in zip(values.values(), (fields[0], fields[2], fields[3]), strict=True):
            column.append(field)
    return Columns(str(path), values, range(1, len(values["grade"]) + 1), "line")


def _delimited_chunks(path: Path, suffix: str, header: Sequence[str] | None, size: int | None) -> Iterator[Columns]:
    # A .tsv of sentences has bare quotation marks in its texts, so quoting is for .csv only.
    lines = _lines(path)
    if suffix == ".csv":
        reader = csv.reader(lines, strict=True)
    else:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    names = list(header) if header is not None else _next_row(reader, path, 1)
    if len(set(names)) < len(names):
        raise InputError(f"{path} line 1: a column name is there twice in {', '.join(names)}; rename one.")
    for piece in _pieces(_fields(reader, path, names), size):
        values = {name: [row[i] for _, row in piece] for i, name in enumerate(names)}
        yield Columns(str(path), values, [line for line, _ in piece], "line")


def _fields(reader: Any, path: Path, names: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """(line where it begins, fields) of every record: a quoted field may hold line ends."""
    while True:
        start = reader.line_num + 1
        row = _next_row(reader, path, start)
        if not row and reader.line_num < start:
            return
        if len(row) != len(names):
            raise InputError(
                f"{path} line {start}: this row has {len(row)} fields and the header has {len(names)}; quote or "
                "remove the separators inside fields."
            )
        yield start, row


def _next_row(reader: Any, path: Path, line: int) -> list[str]:
    """The next record, [] at the end (and for an empty line, which `line_num` tells apart)."""
    try:
        row: list[str] = next(reader, [])
    except csv.Error as error:
        raise InputError(f"{path} line {line}: this row cannot be read ({error}); correct its quoting.") from None
    return row


def _parquet_chunks(path: Path, size: int | None) -> Iterator[Columns]:
    if size is None:
        table = read_parquet(path)
        yield Columns(str(path), dict(table.to_pydict()), range(1, table.num_rows + 1), "row")
        return
    start = 1
    with damage(path):
        for batch in parquet_file(path).iter_batches(batch_size=size):
            yield Columns(str(path), dict(batch.to_pydict()), range(start, start + batch.num_rows), "row")
            start += batch.num_rows
    if start == 1:
        yield Columns(str(path), {}, range(1, 1), "row")
