"""`matryobench calibrate`: the speed of this machine, from small pieces of the program's own work."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from matryobench.errors import InputError
from matryobench.estimating.devices import CPU, FORMAT
from matryobench.estimating.probes import (
    Clock,
    Probe,
    encoding_probe,
    half_probe,
    head_probe,
    host_probes,
    search_probe,
    training_probe,
)
from matryobench.estimating.shapes import EncoderShape
from matryobench.estimating.starts import start_probes
from matryobench.estimating.work import ON_DEVICE, QUANTITIES
from matryobench.files import write_json
from matryobench.models.folders import device_of
from matryobench.provenance import environment

TINY = EncoderShape(4, 64, 256, 800, 512)
SHALLOW = EncoderShape(1, 64, 256, 800, 512)
SMALL = EncoderShape(6, 384, 1536, 30522, 512)
CUT = EncoderShape(2, 384, 1536, 30522, 512)
WIDE = EncoderShape(2, 768, 3072, 8000, 512)
BASE = EncoderShape(12, 768, 3072, 30522, 512)
ENCODING = ("full_operations", "layer_passes", "elements", "updates", "loss_terms")
SEARCHING = ("search_operations", "scores")
"""Quantities that are fitted together, since every probe has several of them; others are solved for one after another."""
SMOOTHING = 0.02
"""Weight of a quantity's default in its fit, relative to that of a probe: it decides only what the probes do not."""


def calibrate(out: Path, threads: int, device_name: str | None = None) -> dict[str, Any]:
    """Measures this machine and writes `out`; returns what it wrote.

    About a minute of processor time: training steps and encodings of several shapes, an exact search, the masked-LM head,
    tokens, rows, metrics, resamples, and the start of every kind of job. With one thread on a processor the clock is the
    process's own time, so that other work on the machine disturbs little. Raises InputError for fewer than one thread.
    """
    if threads < 1:
        raise InputError(f"--threads {threads}: a job needs a thread; give 1 or more.")
    began, load = time.perf_counter(), os.getloadavg()[0]
    device, before = device_of(device_name), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        clock = Clock(device, threads)
        encoders, others = _device_probes(clock)
        others += list(host_probes(clock))
    finally:
        torch.set_num_threads(before)
    others += list(start_probes(2))
    seconds = solve(encoders, others)
    probes = [*encoders, *others]
    measured = {name for probe in probes for name, amount in probe.amounts.items() if amount}
    record = {
        "format": FORMAT,
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(device),
        "gpu": device.type != "cpu",
        "threads": threads,
        "clock": clock.name,
        "seconds": seconds,
        "not_measured": sorted(set(QUANTITIES) - measured),
        "probes": [
            {
                "probe": probe.name,
                "seconds": probe.middle,
                "spread": round(probe.spread, 3),
                "fitted": sum(seconds[name] * amount for name, amount in probe.amounts.items()),
            }
            for probe in probes
        ],
        "load_average": load,
        "wall_seconds": round(time.perf_counter() - began, 1),
        **environment(),
    }
    write_json(out, record)
    return record


def solve(encoders: Sequence[Probe], others: Sequence[Probe]) -> dict[str, float]:
    """Seconds per unit of every quantity: of encoders and of a search by least squares of relative errors, none negative; then
    of every other one from the probe that has it, after what is known by then; the default where no probe has it."""
    found = _fit([probe for probe in encoders if not probe.amounts.get("half_operations")], ENCODING)
    found |= _fit([probe for probe in others if "scores" in probe.amounts], SEARCHING)
    halves = [probe for probe in encoders if probe.amounts.get("half_operations")]
    for probe in [*halves, *others]:
        unknown = [name for name, amount in probe.amounts.items() if amount and name not in found]
        if unknown:
            rest = probe.middle - sum(found[name] * value for name, value in probe.amounts.items() if name in found)
            # What is left may be nothing but noise: a tenth of the probe's time is the least that is believed.
            found[unknown[0]] = max(rest, 0.1 * probe.middle) / probe.amounts[unknown[0]]
    return {name: found.get(name, CPU[name]) for name in QUANTITIES}


def _fit(probes: Sequence[Probe], names: Sequence[str]) -> dict[str, float]:
    """Seconds per unit of some quantities that several probes have; none where there are no probes."""
    from scipy.optimize import nnls

    if not probes:
        return {}
    times = np.array([probe.middle for probe in probes])
    # In multiples of the defaults, which a weak prior holds where the probes say nothing.
    rows = np.array([[probe.amounts.get(name, 0.0) * CPU[name] for name in names] for probe in probes])
    system = np.vstack([rows / times[:, None], SMOOTHING * np.eye(len(names))])
    factors, _ = nnls(system, np.concatenate([np.ones(len(probes)), np.full(len(names), SMOOTHING)]))
    return {name: float(factor * CPU[name]) for name, factor in zip(names, factors, strict=True)}


def _device_probes(clock: Clock) -> tuple[list[Probe], list[Probe]]:
    """Probes of encoders, and of what else the device does; larger ones on a GPU."""
    if clock.device.type == "cpu":
        encoders = [
            training_probe(TINY, 32, 16, False, 8, clock),
            training_probe(TINY, 32, 16, True, 8, clock),
            training_probe(SHALLOW, 32, 16, False, 8, clock),
            training_probe(TINY, 16, 64, False, 5, clock),
            training_probe(SMALL, 12, 24, False, 3, clock),
            training_probe(CUT, 12, 64, False, 3, clock),
            training_probe(WIDE, 6, 48, False, 3, clock),
            half_probe(SMALL, 36, 24, 2, clock),
            encoding_probe(TINY, 256, 40, 5, clock),
            encoding_probe(SMALL, 24, 100, 3, clock),
            encoding_probe(WIDE, 16, 64, 3, clock),
        ]
        others = [head_probe(384, 30522, 1024, 2, clock)]
        others += [search_probe(512, 8192, 384, dims, 2, clock) for dims in ([384], [8, 16, 32, 64, 128, 256, 384])]
        return encoders, others
    encoders = [
        training_probe(TINY, 256, 32, False, 8, clock),
        training_probe(TINY, 256, 32, True, 8, clock),
        training_probe(SMALL, 256, 64, False, 4, clock),
        training_probe(BASE, 128, 96, False, 3, clock),
        training_probe(BASE, 16, 32, False, 6, clock),
        half_probe(BASE, 768, 96, 4, clock),
        encoding_probe(SMALL, 2048, 100, 3, clock),
        encoding_probe(BASE, 1024, 128, 3, clock),
    ]
    others = [head_probe(768, 30522, 8192, 3, clock)]
    others += [search_probe(4096, 65536, 768, dims, 3, clock) for dims in ([768], [8, 16, 32, 64, 128, 256, 512, 768])]
    return encoders, others


assert {*ENCODING, *SEARCHING} <= ON_DEVICE
