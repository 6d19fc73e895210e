"""The demo's STS part on a real Slurm of one node: a killed controller, a cancelled job, a job out of memory, cards."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from one_node_slurm import OneNodeSlurm, missing_programs, one_node_slurm

from matryobench.files import sha256_of
from matryobench.paths import ROOT

PATIENCE = 900  # seconds for one thing to happen, also on a busy machine
SMALL = {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 32, "max_length": 32}
CELLS = "results/small/tables/cells.parquet"
FIGURES = [f"results/small/figures/sts-{name}.svg" for name in ("panels", "heatmaps")]
RUNS = ("sts-bert-paper-v1-s42", "sts-2dmse-v1-released-v1-s42")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNodeSlurm]:
    missing = missing_programs()
    if missing:
        pytest.skip(f"no Slurm here, lacking {', '.join(missing)}: apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("Debian's slurmd starts jobs as root only")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("the extra `cluster` is not installed: pip install snakemake-executor-plugin-slurm")
    with one_node_slurm(tmp_path_factory.mktemp("slurm"), gpus=2) as running:
        yield running


def experiment() -> dict[str, Any]:
    """The demo's STS part with a smaller encoder, two test sets and two runs."""
    demo = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text(encoding="utf-8"))
    spec = demo["backbone"]["spec"]
    spec |= {"architecture": SMALL, "vocab_size": 400, "steps": 6, "batch_size": 8}
    del spec["warmup_steps"]
    sts = demo["sts"]
    recipe = sts["recipes"]["v1"] | {"nested_dims": [16, 8], "target_dim": 8, "max_length": 32}
    recipe["training"] |= {"steps": 8, "batch_size": 16}
    sts |= {
        "evaluate": sts["evaluate"][:2],
        "max_length": 32,
        "grid": {"layers": [1, 2], "dims": [8, 16]},
        "sizes": {"Demi": [1, 8], "Trenta": [2, 16]},
        "recipes": {"v1": recipe},
        "runs": [{"method": "bert"}, {"method": "2dmse-v1", "variants": ["released"]}],
    }
    kept = {key: demo[key] for key in ("description", "offline", "backbone", "seeds")}
    # Twice the minutes of a training would be more than the partition grants, and wait for ever.
    return {"name": "small", **kept, "sts": sts, "compute": {"max_minutes": 1440}}


def command(folder: Path, *arguments: str) -> list[str]:
    start = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return [*start, "--configfile", str(folder / "small.yaml"), *arguments]


def through_slurm(folder: Path, *arguments: str) -> list[str]:
    """The command of docs/cluster.md, with shorter waits."""
    profile = ["--profile", str(ROOT / "workflow" / "profiles" / "slurm")]
    waits = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10"]
    return command(folder, *profile, *waits, *arguments)


def clean(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != "PYTHONPATH"}


