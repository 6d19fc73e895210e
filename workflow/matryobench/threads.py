"""How many CPU threads a job computes with: what the experiment says, whatever the machine or the scheduler gives.

Sums are split among threads, so their number can change the last bits of a result; Snakemake lowers OMP_NUM_THREADS to
the cores that it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Computes with `count` threads in torch and in the libraries of numpy and scipy (BLAS, OpenMP)."""
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401 - its BLAS is another one than numpy's; only libraries that are loaded are set
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(limits=count):
        torch.set_num_threads(count)  # torch's MKL is linked into it, where threadpoolctl does not see it
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def alone(count: int) -> Iterator[None]:
    """In the block torch computes with one thread in each of the `count` that `side_by_side` starts.

    Nothing in between may use more: OpenMP's threads stay awake for a while and take a core from the others.
    """
    import torch

    if count == 1:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(work: Sequence[Callable[[], Result]], count: int) -> list[Result]:
    """Does independent pieces of work without gradients in `count` threads, to be called in a block of `alone`.

    Faster than one after another with all threads on each: no operation waits for its slowest part, and what Python and
    numpy do in between is shared as well. The results are in the order of the work; the first error is raised.
    """
    import torch

    if count == 1 or len(work) < 2:
        return [one() for one in work]
    mode: Callable[[], Any] = (
        torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad
    )  # of a thread
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(partial(_in_mode, mode), work))


def _in_mode(mode: Callable[[], Any], work: Callable[[], Result]) -> Result:
    with mode():
        return work()
