"""The demo world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matryobench.data.demo_world import retrieval, sets
from matryobench.errors import InputError, unknown_name

_TABLES: dict[str, Callable[[int], dict[str, Any]]] = {
    "triplets": sets.triplets,
    "sts-paraphrase": sets.sts_paraphrase,
    "sts-roles": sets.sts_roles,
    "sts-topics": sets.sts_topics,
    "text": sets.text,
    "passages": lambda seed: retrieval.corpus(seed).passages,
    "train-queries": lambda seed: retrieval.corpus(seed).queries["train"],
    "test-queries": lambda seed: retrieval.corpus(seed).queries["test"],
    "train-qrels": lambda seed: retrieval.corpus(seed).judgements["train"],
    "test-qrels": lambda seed: retrieval.corpus(seed).judgements["test"],
}


def tables() -> tuple[str, ...]:
    """Names of the tables."""
    return tuple(_TABLES)


def table(name: str, seed: int = 0) -> dict[str, list[Any]]:
    """One table as columns of equal length, a new copy on each call.

    Raises InputError for an unknown name and for a seed below 0.
    """
    if name not in _TABLES:
        raise unknown_name("demo world", "table", name, _TABLES)
    if seed < 0:
        raise InputError(f"demo world: seed {seed} is negative; give 0 or more.")
    return {column: list(values) for column, values in _TABLES[name](seed).items()}
