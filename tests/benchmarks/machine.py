"""The rates that this machine reaches itself: what a share of its limit is a share of."""

from __future__ import annotations

import time
from typing import Any

import torch

from matryobench.provenance import environment

EXTRA_LIBRARIES = ("faiss-cpu", "mteb", "scikit-learn", "accelerate")


def rates(device: torch.device, quick: bool, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """matrix_gflops: product of two square matrices, 2 n^3 operations; memory_gb_per_second: a copy, read and written.

    Both are the best of several runs: the limit, not the habit.
    """
    cuda = device.type == "cuda"
    side = 256 if quick else 8192 if cuda else 2048
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty(side, side, device=device, dtype=dtype)
    product = _best(lambda: torch.mm(left, right, out=out), device, 3 if quick else 10)
    source = torch.ones((2**22 if quick else 2**28 if cuda else 2**26), device=device)
    target = torch.empty_like(source)
    copy = _best(lambda: target.copy_(source), device, 3 if quick else 10)
    return {
        "matrix_gflops": round(2 * side**3 / product / 1e9, 1),
        "memory_gb_per_second": round(2 * source.numel() * source.element_size() / copy / 1e9, 1),
    }


def encoder_operations(config: Any, lengths: list[int], layers: int) -> float:
    """Multiplications and additions of a forward pass over unpadded texts, without norms, softmax and embeddings.

    Per layer and token 2 x (4 H^2 + 2 H I) of the linear maps, and 4 H per pair of tokens in attention.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    tokens, pairs = sum(lengths), sum(length * length for length in lengths)
    return float(layers * (tokens * (8 * hidden * hidden + 4 * hidden * inner) + 4 * hidden * pairs))


def description() -> dict[str, Any]:
    """Commit, versions, processor and date of a benchmark, with the libraries that only benchmarks use."""
    import importlib.metadata

    found = environment()
    for name in EXTRA_LIBRARIES:
        try:
            found["libraries"][name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found["libraries"][name] = None
    return found


def _best(call: Any, device: torch.device, repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        _wait(device)
        started = time.perf_counter()
        call()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