def start(folder: Path, slurm: OneNodeSlurm, log: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A controller in the background."""
    with (folder / log).open("wb") as stream:
        return subprocess.Popen(
            through_slurm(folder, *arguments), stdout=stream, stderr=subprocess.STDOUT,
            env=clean(slurm.environment), cwd=folder, start_new_session=True,
        )  # fmt: skip


def until(found: Callable[[], list[dict[str, str]]], controller: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    """The first job that is found while a controller runs."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        jobs = found()
        if jobs:
            return jobs[0]
        assert controller.poll() is None, log.read_text(errors="replace")[-5000:]
        time.sleep(0.1)
    pytest.fail(log.read_text(errors="replace")[-5000:])


def jobs_of(slurm: OneNodeSlurm, rule: str, states: str) -> list[dict[str, str]]:
    return [job for job in slurm.queue(states) if job["comment"].startswith(f"rule_{rule}")]


def test_an_experiment_survives_its_controller_a_cancelled_job_and_one_out_of_memory(
    slurm: OneNodeSlurm, tmp_path: Path
) -> None:
    folder, alone = tmp_path / "slurm", tmp_path / "alone"
    for place in (folder, alone):
        place.mkdir()
        (place / "small.yaml").write_text(yaml.safe_dump(experiment(), sort_keys=False), encoding="utf-8")
    # The first attempt at an evaluation gets less memory than Snakemake and torch need.
    goal = ["--set-resources", "evaluate:mem_mb=250 if attempt == 1 else 4000", "--", CELLS, *FIGURES]
    controller = start(folder, slurm, "first.log", *goal)
    try:
        orphan = until(lambda: jobs_of(slurm, "pretrain", "running"), controller, folder / "first.log")
        until(
            lambda: [{}] if list(folder.glob("results/small/.slurm/names/*")) else [], controller, folder / "first.log"
        )
        slurm.output("scontrol", "suspend", orphan["id"])  # so that it is still there when the next controller starts
        controller.kill()
        controller.wait()
        controller = start(folder, slurm, "second.log", *goal)
        cancelled = until(lambda: jobs_of(slurm, "train", "running"), controller, folder / "second.log")
        slurm.output("scancel", cancelled["id"])
        code = controller.wait(PATIENCE)
        log = (folder / "second.log").read_text(encoding="utf-8")
        assert code == 0, log[-5000:]
    finally:
        controller.kill()
        controller.wait()

    assert f"cancelling 1 jobs of an earlier snakemake: {orphan['id']}\n" in log
    ended = {job["id"]: job for job in slurm.queue("all")}
    assert ended[orphan["id"]]["state"] == ended[cancelled["id"]]["state"] == "CANCELLED"
    # The cancelled training was submitted again, with twice its memory.
    again = [job for job in jobs_of(slurm, "train", "completed") if job["comment"] == cancelled["comment"]]
    assert [int(job["memory"].removesuffix("M")) for job in again] == [2 * int(cancelled["memory"].removesuffix("M"))]
    # Both evaluations were killed by their limit, and finished with more.
    assert [job["memory"] for job in jobs_of(slurm, "evaluate", "failed")] == ["250M"] * 2
    assert [job["memory"] for job in jobs_of(slurm, "evaluate", "completed")] == ["4000M"] * 2
    # Small jobs went together.
    assert len(jobs_of(slurm, "figures", "completed")) == 1 and all((folder / figure).is_file() for figure in FIGURES)

    subprocess.run(
        command(alone, "--cores", "2", "--", CELLS), env=clean(dict(os.environ)),
        capture_output=True, check=True, cwd=alone,
    )  # fmt: skip
    for file in (
        *("tables/cells.parquet", "tables/cells.csv"),
        *(f"runs/{run}/model/model.safetensors" for run in RUNS),
        *(f"evaluation/{run}/items.parquet" for run in RUNS),
    ):
        assert sha256_of(folder / "results/small" / file) == sha256_of(alone / "results/small" / file), file


CARDS = """
import os, sys, time
from pathlib import Path
from matryobench.cards import claimed
with claimed(1, machine=[], locks=Path(sys.argv[2])) as cards:
    out = Path(sys.argv[1])
    out.write_text(cards[0])
    end = time.monotonic() + 300
    while len(list(out.parent.glob("card-*.txt"))) < 2:  # until the other has its card too
        assert time.monotonic() < end
        time.sleep(0.1)
"""


def test_two_gpu_jobs_get_two_cards(slurm: OneNodeSlurm, tmp_path: Path) -> None:
    (tmp_path / "cards.py").write_text(CARDS, encoding="utf-8")
    (tmp_path / "Snakefile").write_text(
        "rule all:\n    input: ['card-a.txt', 'card-b.txt']\n"
        "rule train:\n    output: 'card-{n}.txt'\n    resources: gpu=1, mem_mb=1000, runtime=5\n"
        f"    shell: '{sys.executable} cards.py {{output}} .'\n",
        encoding="utf-8",
    )
    profile = ROOT / "workflow" / "profiles" / "slurm"
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", str(profile), "--slurm-init-seconds-before-status-checks", "2"],
        env=slurm.environment | {"PYTHONPATH": str(ROOT / "workflow")}, cwd=tmp_path, capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert sorted((tmp_path / f"card-{n}.txt").read_text() for n in "ab") == ["0", "1"]
