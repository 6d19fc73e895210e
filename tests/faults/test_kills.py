"""Kill -9 at more than twenty random moments: the same command again finishes, with the results of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_experiment import TARGETS, command, environment, jobs_of, snakemake, write_config

from matryobench.files import sha256_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")

# What is killed while a job of each kind runs: that job alone, snakemake alone, or all processes at once.
KILLS = {
    "fetch": ["job", "driver", "all", "all", "job"],
    "tokenise": ["driver", "all", "job", "all"],
    "pretrain": ["all", "job", "driver", "all"],
    "train": ["driver", "all", "job", "driver", "all", "all"],
    "evaluate-run": ["all", "driver", "job", "all", "driver"],
    "collect": ["job", "all", "driver"],
}
RULES = {"fetch": "fetch_data", "evaluate-run": "evaluate"}
# What two runs of the same may differ in: time, load of the machine, and hashes of files that say so.
MEASURED = {"date", "wall_seconds", "train_seconds", "device_seconds", "seconds", "tokens_per_second", "resumed_at",
            "peak_memory_mb", "run_sha256", "folder"}  # fmt: skip
HASHED = ("data/*.parquet", "tokens/*.safetensors", "**/model/**/*", "runs/*/telemetry.jsonl", "evaluation/*/*.parquet",
          "evaluation/*/*.csv", "tables/*")  # fmt: skip


def hashes(root: Path) -> dict[str, str]:
    found = {path for pattern in HASHED for path in root.glob(pattern) if path.is_file()}
    files = {path for path in found if not path.name.startswith(".") and not path.name.endswith(".made.json")}
    return {str(path.relative_to(root)): sha256_of(path) for path in sorted(files)}


def records(root: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(root)): unmeasured(json.loads(path.read_text(encoding="utf-8")))
        for pattern in ("runs/*/run.json", "backbone/[!.]*.json", "evaluation/*/evaluation.json")
        for path in sorted(root.glob(pattern))
    }


def unmeasured(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: unmeasured(part) for name, part in value.items() if name not in MEASURED}
    return value


def seconds(root: Path, verb: str) -> float:
    """How long a job of this kind took undisturbed, on average."""
    files = sorted((root / "benchmarks" / RULES.get(verb, verb)).rglob("*.tsv"))
    return sum(float(file.read_text().splitlines()[1].split("\t")[0]) for file in files) / len(files)


def kill(folder: Path, left: dict[str, list[str]], draws: random.Random, undisturbed: Path) -> tuple[str, str] | None:
    """Runs the command and kills once, at a random moment of the first job of a kind that has kills left.

    Returns the kind and what was killed; None where the command ended without such a moment.
    """
    with (folder / "snakemake.log").open("ab") as log:
        driver = subprocess.Popen(
            command(folder, *TARGETS), cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    hit: tuple[str, str] | None = None
    missed: set[int] = set()
    while driver.poll() is None and hit is None:
        time.sleep(0.02)
        found = [(pid, verb) for pid, verb in jobs_of(driver.pid).items() if left.get(verb) and pid not in missed]
        if not found:
            continue
        pid, verb = found[0]
        # Earlier after every miss: jobs may be faster now than when they were timed.
        time.sleep(draws.uniform(0, 0.3 / (1 + len(missed))) * seconds(undisturbed, verb))
        if pid not in jobs_of(driver.pid):
            missed.add(pid)  # it has ended
            continue
        victim = left[verb].pop(0)
        hit = verb, victim
        if victim == "job":
            os.kill(pid, signal.SIGKILL)
        elif victim == "driver":
            driver.kill()
        else:
            os.killpg(driver.pid, signal.SIGKILL)
    code = driver.wait(timeout=300)
    assert hit is None or code != 0, f"snakemake ended well although {hit} was killed"
    return hit


def test_twenty_kills_do_not_change_a_number(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        write_config(folder)
    result = snakemake(whole, *TARGETS)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    root = whole / "results" / "demo"
    draws = random.Random(20)
    hits: list[tuple[str, str]] = []
    left = {verb: list(victims) for verb, victims in KILLS.items()}
    while hit := kill(killed, left, draws, root):
        hits.append(hit)
    log = (killed / "snakemake.log").read_text(encoding="utf-8", errors="replace")
    assert "cannot be locked" not in log
    result = snakemake(killed, *TARGETS)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    print("\n".join(f"{number}. {verb}: {victim}" for number, (verb, victim) in enumerate(hits, 1)))
    assert len(hits) >= 20
    assert {verb for verb, _ in hits} == set(KILLS)
    assert {victim for _, victim in hits} == {"job", "driver", "all"}
    again = killed / "results" / "demo"
    assert len(hashes(root)) > 40
    assert hashes(again) == hashes(root)
    assert records(again) == records(root)
    left = [path for path in again.rglob("*") if path.name.endswith(".partial") or path.name == "checkpoints"]
    assert not left
    assert "Nothing to be done" in (done := snakemake(killed, *TARGETS)).stdout + done.stderr
