"""Fake vectors through the real search, merge, metrics and tables, with the time and memory of each stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matryobench.data.doc_ids import StoredIds
from matryobench.errors import InputError
from matryobench.evaluation.metrics import METRICS, write_trec_run
from matryobench.evaluation.rankings import Rankings, merge, read_rankings, write_rankings
from matryobench.evaluation.results import write_retrieval_items
from matryobench.evaluation.retrieval import evaluate_rankings
from matryobench.evaluation.search import TopK
from matryobench.models.folders import device_of
from matryobench.provenance import peak_memory_mb
from matryobench.scale.files import doc_id, write_doc_ids
from matryobench.scale.settings import Simulation
from matryobench.scale.vectors import CHUNK, EXCLUDED, LOST, RELEVANT, FakeVectors

NAME = "simulated"


class Stages:
    """Seconds by the clock and of the processor, per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Counts what happens inside for the stage."""
        began, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + time.process_time() - cpu


def simulate(simulation: Simulation, shard: int | None, folder: Path) -> dict[str, Any]:
    """Ranks one shard, or everything: shards that are in `folder` are taken, the others ranked; then all is evaluated.

    Returns the settings, seconds per stage, documents per second of the search alone, memory, bytes per file, and the
    metrics with what they must be. Raises InputError for a shard that does not exist or is of another simulation, and
    where a ranking is not the expected one.
    """
    if shard is not None and not 0 <= shard < simulation.shards:
        raise InputError(f"--shard {shard}: there are --shards {simulation.shards}; name one from 0 on.")
    stages, memory = Stages(), {"start": peak_memory_mb()}
    with stages.of("generate"):
        vectors = simulation.vectors()
        queries = {layer: vectors.query_vectors(layer) for layer in range(1, simulation.layers + 1)}
    record: dict[str, Any] = {**asdict(simulation), "shard": shard}
    parts, searched = [], 0
    for number in range(simulation.shards) if shard is None else [shard]:
        start, stop = simulation.shard(number)
        path = folder / "shards" / f"{number}-of-{simulation.shards}.safetensors"
        if shard is None and path.exists():
            with stages.of("read"):
                parts.append(_stored(simulation, path, number))
            continue
        parts.append(_search(simulation, vectors, queries, start, stop, stages))
        searched += stop - start
        if shard is not None:
            with stages.of("write"):
                write_rankings(parts[0], path, _identity(simulation, number))
    memory["search"] = peak_memory_mb()
    if shard is None:
        with stages.of("merge"):
            rankings = merge(parts) if len(parts) > 1 else parts[0]
            del parts
        memory["merge"] = peak_memory_mb()
        record["metrics"] = _evaluate(simulation, vectors, queries, rankings, folder, stages)
        memory["evaluate"] = peak_memory_mb()
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    search_seconds = (stages.seconds.get("search", 0.0), stages.cpu_seconds.get("search", 0.0))
    return {
        **record,
        "documents_searched": searched,
        "documents_per_second": round(searched / search_seconds[0]) if searched else None,
        "documents_per_cpu_second": round(searched / search_seconds[1]) if searched else None,
        "seconds": {name: round(value, 3) for name, value in stages.seconds.items()},
        "cpu_seconds": {name: round(value, 3) for name, value in stages.cpu_seconds.items()},
        "peak_memory_mb": memory,
        "bytes": {path.relative_to(folder).as_posix(): path.stat().st_size for path in written},
        "threads": torch.get_num_threads(),
        "device": str(device_of()),
    }


def _search(
    simulation: Simulation,
    vectors: FakeVectors,
    queries: Mapping[int, Tensor],
    start: int,
    stop: int,
    stages: Stages,
) -> Rankings:
    """The rankings of documents start .. stop, made piece by piece and dropped."""
    device = device_of()
    with stages.of("search"):
        on_device = {layer: values.to(device) for layer, values in queries.items()}
        excluded = torch.from_numpy(vectors.numbers(EXCLUDED))
        search = TopK(simulation.cells, on_device, simulation.top_k, "dot", excluded=excluded, place=NAME)
    for first in range(start, stop, CHUNK):
        with stages.of("generate"):
            last = min(first + CHUNK, stop)
            piece = {layer: vectors.piece(layer, first, last, values) for layer, values in queries.items()}
        with stages.of("search"):
            search.add(piece, first)
    with stages.of("search"):
        return search.result()


def _evaluate(
    simulation: Simulation,
    vectors: FakeVectors,
    queries: Mapping[int, Tensor],
    rankings: Rankings,
    folder: Path,
    stages: Stages,
) -> dict[str, dict[str, float]]:
    """Scores the rankings as an evaluation does and writes its files; per metric its mean over all cells, got and due."""
    documents, names = simulation.documents, [f"q{number}" for number in range(simulation.queries)]
    with stages.of("ids"):
        write_doc_ids(documents, folder / "doc_ids.parquet")
    relevant = zip(names, vectors.numbers(RELEVANT).tolist(), vectors.numbers(LOST).tolist(), strict=True)
    qrels = {name: {doc_id(number, documents): 1 for number in numbers} for name, *numbers in relevant}
    ids = StoredIds(folder / "doc_ids.parquet")
    with stages.of("evaluate"):
        scores = evaluate_rankings(rankings, names, ids, qrels, NAME)
    with stages.of("write"):
        write_rankings(rankings, folder / "rankings.safetensors", _identity(simulation, None))
        write_retrieval_items([scores], NAME, folder / "items.parquet")
        write_trec_run(rankings, simulation.cells[-1], names, ids, folder / "run.trec.gz", NAME)
    with stages.of("check"):
        due = _expected(simulation, vectors, queries)
        _check(simulation, vectors, rankings, due)
        expected = _metrics(due)
        for metric in METRICS:
            if not np.allclose(scores.values[metric], expected[metric], rtol=0, atol=1e-6):
                raise InputError(f"{NAME}: {metric} is not what the planted documents give; the metrics are at fault.")
    return {
        metric: {"mean": float(scores.values[metric].mean()), "expected": float(expected[metric].mean())}
        for metric in METRICS
    }


def _expected(simulation: Simulation, vectors: FakeVectors, queries: Mapping[int, Tensor]) -> NDArray[np.int64]:
    """(cells, nq): the rank of every query's relevant document."""
    layers = [vectors.expected_ranks(layer, list(simulation.dims), values) for layer, values in queries.items()]
    return np.concatenate(layers)


