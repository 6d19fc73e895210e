"""How many CPU threads a job computes with: what the experiment says, whatever the machine or the scheduler gives.

Sums are split among threads, so their number can change the last bits of a result; Snakemake lowers OMP_NUM_THREADS to
the cores that it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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
