"""Who may run jobs of an experiment: the last snakemake that took over, and nothing that an earlier one left in Slurm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from matryobench import controllers
from matryobench.controllers import enter_job, take_over
from matryobench.errors import InputError

# squeue lists the lines of `queue` whose name is asked for; scancel removes lines by id, unless they are stubborn.
SQUEUE = """#!/bin/sh
for last; do :; done
while IFS=' ' read -r id name; do case ",$last," in *",$name,"*) echo "$id";; esac; done < {queue}
"""
SCANCEL = """#!/bin/sh
for id; do sed -i "/^$id [^!]*$/d" {queue}; done
echo "$@" >> {queue}.cancelled
"""


@pytest.fixture(autouse=True)
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pretended queue of lines `id name`; nothing of an outer controller or job in the environment."""
    queue, bin_folder = tmp_path / "queue", tmp_path / "bin"
    queue.write_text("", encoding="utf-8")
    bin_folder.mkdir()
    for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        (bin_folder / name).write_text(text.format(queue=queue), encoding="utf-8")
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    for name in (controllers.TOKEN, controllers.JOB, "SLURM_JOB_ID", "SLURM_JOB_NAME"):
        monkeypatch.setenv(name, "")  # so that what the tests set is taken back
        monkeypatch.delenv(name)
    return queue


def job(monkeypatch: pytest.MonkeyPatch, number: str, name: str, token: str | None) -> None:
    """Makes this process look like a job of a controller."""
    monkeypatch.setenv("SLURM_JOB_ID", number)
    monkeypatch.setenv("SLURM_JOB_NAME", name)
    if token is not None:
        monkeypatch.setenv(controllers.TOKEN, token)


def test_jobs_of_an_earlier_controller_are_cancelled_and_those_of_others_are_not(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    assert take_over(results, submits=True) == 0
    job(monkeypatch, "7", "first-uuid", None)
    enter_job(results)
    slurm.write_text("7 first-uuid\n8 first-uuid\n9 somebody\n", encoding="utf-8")
    assert take_over(results, submits=False) == 2  # also by a snakemake that submits nothing itself
    assert slurm.read_text() == "9 somebody\n"
    assert "cancelling 2 jobs of an earlier snakemake: 7 8\n" in capsys.readouterr().err
    assert take_over(results, submits=True) == 0
    assert (slurm.parent / "queue.cancelled").read_text() == "7 8\n"


def test_a_job_of_a_replaced_controller_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    take_over(results, submits=True)
    token = os.environ[controllers.TOKEN]
    take_over(results, submits=True)
    job(monkeypatch, "7", "first-uuid", token)
    with pytest.raises(InputError, match="another snakemake has taken over since job 7 was submitted"):
        enter_job(results)
    # Its name is left all the same, so that one that is just starting is seen by whoever takes over next.
    assert [file.name for file in (results / controllers.FOLDER / "names").iterdir()] == ["first-uuid"]


def test_the_steps_of_a_job_leave_no_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    take_over(results, submits=True)
    job(monkeypatch, "7", "first-uuid", None)
    enter_job(results)
    monkeypatch.setenv("SLURM_JOB_NAME", "python")
    enter_job(results)
    assert [file.name for file in (results / controllers.FOLDER / "names").iterdir()] == ["first-uuid"]


def test_outside_slurm_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    assert take_over(results, submits=False) == 0
    enter_job(results)
    job(monkeypatch, "7", "an-allocation", None)  # snakemake itself in a Slurm job, on this machine's cores
    enter_job(results)
    assert not results.exists() and controllers.TOKEN not in os.environ


def test_jobs_that_do_not_end_stop_the_new_controller(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    take_over(results, submits=True)
    monkeypatch.setattr(controllers, "PATIENCE", 0)
    (results / controllers.FOLDER / "names").mkdir()
    (results / controllers.FOLDER / "names" / "stubborn!").write_text("", encoding="utf-8")
    slurm.write_text("7 stubborn!\n", encoding="utf-8")
    with pytest.raises(InputError, match="jobs 7 of an earlier snakemake do not end; see `squeue`"):
        take_over(results, submits=True)
    (slurm.parent / "bin" / "squeue").write_text("#!/bin/sh\necho down >&2; exit 1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"squeue: failed \(down\)"):
        take_over(results, submits=True)
