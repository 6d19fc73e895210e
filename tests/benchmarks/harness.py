"""What every benchmark is made of: two ways to do one piece of work, in alternation, and the row that comes of it.

The ratio of a row is the median of the ratios of neighbouring runs, so that a machine that slows down during a benchmark
slows both ways; its spread is the smallest and the largest of these ratios. Times are of the clock; the processor time of
all threads is kept beside them, because it hardly sees what else a machine does.
"""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Way = Callable[[], Any]
Kind = Literal["share", "times", "seconds"]

MEGABYTE = 2**20


@dataclass(frozen=True)
class Target:
    """A share of the peer's cost (at most), how many times less cost than the peer's (at least), or seconds (at most)."""

    kind: Kind
    bound: float

    def value(self, ours: float, peer: float) -> float:
        """What the bound is compared with, of one pair of costs; `peer` means nothing for seconds."""
        return {"share": lambda: ours / peer, "times": lambda: peer / ours, "seconds": lambda: ours}[self.kind]()

    def met(self, value: float) -> bool:
        """Whether a value is on the right side of the bound."""
        return value >= self.bound if self.kind == "times" else value <= self.bound

    def __str__(self) -> str:
        return {"share": "at most {}", "times": "at least {} ×", "seconds": "at most {} s"}[self.kind].format(
            self.bound
        )


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and of processor time, of one run."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Pairs:
    """Runs of both ways in alternation, as often as each other."""

    ours: list[Cost]
    peer: list[Cost]

    def values(self, target: Target, of: Literal["seconds", "cpu_seconds"] = "seconds") -> list[float]:
        """The target's value of every pair of neighbouring runs."""
        pairs = zip(self.ours, self.peer, strict=True)
        return [target.value(getattr(mine, of), getattr(other, of)) for mine, other in pairs]


@dataclass(frozen=True)
class Agreement:
    """What the check of both ways' results found; a benchmark of different results says nothing."""

    text: str
    holds: bool


@dataclass
class Row:
    """One line of the table. values: the target's, one per pair; *_seconds: medians; *_mb: peak memory beyond the start's.

    operations: floating-point operations that our way needs, where they can be counted; from these and the machine's rate
    comes the share of it. scaled: how a peer too large to run was extrapolated.
    """

    name: str
    work: str
    peer: str
    values: list[float]
    target: Target | None = None
    cpu_values: list[float] = field(default_factory=list)
    ours_seconds: float | None = None
    peer_seconds: float | None = None
    ours_mb: float | None = None
    peer_mb: float | None = None
    operations: float | None = None
    agreement: Agreement | None = None
    scaled: str = ""

    @property
    def value(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.target.met(self.value)


@dataclass(frozen=True)
class Growth:
    """A small table: how a cost grows with a size. The first column is the size."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@dataclass
class Outcome:
    """All that a benchmark found; `absent` says what was missing where it could not run."""

    rows: list[Row] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    absent: str = ""


@dataclass(frozen=True)
class Setting:
    """What a benchmark is run with. quick: sizes that take seconds, to exercise the code. scratch: a folder of its own."""

    quick: bool
    repeats: int
    threads: int
    mirror: Path | None
    demo: Path
    scratch: Path

    def size(self, full: int, quick: int) -> int:
        """The size of a quick or of a full run."""
        return quick if self.quick else full


class Absent(Exception):
    """A benchmark's data or software is not there; the message says what and where it comes from."""


def timed(way: Way) -> Cost:
    """The cost of one run."""
    gc.collect()
    clock, cpu = time.perf_counter(), time.process_time()
    way()
    return Cost(time.perf_counter() - clock, time.process_time() - cpu)


def alternate(ours: Way, peer: Way, repeats: int, warm_up: bool = True) -> Pairs:
    """Runs both ways `repeats` times in turn, ours first in every second pair; the warm-up before them is not counted."""
    if warm_up:
        ours(), peer()
    costs: dict[str, list[Cost]] = {"ours": [], "peer": []}
    ways = {"ours": ours, "peer": peer}
    for number in range(repeats):
        for name in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
            costs[name].append(timed(ways[name]))
    return Pairs(costs["ours"], costs["peer"])


def row(name: str, work: str, peer: str, pairs: Pairs, target: Target, **more: Any) -> Row:
    """The row of a comparison."""
    return Row(
        name, work, peer, pairs.values(target), target,
        cpu_values=pairs.values(target, "cpu_seconds"),
        ours_seconds=median_seconds(pairs.ours), peer_seconds=median_seconds(pairs.peer), **more,
    )  # fmt: skip


def median_seconds(costs: Sequence[Cost]) -> float:
    """The median of the clock's seconds."""
    return statistics.median(cost.seconds for cost in costs)


def peak_mb(way: Way) -> float:
    """MiB of resident memory that a run needs at its peak beyond what the process holds before it.

    Linux keeps the largest resident size of a process (VmHWM) and forgets it when 5 is written to clear_refs; see
    proc(5). What glibc has kept of freed memory is given back first, so that the run cannot take it up uncounted.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status_kib("VmRSS")
    way()
    return max(_status_kib("VmHWM") - before, 0) / 1024


def _status_kib(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise Absent(f"/proc/self/status has no {key}; peak memory is measured on Linux only.")