def _check(simulation: Simulation, vectors: FakeVectors, rankings: Rankings, due: NDArray[np.int64]) -> None:
    """Raises InputError where a relevant document has another rank than it must have."""
    own = torch.from_numpy(vectors.numbers(RELEVANT))
    for cell, documents, ranks in zip(rankings.cells, rankings.documents, torch.from_numpy(due), strict=True):
        found = documents == own[:, None]
        got = torch.where(found.any(dim=1), found.int().argmax(dim=1) + 1, 0)
        wrong = (got != torch.where(ranks <= simulation.top_k, ranks, 0)).nonzero()
        if len(wrong):
            query = int(wrong[0])
            raise InputError(
                f"{NAME}: at layer {cell[1]}, dim {cell[2]} the relevant document of query {query} has rank {got[query]}"
                f" (0: none) and must have {ranks[query]}; the search, or this machine's float32, is at fault."
            )


def _metrics(ranks: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The metrics of a query with two relevant documents, one at `ranks`, the other never found."""
    ideal = 1 + 1 / np.log2(3)
    return {
        "ndcg@10": np.where(ranks <= 10, 1 / np.log2(ranks + 1) / ideal, 0),
        "mrr@10": np.where(ranks <= 10, 1 / ranks, 0),
        "recall@100": np.where(ranks <= 100, 0.5, 0),
    }


def _identity(simulation: Simulation, number: int | None) -> dict[str, Any]:
    settings = asdict(simulation)
    return {"simulation": {**settings, "dims": list(simulation.dims)}, "shard": number}


def _stored(simulation: Simulation, path: Path, number: int) -> Rankings:
    rankings, meta = read_rankings(path)
    if meta != _identity(simulation, number):
        raise InputError(f"{path}: ranked with other settings; remove it, or name another --out.")
    return rankings
