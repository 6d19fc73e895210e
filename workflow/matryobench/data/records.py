"""Files of texts -> a checked Arrow table, and that table on disk with its provenance.

A row that does not fit stops the reading: it is neither repaired nor left out. The readers (`readers.py`) keep the
line of every row, so that the one bad row of a large file can be found.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from matryobench.data.readers import Columns, as_columns, read_columns, read_parquet
from matryobench.data.registry import COLUMNS, OPTIONAL_COLUMNS, DatasetSpec
from matryobench.errors import InputError
from matryobench.files import atomic_path

METADATA_KEY = b"matryobench"


def read_records(paths: Sequence[Path], spec: DatasetSpec, name: str) -> pa.Table:
    """Reads files in order into one table of the data set's standard columns (texts: string, score: float64).

    Formats: .jsonl, .json (list of objects, or object of columns), .csv, .tsv (no quoting), .parquet and .txt (one text
    per line), each also with .gz or .xz; UTF-8. `id` and `subset` columns are kept as strings where every file has them.
    Raises InputError, one sentence with file and line, for anything that does not fit the entry `spec` called `name`.
    """
    parts = [_renamed(read_columns(Path(path), spec.kind), spec) for path in paths]
    return checked_table(parts, spec, name)


def from_columns(values: dict[str, list[Any]], place: str, spec: DatasetSpec, name: str) -> pa.Table:
    """The same table, with the same checks, from columns in memory; `place` is what errors call their source."""
    return checked_table([_renamed(as_columns(place, dict(values)), spec)], spec, name)


def checked_table(parts: Sequence[Columns], spec: DatasetSpec, name: str) -> pa.Table:
    """Validates parts against the entry and joins them. Raises InputError as `read_records` says."""
    texts = [column for column in COLUMNS[spec.kind] if column != "score"]
    for part in parts:
        missing = [column for column in COLUMNS[spec.kind] if column not in part.values]
        if missing:
            raise InputError(
                f"{part.place}: {name} needs the column {missing[0]!r} and there is only {', '.join(part.values)}; "
                f"rename one with 'columns: {{its name: {missing[0]}}}' in the entry of {name}."
            )
        for column in texts:
            part.values[column] = _texts(part, column, spec)
        if spec.score_range is not None:
            part.values["score"] = _scores(part, spec.score_range)
    kept = [c for c in OPTIONAL_COLUMNS if c not in texts and all(c in part.values for part in parts)]
    if "id" in kept:
        _check_unique(parts)
    rows = sum(len(part.lines) for part in parts)
    if spec.rows is not None and rows != spec.rows:
        raise InputError(
            f"{', '.join(part.place for part in parts)}: {rows} rows were read and the entry of {name} says rows: "
            f"{spec.rows}; the source has changed or is incomplete, so restore it or correct the entry."
        )
    arrays = {
        column: pa.array(
            [value for part in parts for value in part.values[column]],
            pa.float64() if column == "score" else pa.string(),
        )
        for column in COLUMNS[spec.kind]
    }
    for column in kept:
        joined = [value for part in parts for value in part.values[column]]
        arrays[column] = pa.array([None if value is None else str(value) for value in joined], pa.string())
    return pa.table(arrays)


def write_table(table: pa.Table, path: Path, meta: dict[str, Any]) -> None:
    """Writes `table` to a parquet file, whole or not at all, with `meta` (plain JSON values) as its metadata."""
    import pyarrow.parquet as pq

    note = json.dumps(meta, ensure_ascii=False, allow_nan=False, sort_keys=True).encode()
    with atomic_path(path) as partial:
        pq.write_table(table.replace_schema_metadata({METADATA_KEY: note}), partial, compression="zstd")


def read_table(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """What `write_table` wrote: (table, meta). Raises InputError when the file is missing or something else wrote it."""
    table = read_parquet(Path(path))
    note = (table.schema.metadata or {}).get(METADATA_KEY)
    if note is None:
        raise InputError(
            f"{path}: this parquet file lacks the metadata that 'fetch' writes; make it again with 'fetch'."
        )
    return table.replace_schema_metadata(None), json.loads(note)


# --- checks ----------------------------------------------------------------------------------------------------------


def _renamed(part: Columns, spec: DatasetSpec) -> Columns:
    if not part.lines:
        raise InputError(f"{part.place}: there are no rows; replace the file, or take the data set out of the config.")
    values = dict(part.values)
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
    return Columns(part.place, {spec.columns.get(k, k): v for k, v in values.items()}, part.lines, part.unit)


def _texts(part: Columns, column: str, spec: DatasetSpec) -> list[str]:
    values = part.values[column]
    for row, value in enumerate(values):
        if value is None and spec.missing_text is not None:
            continue
        if value is None or (isinstance(value, str) and not value.strip()):
            fix = "fill it in, remove the row, or set missing_text in the entry" if value is None else "remove the row"
            raise InputError(f"{part.at(row)}: {column!r} is empty; {fix}.")
        if not isinstance(value, str):
            raise InputError(f"{part.at(row)}: {column!r} must be a text and is {value!r}; put it in quotes.")
        # JSON can hold half a surrogate pair, which no UTF-8 file can.
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InputError(f"{part.at(row)}: {column!r} holds a broken \\u escape; correct the text.")
    filler = spec.missing_text or ""  # without one, no value is None here
    return [filler if value is None else value for value in values]


def _scores(part: Columns, limits: tuple[float, float]) -> list[float]:
    scores = []
    for row, value in enumerate(part.values["score"]):
        try:
            # True is an int in Python; "1_0" is a float in Python: neither is a gold score.
            score = math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
        except (TypeError, ValueError, OverflowError):
            score = math.nan
        if math.isnan(score):
            raise InputError(f"{part.at(row)}: the score {value!r} is not a number; correct it or remove the row.")
        if not limits[0] <= score <= limits[1]:
            raise InputError(
                f"{part.at(row)}: the score {value!r} is outside {limits[0]:g} to {limits[1]:g}; correct it, or "
                "score_range in the entry."
            )
        scores.append(score)
    return scores


def _check_unique(parts: Sequence[Columns]) -> None:
    seen: dict[str, str] = {}
    for part in parts:
        for row, value in enumerate(part.values["id"]):
            place = part.at(row)
            if value is None or not str(value).strip():
                raise InputError(f"{place}: the id is empty; every row of a file with ids needs its own.")
            if str(value) in seen:
                raise InputError(f"{place}: the id {value!r} was already used by {seen[str(value)]}; make ids unique.")
            seen[str(value)] = place
