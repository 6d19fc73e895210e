"""One snakemake per results folder, one job per output: who waits, who is refused, what the dead leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_experiment import command, environment, snakemake, write_config

from matryobench.compute import Compute
from matryobench.files import partial_path
from matryobench.job import run_job
from matryobench.locks import Busy, hold_experiment, same_job, writing, writing_file
from matryobench.paths import ROOT

JOB = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from matryobench.locks import writing
out = Path(sys.argv[2])
with writing(out, "the job"):
    print("working", flush=True)
    time.sleep(float(sys.argv[3]))
    (out / "result").write_text("done")
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Starts a process that works for some seconds in the folder `out` and returns it once it does."""
    started: list[subprocess.Popen[str]] = []

    def start(seconds: float) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", JOB, str(ROOT / "workflow"), str(tmp_path / "out"), str(seconds)]
        started.append(process := subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
        assert process.stdout is not None and process.stdout.readline() == "working\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_job_waits_for_one_that_still_writes_and_takes_its_result(tmp_path: Path, holder, capfd) -> None:
    process = holder(1.0)
    out = tmp_path / "out"
    with writing(out, "the job", [out / "result"]) as done:
        assert done
        assert (out / "result").read_text() == "done"
        assert process.wait(timeout=10) == 0
    said = capfd.readouterr().err
    assert f"{out}: waiting for the job that still writes there (process {process.pid} on " in said
    assert f"{out}: that process has finished this job" in said


@pytest.mark.parametrize(("job", "results"), [("another job", ["result"]), ("the job", ["result", "lost"])])
def test_the_result_of_another_job_or_half_of_one_is_not_taken(
    tmp_path: Path, holder, job: str, results: list[str]
) -> None:
    holder(0.5)
    with writing(tmp_path / "out", job, [tmp_path / "out" / name for name in results]) as done:
        assert not done


def test_without_waiting_nothing_is_taken_for_done(tmp_path: Path) -> None:
    (tmp_path / "result").touch()
    for _ in range(2):
        with writing(tmp_path, "the job", [tmp_path / "result"]) as done:
            assert not done


def test_a_killed_holder_is_not_waited_for_and_its_leftovers_go(tmp_path: Path, holder, capfd) -> None:
    process = holder(60)
    process.kill()
    process.wait()
    out = tmp_path / "out"
    (out / "checkpoints" / ".checkpoint-000000005.elsewhere.99.partial").mkdir(parents=True)
    (out / ".run.json.elsewhere.99.partial").touch()
    (out / "kept.partial").touch()
    with writing(out, "the job", []) as done:
        assert not done
    assert sorted(path.name for path in out.rglob("*")) == [".lock", ".lock.json", "checkpoints", "kept.partial"]
    assert capfd.readouterr().err == ""


def test_the_files_of_jobs_in_one_folder_have_locks_of_their_own(tmp_path: Path) -> None:
    with writing_file(tmp_path / "a"), writing_file(tmp_path / "b"):
        pass  # neither waits for the other


def test_the_processes_of_a_training_do_not_wait_for_their_launcher_s_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan: Any = SimpleNamespace(experiment=SimpleNamespace(threads=1, compute=Compute()))
    done = []
    with writing(tmp_path):
        monkeypatch.setenv("RANK", "0")
        run_job(plan, lambda: done.append("trained"), writing(tmp_path))
    assert done == ["trained"]


def test_the_same_job_is_settings_and_inputs(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("abc")
    first = same_job({"steps": 3}, tmp_path / "tokens", None)
    assert first == same_job({"steps": 3}, tmp_path / "tokens", None)
    assert first != same_job({"steps": 4}, tmp_path / "tokens", None)
    (tmp_path / "tokens").write_text("abcd")
    assert first != same_job({"steps": 3}, tmp_path / "tokens", None)


def test_a_results_folder_is_held_once_and_free_after(tmp_path: Path) -> None:
    lock = hold_experiment(tmp_path / "results")
    with pytest.raises(
        Busy, match=rf"another snakemake works on this results folder \(process {os.getpid()} on .* since"
    ):
        hold_experiment(tmp_path / "results")
    lock.release()
    hold_experiment(tmp_path / "results").release()


def test_a_second_snakemake_is_refused_with_one_sentence_and_touches_nothing(tmp_path: Path) -> None:
    write_config(tmp_path)
    root = tmp_path / "results" / "demo"
    lock = hold_experiment(root)
    (root / "experiment.yaml").write_text("of the other one")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    result = snakemake(tmp_path, "--", "results/demo/data/demo-sts-roles.parquet")
    assert result.returncode == 2
    said = [line for line in result.stderr.splitlines() if line.startswith("matryobench: ")]
    assert len(said) == 1
    assert f"results/demo: another snakemake works on this results folder (process {os.getpid()} on " in said[0]
    assert "Traceback" not in result.stderr
    dry = snakemake(tmp_path, "-n", "--quiet", "all")
    assert dry.returncode == 0, dry.stderr
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    lock.release()


def test_two_experiments_share_a_working_folder_at_the_same_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_config(tmp_path / name, results=f"results/{name}")
    runs = [
        subprocess.Popen(
            command(tmp_path / name, "--directory", str(tmp_path), "--", f"results/{name}/data/demo-sts-roles.parquet"),
            cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    both = False
    locks = [tmp_path / "results" / name / ".lock.json" for name in ("one", "two")]
    while any(run.poll() is None for run in runs):
        both |= all(lock.exists() for lock in locks) and all(run.poll() is None for run in runs)
        time.sleep(0.05)
    for run in runs:
        said = run.communicate()[0]
        assert run.returncode == 0, said[-2000:]
    assert both, "they did not run at the same time"
    owners = {json.loads(lock.read_text())["pid"] for lock in locks}
    assert owners == {run.pid for run in runs}
    for name in ("one", "two"):
        dry = subprocess.run(
            command(tmp_path / name, "--directory", str(tmp_path), "-n", "--", f"results/{name}/data/demo-sts-roles.parquet"),
            cwd=tmp_path, env=environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert "Nothing to be done" in dry.stdout + dry.stderr
    assert not partial_path(tmp_path / "x").exists()
