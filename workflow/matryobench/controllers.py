"""Who submits an experiment's jobs to Slurm: they outlive the snakemake that did, when that is killed.

Such jobs would write the same files as those that the next snakemake submits. So every snakemake (the controller) leaves a
fresh token in the results folder, and its jobs carry it in their environment: a job whose token is no longer the one in
the folder stops before it touches anything. A job that goes on leaves its Slurm name, which all jobs of one controller
share; the next controller cancels what is still there under those names and waits until it is gone. A name is left before
the token is looked at, and a token before the names: of two that meet, one always sees the other.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

from matryobench.errors import InputError
from matryobench.files import write_text

TOKEN = "MATRYOBENCH_CONTROLLER"  # noqa: S105 - the variable's name
JOB = "MATRYOBENCH_SLURM_JOB"
FOLDER = ".slurm"
PATIENCE = 300  # seconds that cancelled jobs may take to end


def take_over(results: Path, submits: bool) -> int:
    """Makes this process the experiment's only controller; returns how many jobs of earlier ones were cancelled.

    To be called when the experiment is locked and before anything runs. `submits`: whether this snakemake submits jobs;
    one that does not leaves a folder alone in which no other ever did. Raises InputError where old jobs do not end.
    """
    folder = results / FOLDER
    if not submits and not folder.exists():
        return 0
    os.environ[TOKEN] = secrets.token_hex(16)
    os.environ.pop(JOB, None)
    write_text(folder / "controller", os.environ[TOKEN])
    names = sorted(file.name for file in (folder / "names").glob("*"))
    left = _jobs(names)
    if left:
        print(f"cancelling {len(left)} jobs of an earlier snakemake: {' '.join(left)}", file=sys.stderr, flush=True)
        subprocess.run(["scancel", *left], capture_output=True, check=False)
        end = time.monotonic() + PATIENCE
        while _jobs(names):
            if time.monotonic() > end:
                raise InputError(
                    f"{folder}: jobs {' '.join(_jobs(names))} of an earlier snakemake do not end; see `squeue`, and start"
                    " again when they are gone."
                )
            time.sleep(1)
    for name in names:
        (folder / "names" / name).unlink(missing_ok=True)
    return len(left)


def enter_job(results: Path) -> None:
    """What a job does first, in every process: says that it runs. InputError where its controller was replaced."""
    token, job = os.environ.get(TOKEN), os.environ.get("SLURM_JOB_ID")
    if token is None or job is None:
        return
    folder = results / FOLDER
    if os.environ.get(JOB) != job:  # the job's first process; Slurm gives its steps names of their own
        name = os.environ.get("SLURM_JOB_NAME", "")
        if re.fullmatch(r"[A-Za-z0-9_-]+", name):
            write_text(folder / "names" / name, "")
        os.environ[JOB] = job
    if (folder / "controller").read_text(encoding="utf-8") != token:
        raise InputError(f"{results}: another snakemake has taken over since job {job} was submitted; it does nothing.")


def _jobs(names: list[str]) -> list[str]:
    """The ids of the user's Slurm jobs with these names that have not ended; none where there is no squeue."""
    if not names:
        return []
    ours = ["--user", getpass.getuser(), "--name", ",".join(names)]
    try:
        answer = subprocess.run(
            ["squeue", "--noheader", "--format", "%A", *ours], capture_output=True, text=True, timeout=120
        )
    except FileNotFoundError:
        return []
    if answer.returncode != 0:
        raise InputError(
            f"squeue: failed ({answer.stderr.strip()}), so that jobs of an earlier snakemake cannot be told from none;"
            " start again when Slurm answers."
        )
    return sorted(set(answer.stdout.split()), key=int)
