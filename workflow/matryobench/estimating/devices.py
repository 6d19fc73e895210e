"""How fast things are: seconds per unit of every quantity, assumed for GPUs and a usual processor, or measured here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from matryobench.errors import InputError, unknown_name
from matryobench.estimating.work import ON_DEVICE, QUANTITIES, Job

FORMAT = 1
"""Of calibration files; another one is not read."""

# One thread of an AMD EPYC with AVX-512, in processor time: a `matryobench calibrate` of 2026-11-21, rounded to one or two
# digits; starts by the shortest jobs of the demo on the same machine with less beside it.
CPU: Mapping[str, float] = {
    "start_light": 0.5,
    "start_tables": 1.0,
    "start_tokenise": 1.9,
    "start_figures": 2.0,
    "start_model": 4.0,
    "start_mteb": 7.0,
    "full_operations": 1 / 105e9,
    "half_operations": 1 / 200e9,
    "layer_passes": 3e-5,
    "elements": 2e-8,
    "inner_elements": 1.5e-8,
    "updates": 5e-9,
    "loss_terms": 5e-4,
    "search_operations": 1 / 60e9,
    "scores": 3e-9,
    "rankings": 4e-6,
    "mteb_rankings": 2e-3,
    "items": 2e-7,
    "tokenised": 2.2e-6,
    "rows": 1e-5,
    "mined": 9e-4,
    "resampled": 5e-9,
    "classifiers": 0.026,
    "written": 1e-9,
}


@dataclass(frozen=True)
class Device:
    """A device's seconds per unit of every quantity, and where they come from; `gpu`: jobs that train or encode use one."""

    name: str
    gpu: bool
    seconds: Mapping[str, float]
    basis: str
    precise: bool = False  # measured, not assumed
    spread: Mapping[str, float] = field(default_factory=dict)

    def seconds_of(self, job: Job) -> float:
        """Seconds that a job takes from start to end."""
        return sum(self.seconds[name] * amount for name, amount in job.amounts.items())

    def device_seconds(self, job: Job) -> float:
        """Seconds of device: of all its cards from start to end for a job that uses them, else of one processor."""
        return self.seconds_of(job) * job.processes


def _gpu(name: str, half: float, full: float, bandwidth: float, half_share: float, source: str) -> Device:
    """A GPU from its published peaks (operations and bytes a second) and assumed shares of them."""
    full_share, moved_share = 0.6, 0.7
    moved = 1 / (bandwidth * moved_share)
    measured = {
        "half_operations": 1 / (half * half_share),
        "full_operations": 1 / (full * full_share),
        # About 15 kernels of a layer, at 8 microseconds until the next one is started.
        "layer_passes": 1.2e-4,
        # A layer reads and writes about 30 vectors of its width besides its products, of 4 bytes.
        "elements": 120 * moved,
        "inner_elements": 16 * moved,
        # AdamW reads weight, gradient and both moments and writes three of them; clipping reads, autocast casts.
        "updates": 46 * moved,
        # Some 40 kernels forward and backward.
        "loss_terms": 4e-4,
        "search_operations": 1 / (full * full_share),
        "scores": 12 * moved,
    }
    shown = f"{half_share:.0%} of {half / 1e12:.0f} TFLOP/s in half precision, {full_share:.0%} of {full / 1e12:.3g} in float32"
    shown += (
        f", {moved_share:.0%} of {bandwidth / 1e12:.3g} TB/s ({source}); the shares are assumed, nothing was measured"
    )
    return Device(name, True, {**CPU, **measured}, shown)


PROFILES: Mapping[str, Device] = {
    "h100": _gpu("h100", 989e12, 66.9e12, 3.35e12, 0.35, "peaks without sparsity of NVIDIA's H100 SXM data sheet"),
    "a100": _gpu(
        "a100", 312e12, 19.5e12, 2.039e12, 0.40, "peaks without sparsity of NVIDIA's A100 80GB SXM data sheet"
    ),
    "cpu": Device("cpu", False, CPU, "one thread of an AMD EPYC server, processor time, as measured on 2026-11-21"),
}


def device_named(name: str, calibration: Path) -> Device:
    """A profile by name, or for `measured` what `calibration` holds.

    Raises InputError for another name, and for a calibration that is missing, damaged or incomplete.
    """
    if name in PROFILES:
        return PROFILES[name]
    if name != "measured":
        raise unknown_name("--device", "device", name, [*PROFILES, "measured"])
    return read_calibration(calibration)


def read_calibration(path: Path) -> Device:
    """The device that `matryobench calibrate` measured. Raises InputError where the file is not one of its."""
    again = "run 'matryobench calibrate' on the machine that the jobs run on"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no calibration, which device 'measured' needs; {again}.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a calibration ({error}); {again}.") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path}: not a calibration of this version; {again}.")
    seconds, gpu = record.get("seconds"), record.get("gpu")
    if not isinstance(seconds, dict) or not isinstance(gpu, bool):
        raise InputError(f"{path}: keys 'seconds' and 'gpu' are not what calibrate writes; {again}.")
    for name in QUANTITIES:
        value = seconds.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e6:
            raise InputError(f"{path}: seconds.{name}: {value!r} is not a number of seconds; {again}.")
    basis = f"measured on {record.get('device')} ({record.get('clock')}), {record.get('date')}"
    return Device("measured", gpu, {name: float(seconds[name]) for name in QUANTITIES}, basis, True)


assert set(CPU) == set(QUANTITIES) and set(QUANTITIES) >= ON_DEVICE
