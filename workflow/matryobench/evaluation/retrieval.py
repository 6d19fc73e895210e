"""Retrieval over the whole grid: a corpus encoded, scored and dropped piece by piece, all cells in one pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matryobench.data.doc_ids import DocumentIds
from matryobench.data.tokens import Tokens
from matryobench.errors import InputError
from matryobench.evaluation.metrics import METRICS, Qrels, per_query
from matryobench.evaluation.rankings import Rankings, SearchCell
from matryobench.evaluation.search import Similarity, TopK
from matryobench.models.encoder import Encoder, default_tokens_per_forward
from matryobench.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from matryobench.evaluation.results import Score

PIECE = 4096
"""Documents that are encoded at once: enough to sort by length, few enough to hold at all layers."""


@dataclass(frozen=True)
class SetScores:
    """One test set on every cell: per metric the values (cells, nq) float64 of its queries."""

    dataset: str
    cells: tuple[SearchCell, ...]
    query_ids: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]
    task = "retrieval"

    def means(self) -> dict[str, NDArray[np.float64]]:
        """Per metric the mean over queries, (cells,)."""
        return {metric: values.mean(axis=1) for metric, values in self.values.items()}

    def scores(self) -> Iterator[Score]:
        """metric, query layer, layer, dim, value and number of queries of every cell."""
        for metric, means in self.means().items():
            for (query_layer, layer, dim), value in zip(self.cells, means, strict=True):
                yield metric, query_layer, layer, dim, float(value), len(self.query_ids)


@torch.inference_mode()
def search_corpus(
    encoder: Encoder,
    query_tokens: Sequence[Tensor],
    corpus: Tokens,
    cells: Sequence[SearchCell],
    k: int,
    similarity: Similarity,
    *,
    excluded: Tensor | None = None,
    start: int = 0,
    stop: int | None = None,
    checkpoint: Path | None = None,
    identity: str = "",
    documents_per_step: int = 5 * PIECE,
    progress: bool = True,
    place: str = "search",
) -> Rankings:
    """The best k of the documents start .. stop (all) for every query and cell, from one encoding of each text.

    query_tokens: nq x (tokens,); corpus: row i is document i. `excluded` as in TopK. After every step of
    `documents_per_step` documents the state goes to `checkpoint`, and a search with the same settings and `identity`
    (model, texts: all that its embeddings follow from) goes on from it, to the same rankings bit for bit; any other
    state there is replaced. The file is left for the caller to remove.
    Raises InputError for an empty range of documents and for scores that are not finite; `place` names the search.
    """
    stop = len(corpus.rows) if stop is None else stop
    if not 0 <= start < stop <= len(corpus.rows) or not query_tokens:
        raise InputError(
            f"{place}: documents {start} to {stop} of {len(corpus.rows)} with {len(query_tokens)} queries leave nothing"
            " to search; name a range inside the corpus."
        )
    encoder.eval()
    budget = default_tokens_per_forward(next(encoder.parameters()).device)
    query_layers = sorted({query for query, _, _ in cells})
    layers = sorted({layer for _, layer, _ in cells})
    queries = encoder.embed(query_tokens, query_layers, budget)
    search = TopK(cells, dict(zip(query_layers, queries, strict=True)), k, similarity, excluded=excluded, place=place)
    settings = {
        "identity": identity, "cells": [list(cell) for cell in cells], "k": k, "similarity": similarity,
        "queries": len(query_tokens), "start": start, "stop": stop, "documents_per_step": documents_per_step,
    }  # fmt: skip
    begin = _resume(search, checkpoint, settings)
    with _bar(place, stop - start, begin - start, progress) as advance:
        for step in range(begin, stop, documents_per_step):
            end = min(step + documents_per_step, stop)
            for first in range(step, end, PIECE):
                numbers = corpus.rows[first : min(first + PIECE, end), 0].tolist()
                pooled = encoder.embed([corpus.text(number) for number in numbers], layers, budget)
                search.add(dict(zip(layers, pooled, strict=True)), first)
                advance(len(numbers))
            if checkpoint is not None:
                write_tensors({"keys": search.keys()}, {**settings, "next": end}, checkpoint)
    return search.result()


def evaluate_rankings(
    rankings: Rankings, query_ids: Sequence[str], doc_ids: DocumentIds, qrels: Qrels, dataset: str
) -> SetScores:
    """Metrics of every cell and query; see metrics.per_query for rules and errors."""
    values = per_query(rankings.documents.numpy(), query_ids, doc_ids, qrels, dataset)
    return SetScores(dataset, rankings.cells, tuple(query_ids), {metric: values[metric] for metric in METRICS})


def _resume(search: TopK, checkpoint: Path | None, settings: dict[str, Any]) -> int:
    """The document to go on from, with the state before it taken up where there is one of this very search."""
    if checkpoint is not None and checkpoint.exists():
        try:
            tensors, meta = read_tensors(checkpoint, ("keys",), "unfinished search", "search")
        except InputError:  # damaged: it only costs time
            return int(settings["start"])
        following = meta.pop("next", None)
        if meta == settings:
            search.restore(tensors["keys"])
            return int(following)
    return int(settings["start"])


@contextmanager
def _bar(title: str, total: int, done: int, shown: bool) -> Iterator[Any]:
    """A function that takes in how many documents were done, on a terminal with a progress bar."""
    if not shown or not sys.stderr.isatty():
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(total=total, initial=done, desc=title, unit="doc") as bar:
        yield bar.update
