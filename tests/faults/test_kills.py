"""Kill -9 at more than twenty random moments: the same command again finishes, with the results of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from small_experiment import TARGETS, command, environment, jobs_of, snakemake, write_config

from matryobench.files import sha256_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")

# What is killed while a job of the kind runs: that job alone, snakemake alone, or all processes at once.
KILLS = [
    *(("fetch", victim) for victim in ("job", "driver", "all", "all")),
    *(("tokenise", victim) for victim in ("job", "driver", "all", "all")),
    *(("pretrain", victim) for victim in ("job", "driver", "all", "all")),
    *(("train", victim) for victim in ("job", "driver", "all", "driver", "all")),
    *(("evaluate-run", victim) for victim in ("job", "driver", "all", "driver")),
    *(("collect", victim) for victim in ("job", "driver", "all")),
]
RULES = {"fetch": "fetch_data", "evaluate-run": "evaluate"}
# What two runs of the same may differ in: time, load of the machine, and hashes of files that say so.
MEASURED = {"date", "wall_seconds", "train_seconds", "seconds", "tokens_per_second", "resumed_at", "peak_memory_mb",
            "run_sha256", "folder"}  # fmt: skip
HASHED = ("data/*.parquet", "tokens/*.safetensors", "**/model/**/*", "runs/*/telemetry.jsonl", "evaluation/*/*.parquet",
          "evaluation/*/*.csv", "tables/*")  # fmt: skip


def hashes(root: Path) -> dict[str, str]:
    files = {path for pattern in HASHED for path in root.glob(pattern) if path.is_file()}
    return {str(path.relative_to(root)): sha256_of(path) for path in sorted(files)}


def records(root: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(root)): unmeasured(json.loads(path.read_text(encoding="utf-8")))
        for pattern in ("runs/*/run.json", "backbone/*.json", "evaluation/*/evaluation.json")
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


def kill(folder: Path, verb: str, victim: str, delay: float) -> str | None:
    """Starts the command and kills `victim` so long after a job of the kind has started; returns the kind that was hit.

    None where no such job came up or it had ended by then.
    """
    with (folder / "snakemake.log").open("ab") as log:
        driver = subprocess.Popen(
            command(folder, *TARGETS), cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    hit: str | None = None
    while driver.poll() is None and hit is None:
        if verb in jobs_of(driver.pid).values():
            time.sleep(delay)
            running = {pid for pid, name in jobs_of(driver.pid).items() if name == verb}
            if not running:
                continue  # another one of the kind may follow
            hit = verb
            if victim == "job":
                os.kill(min(running), signal.SIGKILL)
            elif victim == "driver":
                driver.kill()
            else:
                os.killpg(driver.pid, signal.SIGKILL)
        time.sleep(0.02)
    code = driver.wait(timeout=300)
    assert hit is None or code != 0, f"snakemake ended well although its {verb} was killed"
    return hit


def test_twenty_kills_do_not_change_a_number(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        write_config(folder)
    result = snakemake(whole, *TARGETS)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    root = whole / "results" / "demo"
    draws = random.Random(20)
    hits: Counter[str] = Counter()
    victims: Counter[str] = Counter()
    for verb, victim in KILLS:
        if kill(killed, verb, victim, draws.uniform(0, 0.7) * seconds(root, verb)):
            hits[verb] += 1
            victims[victim] += 1
    log = (killed / "snakemake.log").read_text(encoding="utf-8", errors="replace")
    assert "cannot be locked" not in log
    result = snakemake(killed, *TARGETS)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    print(f"hit: {dict(hits)}; killed: {dict(victims)}")
    assert sum(hits.values()) >= 20
    assert set(hits) == {verb for verb, _ in KILLS}
    assert set(victims) == {"job", "driver", "all"}
    again = killed / "results" / "demo"
    assert len(hashes(root)) > 40
    assert hashes(again) == hashes(root)
    assert records(again) == records(root)
    left = [path for path in again.rglob("*") if path.name.endswith(".partial") or path.name == "checkpoints"]
    assert not left
    assert "Nothing to be done" in (done := snakemake(killed, *TARGETS)).stdout + done.stderr
