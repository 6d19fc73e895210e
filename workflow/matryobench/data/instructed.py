"""Rows of texts with instructions: MEDI's form, and what must hold for an instruction.

A row is a query, a positive and a hard negative, each an instruction and a text. MEDI (Su et al. 2023, arXiv 2212.09741)
writes it as {"query": [instruction, text], "pos": [instruction, text], "neg": [instruction, text], "task_name": name};
copies on the hub hold the same nested columns, or flat ones (see ALIASES in specs.py).
"""

from __future__ import annotations

from typing import Any

from matryobench.data.readers import Columns
from matryobench.errors import InputError

# MEDI's key -> the standard column of its text.
MEDI = {"query": "query", "pos": "positive", "neg": "negative"}


def from_medi(part: Columns) -> Columns:
    """Nested [instruction, text] cells as standard columns; a part whose cells are texts already comes back as it is.

    A text that is a number is written out, as the released training script does. Raises InputError with file and row for a
    cell that is missing or of another shape.
    """
    if not any(isinstance(cell, list) for key in MEDI for cell in part.values.get(key, ())):
        return part
    values = {name: cells for name, cells in part.values.items() if name not in MEDI}
    for key, column in MEDI.items():
        cells = part.values.get(key) or [None] * len(part.lines)
        pairs = [_pair(cell, key, part, row) for row, cell in enumerate(cells)]
        values[f"{column}_instruction"] = [instruction for instruction, _ in pairs]
        values[column] = [text for _, text in pairs]
    return Columns(part.place, values, part.lines, part.unit)


def check_instructions(part: Columns, column: str) -> None:
    """Raises InputError with file and row where an instruction is missing or blank."""
    for row, value in enumerate(part.values[column]):
        if value is None or (isinstance(value, str) and not value.strip()):
            raise InputError(
                f"{part.at(row)}: {column!r} is empty; write an instruction, or use triplets for texts without one."
            )


def join(instruction: str, text: str) -> str:
    """What is tokenised for a text under an instruction: both stripped, one space between; the text alone without one."""
    instruction = instruction.strip()
    return f"{instruction} {text.strip()}" if instruction else text


def _pair(cell: Any, key: str, part: Columns, row: int) -> tuple[str, str]:
    if cell is None:
        raise InputError(
            f"{part.at(row)}: there is no {key!r}; a row needs {', '.join(MEDI)}, each [instruction, text]."
        )
    text = cell[1] if isinstance(cell, list) and len(cell) == 2 else None
    if isinstance(text, int | float) and not isinstance(text, bool):
        text = str(text)
    if not isinstance(text, str) or not isinstance(cell[0], str):
        shown = repr(cell)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
        raise InputError(f"{part.at(row)}: {key!r} must be [instruction, text] and is {shown}; correct the row.")
    return cell[0], text
