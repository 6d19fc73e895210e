"""Instructed rows from other entries: triplets as they are, groups with a positive and a negative drawn from their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from matryobench.data.derived import ComposedPart
from matryobench.data.parquet import read_batches
from matryobench.data.records import read_meta
from matryobench.data.specs import COLUMNS, DatasetSpec
from matryobench.data.values import passage_text
from matryobench.errors import InputError

_PIECE = 1_000  # groups that are Python objects at a time


def compose(spec: DatasetSpec, tables: Mapping[str, Path]) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of a composed entry and the facts for `write_table`; `tables`: the fetched table of each part's entry.

    The columns of kind instructed, and `subset`: the part that a row is from. The same entry and tables give the same rows.
    Raises InputError where a part has no row, a group has no negative, or the number of rows is not the entry's.
    """
    composed = spec.composed
    assert composed is not None, "only composed entries are made from other tables"
    columns: dict[str, list[str]] = {name: [] for name in (*COLUMNS["instructed"], "subset")}
    facts: dict[str, Any] = {"seed": composed.seed, "parts": []}
    for number, part in enumerate(composed.parts):
        generator = np.random.default_rng([composed.seed, number])
        draw = _triplets if part.triplets is not None else _groups
        label = part.mined_from or part.name
        before = len(columns["query"])
        for query, positive, negative in draw(part, tables[part.name], generator):
            texts = (
                part.query_instruction,
                query,
                part.passage_instruction,
                positive,
                part.passage_instruction,
                negative,
            )
            for column, text in zip(columns.values(), (*texts, label), strict=True):
                column.append(text)
        facts["parts"].append({"part": part.name, "subset": label, "rows": len(columns["query"]) - before})
    table = pa.table(columns)
    if spec.rows is not None and table.num_rows != spec.rows:
        raise InputError(
            f"composed of {', '.join(part.name for part in composed.parts)}: {table.num_rows} rows were made and the entry "
            f"says rows: {spec.rows}; its parts have changed, so restore them or correct the entry."
        )
    return table, facts


Row = tuple[str, str, str]  # query, positive, negative


def _triplets(part: ComposedPart, table_file: Path, generator: np.random.Generator) -> Iterator[Row]:
    chosen = _chosen(int(read_meta(table_file)["rows"]), part, generator)
    start = 0
    for batch in read_batches(table_file, COLUMNS["triplets"], _PIECE):
        first, last = np.searchsorted(chosen, (start, start + batch.num_rows))
        rows = pa.array(chosen[first:last] - start)
        yield from zip(*(column.take(rows).to_pylist() for column in batch.columns), strict=True)
        start += batch.num_rows


def _groups(part: ComposedPart, table_file: Path, generator: np.random.Generator) -> Iterator[Row]:
    prefix = "" if part.mined_from is None else f"{part.mined_from}:"
    ids = [name for batch in read_batches(table_file, ["query_id"], _PIECE) for name in batch.column(0).to_pylist()]
    own = np.array([row for row, name in enumerate(ids) if name.startswith(prefix)], dtype=np.int64)
    chosen = set(own[_chosen(len(own), part, generator)].tolist())
    row = -1
    for batch in read_batches(table_file, COLUMNS["groups"], _PIECE):
        for group in batch.to_pylist():
            row += 1
            if row in chosen:
                yield from _drawn(group, part, table_file, generator)


def _drawn(
    group: Mapping[str, Any], part: ComposedPart, table_file: Path, generator: np.random.Generator
) -> Iterator[Row]:
    """A group's rows: positives without repetition; negatives too while there are enough of them."""
    positives, negatives = (
        [passage_text(passage["title"], passage["text"]) for passage in group[key]]
        for key in ("positive_passages", "negative_passages")
    )
    negatives = [text for text in negatives if text]
    if not negatives:
        raise InputError(
            f"{table_file}: the group {group['query_id']!r} has no negative passage; mine some, or leave it out."
        )
    count = min(part.per_query, len(positives))
    picked = generator.choice(len(positives), count, replace=False)
    against = generator.choice(len(negatives), count, replace=count > len(negatives))
    for positive, negative in zip(picked, against, strict=True):
        yield group["query"], positives[positive], negatives[negative]


def _chosen(rows: int, part: ComposedPart, generator: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of the rows to use, ascending."""
    if not rows:
        raise InputError(f"{part.mined_from or part.name}: there is no row to compose from; leave the part out.")
    if part.limit is None or part.limit >= rows:
        return np.arange(rows)
    return np.sort(generator.choice(rows, part.limit, replace=False))
