"""What a job asks a cluster for: minutes and memory, with room for a slow machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from matryobench.errors import unknown_name
from matryobench.estimating.devices import Device, device_named
from matryobench.estimating.jobs import estimate
from matryobench.estimating.shapes import BERT_BASE

if TYPE_CHECKING:
    from matryobench.plan import Plan

TIMES, MORE_MINUTES = 2.0, 10
MEMORY_TIMES, LEAST_MB = 2.0, 600


@dataclass(frozen=True)
class Need:
    """A request: minutes of wall time, and MiB of host memory of the whole job."""

    minutes: int
    memory_mb: int


def job_need(plan: Plan, rule: str, key: object = None) -> Need:
    """What the job `key` of a Snakemake rule asks for, on the experiment's `compute.device`.

    key: a run id (train, evaluate), (run id, corpus) (search, the largest shard), a dataset (fetch_data, tokenise, the longest
    texts), a pre-training's name (continue_pretraining), a task (significance, test_grids), a figure or table (draw,
    tabulate), else None. Twice the estimate and 10 minutes more; memory twice the estimate, 600 MiB at least. A backbone that
    is not fetched yet counts as BERT-base. Raises InputError for a rule or key that the plan has no job for.
    """
    needs = _needs(plan)
    if rule not in needs:
        raise unknown_name(f"{plan.place}: rule", "rule", rule, needs)
    found = needs[rule].get(key)
    if found is None:
        raise unknown_name(f"{plan.place}: {rule}", "job", str(key), map(str, needs[rule]))
    return found


@lru_cache(maxsize=4)
def _needs(plan: Plan) -> dict[str, dict[object, Need]]:
    """Requests by rule and key; of several jobs with one key (shards, lengths) the largest."""
    compute = plan.experiment.compute
    device = device_named(compute.device, compute.calibration)
    found: dict[str, dict[object, Need]] = {}
    for job in estimate(plan, device.gpu, BERT_BASE).jobs:
        key = _key(job.rule, job.key)
        own = _need(device, device.seconds_of(job), job.memory)
        known = found.setdefault(job.rule, {}).get(key, own)
        found[job.rule][key] = Need(max(own.minutes, known.minutes), max(own.memory_mb, known.memory_mb))
    return found


def _key(rule: str, key: object) -> object:
    if rule in ("search", "tokenise"):
        assert isinstance(key, tuple)
        return key[:2] if rule == "search" else key[0]
    return key


def _need(device: Device, seconds: float, memory: float) -> Need:
    minutes = math.ceil(TIMES * seconds / 60 + MORE_MINUTES)
    # In steps, so that a corrected estimate does not change every request.
    megabytes = 100 * math.ceil(MEMORY_TIMES * memory / 2**20 / 100)
    return Need(minutes, max(LEAST_MB, megabytes))
