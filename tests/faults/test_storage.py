"""Full disks, read-only folders, unreadable files: one sentence, exit code 2, old files whole, and it goes on afterwards."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from small_experiment import command, environment, snakemake, write_config
from tokenizers import Tokenizer, models

from matryobench.files import WriteError, appending, atomic_path, partial_path, remove_dead, write_text
from matryobench.paths import ROOT
from matryobench.tensors import write_tensors
from matryobench.training import checkpoints
from matryobench.training.checkpoints import Checkpoint

VERB = [sys.executable, str(ROOT / "workflow" / "run.py")]
# Root may do anything; without these capabilities the permissions of files hold for it too.
BOUND = [] if os.geteuid() else ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@contextmanager
def files_of_at_most(count: int) -> Iterator[None]:
    """No file can grow beyond so many bytes, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 700 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "none", str(disk)], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("a tmpfs can only be mounted as root with that capability")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def by_tensors(path: Path) -> None:
    write_tensors({"x": torch.zeros(30_000)}, {}, path)


def by_parquet(path: Path) -> None:
    import pandas as pd

    with atomic_path(path) as partial:
        pd.DataFrame({"x": torch.rand(30_000).numpy()}).to_parquet(partial)


def by_tokenizers(path: Path) -> None:
    with atomic_path(path) as partial:
        Tokenizer(models.WordLevel({f"w{i}": i for i in range(5000)}, unk_token="w0")).save(str(partial))


@pytest.mark.parametrize("write", [by_tensors, by_parquet, by_tokenizers, lambda path: write_text(path, "x" * 90_000)])
def test_whichever_library_writes_the_old_file_stays_and_the_error_names_the_new_one(tmp_path: Path, write) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with files_of_at_most(50_000), pytest.raises(WriteError) as caught:
        write(target)
    assert caught.value.filename == str(target)
    assert caught.value.written <= 50_000
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    write(target)
    assert target.stat().st_size > 50_000


def test_an_input_that_cannot_be_read_is_not_called_the_output(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as caught, atomic_path(tmp_path / "out") as partial:
        shutil.copyfile(tmp_path, partial)
    assert caught.value.filename == str(tmp_path)


def test_lines_that_do_not_fit_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    with files_of_at_most(1000), pytest.raises(WriteError, match="telemetry"), appending(path) as stream:
        stream.write("x" * 2000)
    with pytest.raises(ValueError, match="mine"), appending(path):
        raise ValueError("mine")


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    weights = {"w": torch.ones(20_000)}

    def checkpoint(step: int) -> Checkpoint:
        return Checkpoint(step, weights, {0: {"exp_avg": torch.zeros(40_000)}}, None)

    (tmp_path / "telemetry.jsonl").write_text("".join(f'{{"step": {step}}}\n' for step in range(10)))
    checkpoints.write(tmp_path, "run", checkpoint(5))
    with files_of_at_most(100_000), pytest.raises(WriteError, match="checkpoint-000000010"):
        checkpoints.write(tmp_path, "run", checkpoint(10))
    assert [path.name for path in tmp_path.glob("*checkpoint*")] == ["checkpoint-000000005"]
    found = checkpoints.read(tmp_path, "run")
    assert found is not None and found.step == 5
    assert torch.equal(found.optimizer[0]["exp_avg"], torch.zeros(40_000))
    checkpoints.write(tmp_path, "run", checkpoint(10))
    assert [path.name for path in tmp_path.glob("*checkpoint*")] == ["checkpoint-000000010"]


def test_what_dead_processes_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    own = partial_path(tmp_path / "table.csv")
    dead = own.with_name(own.name.replace(f".{os.getpid()}.", f".{gone.pid}."))
    alive = own.with_name(own.name.replace(f".{os.getpid()}.", f".{os.getppid()}."))
    elsewhere = tmp_path / f".table.csv.another-machine.{gone.pid}.partial"
    other = dead.with_name(dead.name.replace("table", "cells"))
    for path in (dead, alive, elsewhere, other):
        path.touch()
    write_text(tmp_path / "table.csv", "x")
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", alive.name, elsewhere.name, other.name}
    remove_dead(tmp_path, "")
    assert not other.exists()


def test_a_full_disk_stops_a_verb_with_one_sentence_and_after_making_space_it_ends(small_disk: Path) -> None:
    write_config(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (630 << 10))
    out = small_disk / "data" / "demo-text.parquet"
    fetch = [*VERB, "fetch", str(small_disk / "demo.yaml"), "--dataset", "demo-text", "--out", str(out)]
    result = subprocess.run(fetch, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith(f"matryobench: {out}: the disk is full (it has more than the ")
    assert " kB are free); make space, then run the same command again" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(out.parent.iterdir())
    ballast.unlink()
    assert subprocess.run(fetch, capture_output=True).returncode == 0
    assert [path.name for path in out.parent.iterdir()] == ["demo-text.parquet"]


def test_a_full_disk_stops_the_workflow_and_the_same_command_goes_on(small_disk: Path) -> None:
    folder = small_disk.parent  # .snakemake is there, the results are on the small disk
    write_config(folder, results=str(small_disk / "results"))
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (600 << 10))
    tables = small_disk / "results" / "data"
    wanted = [str(tables / f"{name}.parquet") for name in ("demo-sts-roles", "demo-text")]
    result = snakemake(folder, "--keep-going", "--", *wanted)
    assert result.returncode == 1
    said = result.stdout + result.stderr
    assert "the disk is full" in said
    assert [path.name for path in tables.iterdir() if path.name != "demo-sts-roles.parquet"] == []
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    result = snakemake(folder, "--", *wanted)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {str(path) for path in tables.iterdir()} == set(wanted)


@pytest.mark.skipif(bool(BOUND) and shutil.which("setpriv") is None, reason="root without setpriv may read anything")
def test_folders_and_files_without_permission_are_named(tmp_path: Path) -> None:
    write_config(tmp_path)
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    fetch = [*BOUND, *VERB, "fetch", str(tmp_path / "demo.yaml"), "--dataset", "demo-sts-roles", "--out"]
    result = subprocess.run([*fetch, str(locked / "a.parquet")], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith(f"matryobench: {locked}/a.parquet: permission denied; give yourself")
    assert not list(locked.iterdir())
    write_config(tmp_path, results=str(locked))
    result = subprocess.run(
        [*BOUND, *command(tmp_path, "--", str(locked / "data" / "demo-sts-roles.parquet"))],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert result.returncode == 2
    said = [line for line in result.stderr.splitlines() if line.startswith("matryobench: ")]
    assert len(said) == 1 and said[0].startswith(f"matryobench: {locked}/.lock: permission denied")
    assert "Traceback" not in result.stderr


def test_a_read_only_disk_is_named(small_disk: Path, tmp_path: Path) -> None:
    write_config(tmp_path)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    fetch = [*VERB, "fetch", str(tmp_path / "demo.yaml"), "--dataset", "demo-sts-roles", "--out"]
    result = subprocess.run([*fetch, str(small_disk / "a.parquet")], capture_output=True, text=True)
    assert result.returncode == 2
    assert "a.parquet: the file system is read-only; mount it writable" in result.stderr
    assert len(result.stderr.splitlines()) == 1
