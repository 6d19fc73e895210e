"""How long jobs take on several devices: a list schedule, as Snakemake's is."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

N = TypeVar("N")


@dataclass(frozen=True)
class Task(Generic[N]):
    """A job for a schedule: seconds, devices that it holds meanwhile, and the names that it waits for."""

    name: N
    seconds: float
    devices: int
    after: Sequence[N]


def makespan(tasks: Sequence[Task[N]], devices: int) -> float:
    """Seconds until all tasks are done on so many devices.

    A task starts as soon as what it waits for is done and enough devices are free; of several, that with the longest way to
    the end first. Such a schedule takes at most 2 - 1/devices times the shortest possible one where every task takes one
    device (R. L. Graham, SIAM J. Appl. Math. 17, 1969). Tasks of 0 devices wait for no device; one that wants more
    devices than there are takes all of them. Names in `after` that are no task count as done; a circle is a ValueError.
    """
    known = {task.name: task for task in tasks}
    missing = {task.name: {name for name in task.after if name in known} for task in tasks}
    followers: dict[N, list[N]] = {name: [] for name in known}
    for name, before in missing.items():
        for one in before:
            followers[one].append(name)
    rank = _ways_to_the_end(known, missing, followers)
    # One heap for each number of devices: looking for a task that fits does not pass over those that do not.
    ready: dict[int, list[tuple[float, int, N]]] = {}
    number = 0

    def wait(name: N) -> None:
        nonlocal number
        number += 1
        taken = min(known[name].devices, devices)
        heapq.heappush(ready.setdefault(taken, []), (-rank[name], number, name))

    for name, before in missing.items():
        if not before:
            wait(name)
    running: list[tuple[float, int, N, int]] = []
    now, free = 0.0, devices
    while True:
        while fitting := [taken for taken, heap in ready.items() if heap and taken <= free]:
            taken = min(fitting, key=lambda one: ready[one][0])
            _, order, name = heapq.heappop(ready[taken])
            free -= taken
            heapq.heappush(running, (now + known[name].seconds, order, name, taken))
        if not running:
            return now
        now, _, done, taken = heapq.heappop(running)
        free += taken
        for name in followers[done]:
            missing[name].discard(done)
            if not missing[name]:
                wait(name)


def _ways_to_the_end(
    known: Mapping[N, Task[N]], missing: Mapping[N, set[N]], followers: Mapping[N, list[N]]
) -> dict[N, float]:
    """Seconds from a task's start to the end of the longest chain that begins with it."""
    left = {name: len(before) for name, before in missing.items()}
    order = [name for name, count in left.items() if not count]
    for name in order:
        for after in followers[name]:
            left[after] -= 1
            if not left[after]:
                order.append(after)
    if len(order) < len(known):
        raise ValueError("the tasks wait for each other in a circle")
    found: dict[N, float] = {}
    for name in reversed(order):
        found[name] = known[name].seconds + max((found[after] for after in followers[name]), default=0.0)
    return found
