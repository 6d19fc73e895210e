"""What a result came from: code, libraries, machine, settings, seeds, cost."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from matryobench import __version__
from matryobench.paths import ROOT
from matryobench.plan import digest

if TYPE_CHECKING:
    from matryobench.config import Experiment

LIBRARIES = ("torch", "transformers", "sentence-transformers", "accelerate", "tokenizers", "numpy", "scipy", "pandas",
             "pyarrow", "safetensors", "snakemake")  # fmt: skip


ELSEWHERE = {"results", "mirror", "offline", "compute"}
"""Settings that say where and on what an experiment runs, not what it computes."""

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Training precision -> the type that the model computes in; its weights are float32 in all cases."""


def config_hash(experiment: Experiment) -> str:
    """Short hash of the whole experiment, without where and on what it runs."""
    return digest(experiment.model_dump(mode="json", exclude=ELSEWHERE))


def code() -> dict[str, Any]:
    """Version, git commit (with `-dirty` where files differ from it) and library versions: the same every time."""
    return {
        "version": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def environment() -> dict[str, Any]:
    """The code, the machine and the date. Never environment variables, user or host names, nor paths."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **code(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)  # Linux counts KiB


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if dirty else "")
    except (OSError, subprocess.SubprocessError):
        return None  # not a git checkout, or no git


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or "unknown"
