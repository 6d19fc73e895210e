"""Several training processes on one machine: the verb that trains starts itself again, once for each, as torchrun does.

The launching process trains nothing. It waits, hands on SIGTERM and SIGINT, ends all processes when one fails, and says
the failed one's sentence. Started by something else that sets RANK (torchrun on several machines, accelerate), the verb
is one of the processes already.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from matryobench.errors import InputError
from matryobench.paths import ROOT

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

_LAUNCHER = "MATRYOBENCH_LAUNCHER"  # pid of the launching process, in those that it started
_PR_SET_PDEATHSIG = 1  # prctl(2): the signal that the kernel sends when the parent dies


def joined() -> bool:
    """Whether this is one of several training processes, and not the one that launches them."""
    return "RANK" in os.environ


@contextmanager
def process(count: int) -> Iterator[None]:
    """What one of `count` processes does is inside. Raises InputError where another number was started."""
    _join(count)
    yield
    _leave()


def report(sentence: str) -> None:
    """In a process that was launched: leaves an error's sentence to the launching process, and ends. Else does nothing.

    It ends at once, because clean-up may wait for the other processes, who wait for this one.
    """
    if _LAUNCHER not in os.environ:
        return
    from torch.distributed.elastic.multiprocessing.errors import ErrorHandler

    ErrorHandler().record_exception(InputError(sentence))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def launch(count: int) -> None:
    """Runs this very command line in `count` processes, which inherit the environment, and waits for them.

    Raises InputError where there are fewer cards than processes, and SystemExit where they failed: with code 2 for an
    InputError of a process, 128 + n for the signal n, else 1.
    """
    # torchrun's own lines on a failure; the sentence below says what they say. A user's LOGLEVEL stays.
    os.environ.setdefault("LOGLEVEL", "CRITICAL")
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if torch.cuda.is_available() and torch.cuda.device_count() < count:
        raise InputError(
            f"training.processes: {count} processes need a GPU each and this job has {torch.cuda.device_count()}; give it"
            " more or lower the number."
        )
    os.environ[_LAUNCHER] = str(os.getpid())
    with tempfile.TemporaryDirectory() as folder:  # of the processes' errors
        settings = LaunchConfig(  # those of torchrun --standalone
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=str(uuid.uuid4()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="127.0.0.1",  # the machine's own name need not resolve
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        command = [sys.executable, "-u", str(ROOT / "workflow" / "run.py"), *sys.argv[1:]]
        try:
            elastic_launch(settings, command[0])(*command[1:])  # type: ignore[no-untyped-call]
        except ChildFailedError as error:
            code, sentence = _told(error, count)
            print(f"matryobench: {sentence}", file=sys.stderr)
            raise SystemExit(code) from None
        except SignalException as error:
            raise SystemExit(128 + error.sigval) from None


def _told(error: ChildFailedError, count: int) -> tuple[int, str]:
    """Exit code and sentence: those of a process's InputError, else what became of the first one that failed."""
    for failure in error.failures.values():
        message = failure.error_file_data.get("message", {}) if failure.error_file_data else {}
        kind, _, sentence = str(message.get("message", "") if isinstance(message, dict) else message).partition(": ")
        if kind == InputError.__name__:
            return 2, sentence
    rank, failure = error.get_first_failure()
    number = failure.exitcode
    end = f"was ended by {signal.Signals(-number).name}" if number < 0 else f"ended with exit code {number}"
    return 1, f"training process {rank + 1} of {count} {end}; see what it wrote above, and run the job again."


def _join(count: int) -> None:
    """Makes sure that this is one of `count` processes, and that it ends when the one that launched it is killed."""
    told = os.environ.get("WORLD_SIZE", "1")
    if told != str(count):
        raise InputError(
            f"training.processes: it is {count} and {told} were started; start as many as the config says, since the number"
            " belongs to the run."
        )
    if launcher := os.environ.get(_LAUNCHER):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(launcher):  # it died before that
            os._exit(1)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
