"""Files of texts -> a checked Arrow table, and that table on disk with its provenance.

A row that does not fit stops the reading: it is neither repaired nor left out. The readers (`readers.py`) keep the
line of every row, so that the one bad row of a large file can be found. Corpora, training groups and instructed rows are
turned into Arrow piece by piece; all else is small.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from matryobench.data.instructed import from_medi
from matryobench.data.parquet import read_parquet
from matryobench.data.readers import Columns, as_columns, read_chunks
from matryobench.data.specs import ALIASES, COLUMNS, OPTIONAL_COLUMNS, RETRIEVAL_KINDS, DatasetSpec
from matryobench.data.values import DEFAULTS, arrow_type, values_of
from matryobench.errors import InputError
from matryobench.files import atomic_path

METADATA_KEY = b"matryobench"
# Rows that are Python objects at a time; a group carries dozens of passages.
PIECE = {"passages": 20_000, "groups": 1_000, "instructed": 10_000, "text": 8_192}
SORTED = 4_096  # sorted rows of a corpus that are one Arrow chunk
ROW_GROUP = 65_536  # rows that a reader of our own tables has to hold at least


def read_records(paths: Sequence[Path], spec: DatasetSpec, name: str) -> pa.Table:
    """Reads files in order into one table of the data set's standard columns.

    Texts and ids are strings, score is float64, grade int32, passages of groups list<struct<docid, title, text>>. Formats:
    .jsonl, .json (list of objects, or object of columns), .csv, .tsv (no quoting), .parquet, .txt (one text per line; for
    qrels TREC's form), each also with .gz or .xz; UTF-8; instructed rows also in MEDI's form (`instructed.from_medi`). `id`
    and `subset` columns are kept as strings where every file of a kind without ids of its own has them. Passages are sorted
    by doc_id descending in byte order, which is the order of trec_eval among equal scores. Raises InputError, one sentence
    with file and line, for anything that does not fit the entry `spec` called `name`: also for a doc_id or query_id that is
    there twice, and a judgement that is given twice.
    """
    parts = (part for path in paths for part in read_chunks(Path(path), spec.kind, spec.header, PIECE.get(spec.kind)))
    return checked_table(parts, spec, name)


def from_columns(values: dict[str, list[Any]], place: str, spec: DatasetSpec, name: str) -> pa.Table:
    """The same table, with the same checks, from columns in memory; `place` is what errors call their source."""
    return checked_table([as_columns(place, dict(values))], spec, name)


def checked_table(parts: Iterable[Columns], spec: DatasetSpec, name: str) -> pa.Table:
    """Validates parts against the entry and joins them. Raises InputError as `read_records` says."""
    places, tables = Places(), []
    for raw in parts:
        tables.append(checked_part(raw, spec, name))
        places.add(raw)
    shared = [column for column in tables[0].column_names if all(column in table.column_names for table in tables)]
    table = pa.concat_tables([table.select(shared) for table in tables])
    _check_unique(table, spec, places)
    check_rows(table.num_rows, places.names, spec, name)
    return _by_document(table, places) if spec.kind == "passages" else table


def write_texts(paths: Sequence[Path], spec: DatasetSpec, name: str, out: Path, meta: dict[str, Any]) -> int:
    """Writes the texts of files to `out` as `write_table` does, a piece at a time, and returns their number.

    For pre-training text, which may be far larger than memory: only the column `text` is kept, in row groups that a
    training holds two of. Raises InputError as `read_records` does.
    """
    import pyarrow.parquet as pq

    schema, rows = pa.schema([("text", pa.string())]), 0
    with atomic_path(out) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for path in paths:
            for part in read_chunks(Path(path), spec.kind, spec.header, PIECE["text"]):
                table = checked_part(part, spec, name).select(["text"])
                writer.write_table(table)
                rows += table.num_rows
        check_rows(rows, [str(path) for path in paths], spec, name)
        writer.add_key_value_metadata({METADATA_KEY: note({**meta, "rows": rows})})
    return rows


def checked_part(raw: Columns, spec: DatasetSpec, name: str) -> pa.Table:
    """One part's standard columns, and those that may be kept, with checked values."""
    part = _renamed(raw, spec)
    missing = [column for column in COLUMNS[spec.kind] if column not in part.values]
    if missing:
        raise InputError(
            f"{part.place}: {name} needs the column {missing[0]!r} and there is only {', '.join(part.values)}; "
            f"rename one with 'columns: {{its name: {missing[0]}}}' in the entry of {name}."
        )
    arrays = {c: pa.array(values_of(part, c, spec), arrow_type(c)) for c in COLUMNS[spec.kind]}
    for column in () if spec.kind in RETRIEVAL_KINDS else OPTIONAL_COLUMNS:
        if column in part.values and column not in arrays:
            texts = [None if value is None else str(value) for value in part.values[column]]
            arrays[column] = pa.array(texts, pa.string())
    return pa.table(arrays)


def check_rows(rows: int, names: Iterable[str], spec: DatasetSpec, name: str) -> None:
    """Raises InputError where the entry says another number of rows; `names` are the sources."""
    if spec.rows is not None and rows != spec.rows:
        raise InputError(
            f"{', '.join(dict.fromkeys(names))}: {rows} rows were read and the entry of {name} says rows: {spec.rows}; the"
            " source has changed or is incomplete, so restore it or correct the entry."
        )


def write_table(table: pa.Table, path: Path, meta: dict[str, Any]) -> None:
    """Writes `table` to a parquet file, whole or not at all, with `meta` (plain JSON values) as its metadata."""
    import pyarrow.parquet as pq

    with atomic_path(path) as partial:
        table = table.replace_schema_metadata({METADATA_KEY: note(meta)})
        pq.write_table(table, partial, compression="zstd", row_group_size=ROW_GROUP)


def note(meta: dict[str, Any]) -> bytes:
    """The metadata as it stands in a table's file under METADATA_KEY."""
    return json.dumps(meta, ensure_ascii=False, allow_nan=False, sort_keys=True).encode()


def read_table(path: Path, columns: Sequence[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
    """What `write_table` wrote, or some columns of it: (table, meta).

    Raises InputError when the file is missing or something else wrote it.
    """
    table = read_parquet(Path(path), columns)
    note = (table.schema.metadata or {}).get(METADATA_KEY)
    if note is None:
        raise InputError(
            f"{path}: this parquet file lacks the metadata that 'fetch' writes; make it again with 'fetch'."
        )
    return table.replace_schema_metadata(None), json.loads(note)


def read_meta(path: Path) -> dict[str, Any]:
    """The metadata alone of what `write_table` wrote; errors as `read_table`."""
    return read_table(path, [])[1]


# --- checks ----------------------------------------------------------------------------------------------------------


@dataclass
class Places:
    """Where the rows of a joined table stand in the files; columns themselves are not kept."""

    starts: list[int] = field(default_factory=list)
    parts: list[Columns] = field(default_factory=list)
    rows: int = 0

    def add(self, part: Columns) -> None:
        """Adds the rows of a part; of its lines, which ascend, a range is kept where they follow one another."""
        lines = part.lines
        if len(lines) and lines[-1] - lines[0] + 1 == len(lines):
            lines = range(lines[0], lines[-1] + 1)
        self.starts.append(self.rows)
        self.parts.append(Columns(part.place, {}, lines, part.unit))
        self.rows += len(part.lines)

    def at(self, row: int) -> str:
        """The place of a row, for the beginning of an error."""
        number = bisect_right(self.starts, row) - 1
        return self.parts[number].at(row - self.starts[number])

    @property
    def names(self) -> list[str]:
        """What errors call the sources."""
        return [part.place for part in self.parts]


def _renamed(part: Columns, spec: DatasetSpec) -> Columns:
    """The part with standard names: those that the entry gives first, then what files usually call them."""
    if not part.lines:
        raise InputError(f"{part.place}: there are no rows; replace the file, or take the data set out of the config.")
    values = dict((from_medi(part) if spec.kind == "instructed" else part).values)
    for raw, standard in spec.columns.items():
        if raw not in values:
            raise InputError(
                f"{part.place}: the entry renames the column {raw!r}, which is not among {', '.join(values)}; "
                "correct 'columns' in the entry."
            )
        if standard in values and standard != raw and standard not in spec.columns:
            raise InputError(
                f"{part.place}: the file has both {raw!r}, which the entry renames to {standard!r}, and a column "
                f"{standard!r}; remove one of them."
            )
    renamed = {spec.columns.get(column, column): cells for column, cells in values.items()}
    for standard, names in ALIASES.get(spec.kind, {}).items():
        found = next((name for name in names if name in renamed), None)
        if standard not in renamed and found is not None:
            renamed[standard] = renamed.pop(found)
    for column, default in DEFAULTS.get(spec.kind, {}).items():
        renamed.setdefault(column, [default] * len(part.lines))
    return Columns(part.place, renamed, part.lines, part.unit)


def _check_unique(table: pa.Table, spec: DatasetSpec, places: Places) -> None:
    if "id" in table.column_names:
        ids = table.column("id").to_pylist()
        for row, value in enumerate(ids):
            if value is None or not value.strip():
                raise InputError(f"{places.at(row)}: the id is empty; every row of a file with ids needs its own.")
        _refuse_repeats(((value, f"the id {value!r}") for value in ids), places)
    elif spec.kind == "queries":
        _refuse_repeats(((key, f"the query_id {key!r}") for key in table.column("query_id").to_pylist()), places)
    elif spec.kind == "qrels":
        pairs = zip(table.column("query_id").to_pylist(), table.column("doc_id").to_pylist(), strict=True)
        named = (((q, d), f"the judgement of document {d!r} for query {q!r}") for q, d in pairs)
        _refuse_repeats(named, places)


def _refuse_repeats(keys: Iterator[tuple[Hashable, str]], places: Places) -> None:
    seen: dict[Hashable, int] = {}
    for row, (key, shown) in enumerate(keys):
        first = seen.setdefault(key, row)
        if first != row:
            raise repeated(row, first, shown, places)


def repeated(row: int, first: int, shown: str, places: Places) -> InputError:
    """The error for a row that repeats what `shown` names of an earlier one."""
    fix = "remove one of them" if shown.startswith("the judgement") else "make ids unique"
    return InputError(f"{places.at(row)}: {shown} was already used by {places.at(first)}; {fix}.")


def _by_document(table: pa.Table, places: Places) -> pa.Table:
    """The passages sorted by doc_id descending in byte order. Raises InputError where two have the same."""
    import pyarrow.compute as pc

    order = pc.sort_indices(table, sort_keys=[("doc_id", "descending")])
    ids = table.column("doc_id").combine_chunks().take(order)
    repeats = pc.indices_nonzero(pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1)))
    if len(repeats):
        at = repeats[0].as_py()
        first, row = sorted((order[at].as_py(), order[at + 1].as_py()))
        raise repeated(row, first, f"the doc_id {ids[at].as_py()!r}", places)
    # A column of a large corpus has more bytes than 32-bit offsets can count, so it is sorted with 64-bit ones.
    large = table.cast(pa.schema([(name, pa.large_string()) for name in table.column_names])).combine_chunks()
    pieces = [large.take(order.slice(at, SORTED)).cast(table.schema) for at in range(0, len(order), SORTED)]
    return pa.concat_tables(pieces)
