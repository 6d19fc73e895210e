"""Which instruction stands before the texts of a test set; keys of an experiment's `instructions`.

A text of a classification set takes `<set>`, else `classification`. A query takes `<set>-query`, else `<set>`, else
`retrieval-query`; a document the same with `passage`. None of them: no instruction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from matryobench.errors import InputError, unknown_name

Side: TypeAlias = Literal["query", "passage"]
Family: TypeAlias = Literal["classification", "retrieval"]
SIDES: tuple[Side, ...] = ("query", "passage")


def instruction_of(instructions: Mapping[str, str], name: str, family: Family, side: Side | None = None) -> str | None:
    """The instruction for the set called `name`; `side` is of retrieval only. See the module for the order of keys."""
    keys = [name, family] if side is None else [f"{name}-{side}", name, f"{family}-{side}"]
    return next((instructions[key] for key in keys if key in instructions), None)


def check_instructions(instructions: Mapping[str, str], evaluated: Mapping[Family, Sequence[str]], place: str) -> None:
    """Raises InputError, which begins with `place`, for a key that no evaluated set asks for and for an empty text."""
    valid = ["classification", *(f"retrieval-{side}" for side in SIDES)]
    for family, names in evaluated.items():
        valid += names
        valid += [f"{name}-{side}" for name in names for side in SIDES if family == "retrieval"]
    for key, text in instructions.items():
        if key not in valid:
            raise unknown_name(place, "instruction key", key, valid)
        if not text.strip():
            raise InputError(f"{place}.{key}: the instruction is empty; write it, or remove the key for none.")
