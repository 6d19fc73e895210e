"""What every computing job does around its work: its cards, its turn to write, its processes, its threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from matryobench.cards import claimed
from matryobench.training import launch

if TYPE_CHECKING:
    from matryobench.plan import Plan


def run_job(
    plan: Plan, work: Callable[[], None], turn: AbstractContextManager[bool | None], processes: int = 1
) -> None:
    """Does `work` with the experiment's cards and threads, in `processes` processes, when it is this job's `turn`.

    `turn` is a lock of what the job writes (see `locks`); where it yields true the work is done already. The process that
    was started claims the cards and holds the lock; those that it launches compute. Imports of torch belong into `work`:
    the cards must be claimed before.
    """
    compute = plan.experiment.compute
    if launch.joined():
        with launch.process(processes):
            _compute(plan, work, processes)
        return
    with claimed(compute.cards(processes), compute.share_gpus), turn as done:
        if done:
            return
        if processes > 1:
            launch.launch(processes)
        else:
            _compute(plan, work, 1)


def _compute(plan: Plan, work: Callable[[], None], processes: int) -> None:
    from matryobench.threads import threads

    with threads(max(1, plan.experiment.threads // processes)):
        work()
