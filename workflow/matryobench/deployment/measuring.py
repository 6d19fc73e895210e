"""What a cell costs on this machine, measured with the project's own encoder and exact search.

An encoder's time, parameters and memory depend on the layer alone: a truncated encoder computes its full width, and what
it was trained by changes none of its shapes. Index bytes and search time depend on the dim alone. So a backbone is
measured once per layer and once per dim, and all runs of it share the numbers. Tokenising a text is not in its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from matryobench.deployment.costs import INDEX_BYTES
from matryobench.evaluation.search import TopK
from matryobench.models.folders import load_encoder

if TYPE_CHECKING:
    from matryobench.deployment.settings import Deployment
    from matryobench.models.encoder import Encoder, Pooling

WARM_UP = 10  # calls before the clock counts: caches, lazy set-up, a GPU's kernels
PASSES = 3  # over all texts, and searches of all documents; the median counts
SEARCHED = 64  # queries that are searched together
TOP_K = 10
PIECE = 65_536  # documents that a search takes at a time


@dataclass(frozen=True)
class Workload:
    """What is encoded in a task, and the grid to be measured: token sequences (tokens,) of single queries and of documents."""

    queries: Sequence[Tensor]
    documents: Sequence[Tensor]
    layers: Sequence[int]
    dims: Sequence[int]


def measure(
    folder: Path, pooling: Pooling, work: Mapping[str, Workload], settings: Deployment, seed: int, device: torch.device
) -> list[dict[str, Any]]:
    """One row per (task, layer, dim) of `work` with the columns of `costs.COLUMNS`, of the encoder in `folder`.

    `seed`: of the random unit vectors that are searched. Raises InputError as `load_encoder` does.
    """
    of_dim = search_costs(sorted({dim for one in work.values() for dim in one.dims}), settings.documents, seed, device)
    rows = []
    for layer in sorted({layer for one in work.values() for layer in one.layers}):
        encoder = load_encoder(folder, pooling, layer).to(device).eval()
        for task, one in work.items():
            if layer in one.layers:
                of_layer = encoder_costs(encoder, one.queries, one.documents, settings)
                rows += [{"task": task, "layer": layer, "dim": dim, **of_layer, **of_dim[dim]} for dim in one.dims]
    return rows


@torch.inference_mode()
def encoder_costs(
    encoder: Encoder, queries: Sequence[Tensor], documents: Sequence[Tensor], settings: Deployment
) -> dict[str, float | None]:
    """What encoding costs to the encoder's last layer: `costs.OF_LAYER`. Texts are token sequences (tokens,).

    Queries come one at a time, from the host and back to it; documents in batches, longest first, so that little of the
    work is padding.
    """
    device = next(encoder.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def encode(texts: Sequence[Tensor]) -> None:
        ids = nn.utils.rnn.pad_sequence(list(texts), batch_first=True, padding_value=encoder.pad_token_id)
        lengths = torch.tensor([len(text) for text in texts])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        encoder(ids.long().to(device), mask.to(device), [encoder.depth]).cpu()

    asked = [queries[number % len(queries)] for number in range(settings.repeats)]
    single = timed([partial(encode, [text]) for text in asked], WARM_UP, device)
    batches = list(_batches(documents, settings.batch_size))

    def encode_all() -> None:
        for batch in batches:
            encode(batch)

    encode(batches[0])
    whole = timed([encode_all] * PASSES, 0, device)
    parameters = list(encoder.parameters())
    cuda = device.type == "cuda"
    return {
        "query_ms": 1000 * float(np.median(single)),
        "query_ms_p95": 1000 * float(np.quantile(single, 0.95)),
        "query_tokens": float(np.mean([len(text) for text in asked])),
        "texts_per_second": len(documents) / float(np.median(whole)),
        "text_tokens": float(np.mean([len(text) for text in documents])),
        "parameters": sum(one.numel() for one in parameters),
        "encoder_bytes": sum(one.numel() * one.element_size() for one in parameters),
        "peak_device_memory_mb": torch.cuda.max_memory_allocated(device) / 2**20 if cuda else None,
    }


def search_costs(dims: Sequence[int], documents: int, seed: int, device: torch.device) -> dict[int, dict[str, float]]:
    """What an index of so many documents costs per dim: `costs.OF_DIM`.

    Searched are random unit vectors (an exact search looks at every number, whatever it is), by the search that also
    evaluates, with inner products.
    """
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(documents + SEARCHED, max(dims), generator=generator)
    found = {}
    for dim in dims:
        unit = nn.functional.normalize(vectors[:, :dim], dim=-1).to(device)
        queries, held = unit[:SEARCHED], unit[SEARCHED:]

        def search(queries: Tensor = queries, held: Tensor = held, dim: int = dim) -> None:
            best = TopK([(1, 1, dim)], {1: queries}, min(TOP_K, documents))
            for start in range(0, documents, PIECE):
                best.add({1: held[start : start + PIECE]}, start)
            best.result()

        seconds = timed([search] * PASSES, 1, device)
        costs: dict[str, float] = {name: size * dim for name, size in INDEX_BYTES.items()}
        found[dim] = {**costs, "searches_per_second": SEARCHED / float(np.median(seconds))}
    return found


def timed(calls: Sequence[Callable[[], None]], warm_up: int, device: torch.device) -> list[float]:
    """Seconds of every call, once the first `warm_up` of them were made without being counted; a GPU's work is waited for."""

    def seconds(call: Callable[[], None]) -> float:
        _wait_for(device)
        started = time.perf_counter()
        call()
        _wait_for(device)
        return time.perf_counter() - started

    for number in range(warm_up):
        calls[number % len(calls)]()
    return [seconds(call) for call in calls]


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _batches(texts: Sequence[Tensor], size: int) -> Iterator[Sequence[Tensor]]:
    ordered = sorted(texts, key=len, reverse=True)
    return (ordered[start : start + size] for start in range(0, len(ordered), size))
