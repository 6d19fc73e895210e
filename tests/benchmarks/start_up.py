"""What is paid before and around the work: the plan of the largest experiment, a training job, and the whole demo."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from harness import Absent, Cost, Growth, Outcome, Pairs, Row, Setting, Target

from matryobench.paths import ROOT

DRY_RUN = "config/retrieval.yaml"
DEMO_RUN = "sts-bert-paper-v1-s42"
RECORDED = ROOT / "results" / "reference" / "make-demo.json"


def dry_run(setting: Setting) -> Outcome:
    """Seconds of `snakemake -n` on the largest experiment."""
    config = str(ROOT / ("config/demo.yaml" if setting.quick else DRY_RUN))
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "--snakefile", str(ROOT / "Snakefile"),
               "--configfile", config, "--directory", str(setting.scratch)]  # fmt: skip
    costs = [_process(command) for _ in range(setting.repeats + 1)][1:]
    rows = []
    for name in ("demo", "minilm", "sts", "retrieval"):
        other = [*command[:-4], "--configfile", str(ROOT / "config" / f"{name}.yaml"), *command[-2:]]
        try:
            rows.append((f"config/{name}.yaml", round(_process(other).seconds, 2)))
        except Absent:
            rows.append((f"config/{name}.yaml", "cannot be planned here"))
    growth = Growth("snakemake -n by experiment (one run)", ("experiment", "seconds"), rows)
    return Outcome(
        [_seconds_row(f"snakemake -n on {Path(config).name}", "a whole plan, nothing done yet", costs, 6)], [growth]
    )


def job_overhead(setting: Setting) -> Outcome:
    """Seconds of a demo training job that are not training: its process less its loop."""
    files = setting.demo
    tokens, table = files / "tokens" / "demo-triplets.64.safetensors", files / "data" / "demo-triplets.parquet"
    start = files / "backbone" / "backbone.json"
    if not all(path.exists() for path in (tokens, table, start)):
        raise Absent(
            f"{files} has no finished demo, whose tokens and backbone a job starts from; run `make demo` first."
        )
    # A record names its model's folder where it was made; the copy's is beside it.
    record = setting.scratch / "backbone.json"
    told = json.loads(start.read_text(encoding="utf-8")) | {"folder": str(start.parent / "model")}
    record.write_text(json.dumps(told), encoding="utf-8")
    costs = []
    for number in range(setting.repeats + 1):
        out = setting.scratch / f"run{number}"
        whole = _process([
            sys.executable, "-m", "matryobench", "train", str(ROOT / "config" / "demo.yaml"), DEMO_RUN, "--tokens", str(tokens),
            "--table", str(table), "--start", str(record), "--out", str(out),
        ])  # fmt: skip
        training = json.loads((out / "run.json").read_text(encoding="utf-8"))["train_seconds"]
        costs.append(Cost(whole.seconds - training, whole.cpu_seconds))
    found = _seconds_row("one demo training job but its steps", DEMO_RUN, costs[1:], 4)
    found.cpu_values = []  # that of the steps is in it
    return Outcome([found])


def make_demo(setting: Setting) -> Outcome:
    """The whole demo, as it was last recorded: it takes too long to be run again for a table."""
    if not RECORDED.exists():
        raise Absent(
            f"{RECORDED} is missing; time `make demo` after its installation and write the file (docs/performance.md)."
        )
    told = json.loads(RECORDED.read_text(encoding="utf-8"))
    found = _seconds_row(
        "make demo after installation", told["what"], [Cost(told["seconds"], told["cpu_seconds"])], 600
    )
    found.cpu_values = []
    return Outcome(
        [found],
        notes=[f"Recorded {told['date']} on {told['cores']} cores of {told['processor']}, not run for this table."],
    )


def _process(command: list[str]) -> Cost:
    """The cost of a process and its children; Absent with its last line where it fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "HF_HUB_OFFLINE": "1"}
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    seconds = time.perf_counter() - clock
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        raise Absent(f"{' '.join(command[1:4])} failed: {(ran.stderr.strip() or ran.stdout.strip()).splitlines()[-1]}")
    return Cost(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _seconds_row(name: str, work: str, costs: list[Cost], bound: float) -> Row:
    target = Target("seconds", bound)
    pairs = Pairs(costs, costs)
    return Row(name, work, "none", pairs.values(target), target, pairs.values(target, "cpu_seconds"))
