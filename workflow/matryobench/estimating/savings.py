"""What an experiment would cost without each of the ways in which this program saves, from the same formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from matryobench.estimating.jobs import Estimate, estimate
from matryobench.estimating.work import Job

if TYPE_CHECKING:
    from matryobench.estimating.devices import Device
    from matryobench.plan import Plan, Run

ENCODED = ("full_operations", "half_operations", "layer_passes", "elements")
"""What evaluation takes for encoding texts."""


REPORTED = (
    'arXiv 2411.17299 reports "over 600 GPU hours on H100 GPUs" for its experiments (limitations; first trials that failed'
    " not counted), STS and retrieval together"
)
"""What the paper that the tasks `published: sts` and `retrieval` reproduce says of its own cost."""


@dataclass(frozen=True)
class Saving:
    """Hours of devices that the experiment takes without one saving, all others kept."""

    without: str
    device_hours: float


def savings_of(plan: Plan, device: Device) -> list[Saving]:
    """Hours without each saving, one at a time, and without all of evaluation's together.

    Only those that change something for the plan. The per-cell loop is what is usual: it cuts the encoder to the layer and
    encodes and searches again for every dim.
    """
    found = estimate(plan, device.gpu)
    own = _hours(found.jobs, device)
    ways: list[tuple[str, Callable[[Job], Job]]] = [
        (
            "one encoding for all dims: every dim of a layer encodes again",
            lambda job: _encode_again(plan, found, job, "dims"),
        ),
        (
            "one encoding for all layers: every layer encodes again",
            lambda job: _encode_again(plan, found, job, "layers"),
        ),
        (
            "scores of a width from those of the narrower one: every dim is multiplied anew",
            lambda job: _search_again(plan, job),
        ),
        (
            "all of evaluation's: a truncated encoder for every cell, which encodes and searches by itself",
            lambda job: _search_again(plan, _encode_again(plan, found, job, "cells")),
        ),
        ("one pass over a corpus for all of its test sets: every set encodes it", lambda job: _pass_again(plan, job)),
        (
            "truncated encoders of bert-s: all layers are computed, in training too",
            lambda job: _full_depth(plan, found, job),
        ),
    ]
    savings = [Saving(name, _hours(map(way, found.jobs), device)) for name, way in ways]
    return [saving for saving in savings if saving.device_hours > own * 1.0005]


def _hours(jobs: Iterable[Job], device: Device) -> float:
    return sum(device.device_seconds(job) for job in jobs if job.accelerated or not device.gpu) / 3600


def _run_of(plan: Plan, job: Job) -> Run | None:
    """The run whose texts a job encodes for evaluation."""
    if job.rule == "evaluate":
        return plan.run(str(job.key))
    return plan.run(str(job.key[0])) if job.rule == "search" and isinstance(job.key, tuple) else None


def _encode_again(plan: Plan, found: Estimate, job: Job, what: str) -> Job:
    """With its encoding repeated: for every dim (all layers at once), layer (cut to it), or cell (cut to its layer)."""
    run = _run_of(plan, job)
    if run is None:
        return job
    depth = run.layers or found.shape.layers
    layers = [layer for layer, _ in run.evaluated]
    if what == "dims":
        return _scaled(job, ENCODED, len({dim for _, dim in run.evaluated}))
    return _scaled(job, ENCODED, sum(layers if what == "cells" else set(layers)) / depth)


def _search_again(plan: Plan, job: Job) -> Job:
    """With every cell's scores multiplied from its first coordinate on."""
    run = _run_of(plan, job)
    if run is None or not job.amounts.get("search_operations"):
        return job
    widest: dict[int, int] = {}
    for layer, dim in run.evaluated:
        widest[layer] = max(dim, widest.get(layer, 0))
    return _scaled(job, ("search_operations",), sum(dim for _, dim in run.evaluated) / sum(widest.values()))


def _pass_again(plan: Plan, job: Job) -> Job:
    """With a pass over a sharded corpus for each of the test sets that search it; smaller corpora have one set each."""
    if job.rule != "search" or not isinstance(job.key, tuple):
        return job
    return _scaled(job, ENCODED, len(plan.corpora()[str(job.key[1])]))


def _full_depth(plan: Plan, found: Estimate, job: Job) -> Job:
    """With all layers of the backbone computed where a run's encoder is truncated."""
    whole = found.shape.layers
    run = plan.run(str(job.key)) if job.rule == "train" else _run_of(plan, job)
    if run is None or run.layers is None or run.layers == whole:
        return job
    return _scaled(job, ENCODED, whole / run.layers)


def _scaled(job: Job, names: Iterable[str], factor: float) -> Job:
    amounts = {name: value * (factor if name in names else 1) for name, value in job.amounts.items()}
    return replace(job, amounts=amounts)
