"""The demo world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matryobench.data.demo_world import sets
from matryobench.errors import unknown_name

_TABLES: dict[str, Callable[[int], dict[str, list[Any]]]] = {
    "triplets": sets.triplets,
    "sts-paraphrase": sets.sts_paraphrase,
    "sts-roles": sets.sts_roles,
    "sts-topics": sets.sts_topics,
    "text": sets.text,
}


def tables() -> tuple[str, ...]:
    """Names of the tables."""
    return tuple(_TABLES)


def table(name: str, seed: int = 0) -> dict[str, list[Any]]:
    """One table as columns. Raises InputError for an unknown name."""
    if name not in _TABLES:
        raise unknown_name("demo world", "table", name, _TABLES)
    return _TABLES[name](seed)
