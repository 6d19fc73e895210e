"""What a plan costs on a device, stage by stage and in total."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from matryobench.errors import InputError
from matryobench.estimating.schedule import Task, makespan
from matryobench.estimating.work import STAGES, Job

if TYPE_CHECKING:
    from matryobench.estimating.devices import Device
    from matryobench.estimating.jobs import Estimate


@dataclass(frozen=True)
class Cost:
    """What some jobs take: tokens, floating-point operations, hours of devices (of GPUs where the device is one; jobs without a
    GPU in `host_hours`), bytes left on disk, largest bytes of memory of a job, hours from start to end on n devices."""

    stage: str
    jobs: int
    tokens: float
    operations: float
    device_hours: float
    host_hours: float
    disk: float
    memory: float
    device_memory: float
    wall_hours: float


def costs(estimate: Estimate, device: Device, devices: int) -> list[Cost]:
    """A Cost per stage that the plan has, each as if it ran alone, and the total, in which stages overlap.

    Jobs that need no GPU wait for none where the device is one; else every job holds one processor.
    Raises InputError for fewer than one device.
    """
    if devices < 1:
        raise InputError(f"--devices {devices}: there must be a device to run on; give 1 or more.")
    found = []
    for stage in STAGES:
        jobs = [job for job in estimate.jobs if job.stage == stage]
        if jobs:
            found.append(_cost(stage, jobs, device, devices))
    return [*found, _cost("total", estimate.jobs, device, devices)]


def summary_record(estimate: Estimate, device: Device, devices: int, found: Iterable[Cost]) -> dict[str, Any]:
    """The costs and what they rest on, for --json."""
    return {
        "device": device.name,
        "basis": device.basis,
        "assumed": not device.precise,
        "devices": devices,
        "stages": [asdict(cost) for cost in found],
        "unknown": estimate.guesses,
    }


def _cost(stage: str, jobs: Iterable[Job], device: Device, devices: int) -> Cost:
    jobs = list(jobs)

    def on_device(job: Job) -> bool:
        return job.accelerated or not device.gpu

    tasks = [Task(job.name, device.seconds_of(job), job.processes if on_device(job) else 0, job.after) for job in jobs]
    return Cost(
        stage=stage,
        jobs=len(jobs),
        tokens=sum(job.tokens for job in jobs),
        operations=sum(job.operations * job.processes for job in jobs),
        device_hours=sum(device.device_seconds(job) for job in jobs if on_device(job)) / 3600,
        host_hours=sum(device.seconds_of(job) for job in jobs if not on_device(job)) / 3600,
        disk=sum(job.disk for job in jobs),
        memory=max(job.memory for job in jobs),
        device_memory=max(job.device_memory for job in jobs),
        wall_hours=makespan(tasks, devices) / 3600,
    )
