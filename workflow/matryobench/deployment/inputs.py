"""Which files costs are measured on or summed from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matryobench import layout
from matryobench.config import PretrainedBackbone

if TYPE_CHECKING:
    from matryobench.plan import Plan


def first_set(plan: Plan, task: str) -> str:
    """The test set whose texts are measured: the task's first."""
    return plan.tasks[task].sets[0]


def cost_files(plan: Plan, task: str) -> list[str]:
    """The files that `jobs.workload` reads: the first test set's tokens or, for mteb, its tables."""
    name = first_set(plan, task)
    if task == "sts":
        return [layout.tokens(name, plan.sts.max_length)]
    if task == "retrieval":
        one = plan.collections[name]
        lengths = (plan.retrieval.query_max_length, plan.retrieval.passage_max_length)
        return [layout.tokens(table, size) for table, size in zip((one.queries, one.corpus), lengths, strict=True)]
    if name in plan.classifications:
        return [layout.table(plan.classifications[name].test)]
    return [layout.table(plan.collections[name].queries), layout.table(plan.collections[name].corpus)]


def training_records(plan: Plan) -> list[str]:
    """The records of every training: of runs, of what they start from, of the experiment's own backbone."""
    used = {run.pretraining for run in plan.runs if run.pretraining}
    files = [layout.training_record(run.run_id) for run in plan.runs]
    files += [layout.pretraining_record(name) for name in sorted(used)]
    return files + [layout.BACKBONE_RECORD] * isinstance(plan.experiment.backbone, PretrainedBackbone)
