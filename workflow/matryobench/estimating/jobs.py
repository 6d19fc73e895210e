"""All jobs of an experiment, with what each takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from matryobench.config import PretrainedBackbone
from matryobench.estimating.analysing import analysis_jobs
from matryobench.estimating.evaluating import evaluation_jobs
from matryobench.estimating.preparing import fetch_jobs, tokenise_jobs
from matryobench.estimating.shapes import EncoderShape, shape_of
from matryobench.estimating.sizes import Sizes
from matryobench.estimating.training import continued_job, own_backbone_job, training_job

if TYPE_CHECKING:
    from matryobench.estimating.work import Job
    from matryobench.plan import Plan


@dataclass(frozen=True)
class Estimate:
    """The jobs of a plan, in an order in which they can run, and what had to be assumed of datasets."""

    jobs: tuple[Job, ...]
    guesses: dict[str, str]
    shape: EncoderShape

    @cached_property
    def by_name(self) -> dict[tuple[str, object], Job]:
        """Jobs by (rule, key)."""
        return {job.name: job for job in self.jobs}


@lru_cache(maxsize=4)
def estimate(plan: Plan, gpu: bool, stand_in: EncoderShape | None = None) -> Estimate:
    """What every job of the plan takes; `gpu`: whether training and encoding run on one. Made once per plan.

    Where the backbone's sizes are only known after a fetch, those of `stand_in` are taken; InputError without one.
    """
    shape, sizes = shape_of(plan, stand_in), Sizes(plan)
    jobs = list(fetch_jobs(plan, sizes, shape))
    if isinstance(plan.experiment.backbone, PretrainedBackbone):
        jobs.append(own_backbone_job(plan, sizes, shape, gpu))
    jobs += tokenise_jobs(plan, sizes)
    used = sorted({run.pretraining for run in plan.runs if run.pretraining})
    jobs += [continued_job(plan, sizes, shape, name, gpu) for name in used]
    for run in plan.runs:
        jobs.append(training_job(plan, sizes, shape, run, gpu))
        jobs += evaluation_jobs(plan, sizes, shape, run, gpu)
    jobs += analysis_jobs(plan, sizes, shape, gpu)
    backbone = ("pretrain" if isinstance(plan.experiment.backbone, PretrainedBackbone) else "fetch_backbone", None)
    found = [
        replace(job, after=tuple(backbone if name == ("backbone", None) else name for name in job.after))
        for job in jobs
    ]
    return Estimate(tuple(found), sizes.guesses, shape)
