"""A benchmark's outcome as JSON values, with the machine, versions and rates that it was measured at."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness import Outcome, Row


def record_of(
    name: str, outcome: Outcome, rates: dict[str, float], made: dict[str, Any], threads: int, quick: bool, repeats: int
) -> dict[str, Any]:
    """A benchmark's outcome as JSON values, with what it was measured on."""
    facts = {"name": name, "quick": quick, "repeats": repeats, "threads": threads, "rates": rates, "made": made}
    return {
        **facts, "absent": outcome.absent, "rows": [_told(row, rates) for row in outcome.rows],
        "growth": [asdict(one) for one in outcome.growth], "notes": outcome.notes,
    }  # fmt: skip


def _told(row: Row, rates: dict[str, float]) -> dict[str, Any]:
    share = None
    if row.operations and row.ours_seconds:
        share = row.operations / row.ours_seconds / 1e9 / rates["matrix_gflops"]
    kind = row.target.kind if row.target else "share"
    target = str(row.target) if row.target else None
    return {**asdict(row), "target": target, "kind": kind, "value": row.value, "met": row.met, "share": share}
