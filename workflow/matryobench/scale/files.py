"""The ids of a simulated corpus as `fetch` would write them, without ever holding them all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from matryobench.data.records import METADATA_KEY
from matryobench.files import atomic_path

_ROWS = 65_536


def doc_id(number: int, documents: int) -> str:
    """The id of a document: numbers ascend and ids descend, as in every table of passages."""
    return f"d{documents - 1 - number:010d}"


def write_doc_ids(documents: int, path: Path) -> None:
    """A table of passages with the column doc_id alone."""
    schema = pa.schema([("doc_id", pa.string())], metadata={METADATA_KEY: b"{}"})
    with atomic_path(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for start in range(0, documents, _ROWS):
            numbers = documents - 1 - np.arange(start, min(start + _ROWS, documents))
            digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 10, "0")
            ids = pc.binary_join_element_wise("d", digits, "")
            writer.write_table(pa.table([ids], schema=schema))
