"""One writer at a time: locks that the kernel drops when their holder dies, and who holds them.

A lock is a file that stays; beside it, as <lock>.json, its holder says who it is.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.files import partial_name, remove, write_json

if TYPE_CHECKING:
    from filelock import FileLock


class Busy(Exception):
    """Another process holds the lock; the message is a sentence that says which."""


def hold_experiment(root: Path) -> FileLock:
    """Takes the lock of a results folder for as long as the object that is returned lives.

    Raises Busy where another process has it, and OSError where the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    root.mkdir(parents=True, exist_ok=True)
    path = root / ".lock"
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise Busy(
            f"{root}: another snakemake works on this results folder ({_holder(path)}); wait until it has ended, or end"
            " it, or give this experiment a results folder of its own (`results:` in the config)."
        ) from None
    _sign(path)
    return lock


def same_job(settings: Any, *inputs: Path | None) -> str:
    """A hash of what determines a job's results: settings (plain JSON values), and size and time of its input files."""
    from matryobench.plan import digest

    stats = [path.stat() if path is not None and path.is_file() else None for path in inputs]
    return digest([settings, [[stat.st_size, stat.st_mtime_ns] if stat else None for stat in stats]])


@contextmanager
def writing(out: Path, job: str = "", results: Sequence[Path] = ()) -> Iterator[bool]:
    """Holds the lock of the folder that a job writes; yields whether its work is already done.

    A job that outlived the snakemake that started it may still be writing there: it is waited for, with a message. If
    it did the same `job` (see `same_job`) to the end and all of `results` are there, there is nothing left to do.
    What dead writers left half-written in the folder is removed.
    """
    with _alone(out / ".lock", out) as waited:
        before = _signature(out / ".lock")
        done = waited and job != "" and before.get("finished") == job and all(result.exists() for result in results)
        if done:
            print(f"{out}: that process has finished this job", file=sys.stderr, flush=True)
        else:
            for left in sorted(out.rglob(".*.partial")):
                if partial_name(left.name) is not None:
                    remove(left)
        _sign(out / ".lock")
        yield done
        with suppress(OSError):  # only a note, and the results are written
            _sign(out / ".lock", finished=job)


@contextmanager
def writing_file(out: Path) -> Iterator[None]:
    """Holds the lock of the file that a job writes, waiting as `writing` does."""
    path = out.with_name(f".{out.name}.lock")
    with _alone(path, out):
        _sign(path)
        yield


@contextmanager
def _alone(path: Path, out: Path) -> Iterator[bool]:
    """Holds a lock; yields whether another process had to be waited for."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock, waited = FileLock(path), False
    try:
        lock.acquire(blocking=False)
    except Timeout:
        waited = True
        print(f"{out}: waiting for the job that still writes there ({_holder(path)})", file=sys.stderr, flush=True)
        lock.acquire(poll_interval=0.5)
    try:
        yield waited
    finally:
        lock.release()


def _sign(lock: Path, **facts: Any) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(_beside(lock), {"pid": os.getpid(), "host": platform.node(), "since": since, **facts})


def _signature(lock: Path) -> dict[str, Any]:
    try:
        value = json.loads(_beside(lock).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _holder(lock: Path) -> str:
    found = _signature(lock)
    return f"process {found.get('pid', 'unknown')} on {found.get('host', 'unknown')}, since {found.get('since', 'unknown')}"


def _beside(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.json")
