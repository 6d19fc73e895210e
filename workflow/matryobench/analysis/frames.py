"""Tables in files: fixed columns, whole or absent, a parquet for programs and the same rows as csv for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from matryobench.errors import InputError
from matryobench.files import atomic_path

WRITES_IT = "run the step that writes it first"


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes the rows as csv, whole or not at all; numbers are the shortest decimals that read back as the same float64."""
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")


def csv_text(table: pd.DataFrame, columns: Sequence[str] | None = None) -> str:
    """The rows as csv in the form of `write_csv`; `columns` chooses and orders them, what the table lacks stays empty.

    Layers and dims are whole numbers although some rows have none.
    """
    chosen = table if columns is None else table.reindex(columns=list(columns))
    whole = {name: "Int64" for name in ("layer", "dim") if name in chosen and chosen[name].hasnans}
    return str(chosen.astype(whole).to_csv(index=False, lineterminator="\n"))


def write(table: pd.DataFrame, path: Path, kind: str) -> None:
    """Writes the rows to `path` (.parquet) and beside it as .csv, each whole or not at all.

    `kind` says what the table is, with its article. Raises ValueError for a path with another ending.
    """
    if path.suffix != ".parquet":
        raise ValueError(f"{kind} is written to a .parquet path, not {path}")
    write_csv(table, path.with_suffix(".csv"))
    with atomic_path(path) as partial:
        table.to_parquet(partial, index=False, engine="pyarrow")


def read(path: Path, kind: str, columns: Sequence[str], remedy: str = WRITES_IT) -> pd.DataFrame:
    """The table that `write` left at `path` (.parquet); InputError where it is missing or has not these columns."""
    with reading(path, kind, remedy):
        table = pd.read_parquet(path)
    if tuple(table.columns) != tuple(columns):
        raise InputError(f"{path} is not {kind}; its columns must be {', '.join(columns)}.")
    return table


@contextmanager
def reading(path: Path, kind: str, remedy: str = WRITES_IT, *, reason: bool = False) -> Iterator[None]:
    """Turns what reading a file raises into an InputError that says what it should be, and with `reason` what is wrong.

    `remedy` is what the user does where the file is missing.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; {remedy}.") from None
    except (OSError, ValueError) as error:  # pyarrow's errors and those of decoding are ValueErrors
        why = " ".join(str(error).split()).split(". ")[0].rstrip(".")
        raise InputError(f"{path} cannot be read as {kind}{f' ({why})' if reason else ''}; write it again.") from error
