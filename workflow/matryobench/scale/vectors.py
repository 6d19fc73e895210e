"""Embeddings without a model: any piece of a corpus of any size, made when it is asked for, with known best documents.

All coordinates are whole numbers, so small that a float32 product of two vectors is exact in whatever order it is summed
(below 2^24). A ranking can thus be checked to the last tie, and shards must give the rankings of one pass bit for bit.

A vector follows from (seed, layer, its number) alone: the generator is Philox, which counts instead of keeping a state
(Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011; numpy.random.Philox).

Among the documents each query has PLANTED of its own, multiples of the signs of its coordinates: one that is excluded, as
a query's own text is; FOES that nobody judged, above or below the relevant one depending on the layer; a copy of the
relevant document with a lower number, which comes first at an equal score; the relevant document; and a relevant one that
points the other way and is never found.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 4096
"""Documents that are made at once."""
FOES = 3
PLANTED = FOES + 4
EXCLUDED, RELEVANT, LOST = 0, FOES + 2, FOES + 3
"""Places among a query's planted documents; the last two are relevant."""
MAX_WIDTH = 2048
"""Wider vectors have products of 2^24 and more: 127 x 64 x 2,048 is just below."""

_ABOVE, _OWN, _BELOW = 127, 100, 80  # others have coordinates of at most 64, so that none of them comes between
_DOCUMENTS, _QUERIES = 0, 1


@dataclass(frozen=True)
class FakeVectors:
    """Documents and queries at every layer, width coordinates each. At least PLANTED documents per query."""

    documents: int
    queries: int
    width: int
    seed: int

    def query_vectors(self, layer: int) -> Tensor:
        """(queries, width) float32: odd numbers from -63 to 63."""
        return torch.from_numpy(self._draws(layer, _QUERIES, 0, self.queries) | 1).float()

    def piece(self, layer: int, start: int, stop: int, query_vectors: Tensor) -> Tensor:
        """(stop - start, width) float32: documents start .. stop of one chunk; `query_vectors` are the layer's."""
        chunk = start // CHUNK
        if not chunk * CHUNK <= start < stop <= min(self.documents, (chunk + 1) * CHUNK):
            raise ValueError(f"documents {start} to {stop} are not in one chunk of {CHUNK}")
        values = torch.from_numpy(self._draws(layer, _DOCUMENTS, chunk, stop - chunk * CHUNK))
        piece = values[start - chunk * CHUNK :].float()
        first = -(-start // self._stride)
        planted = np.arange(first, min(-(-stop // self._stride), self.queries * PLANTED))
        if len(planted):
            piece[planted * self._stride - start] = self._planted(layer, planted, query_vectors)
        return piece

    def numbers(self, which: int) -> NDArray[np.int64]:
        """(queries,) numbers of one planted document of every query, `which` from 0 to PLANTED - 1."""
        return (np.arange(self.queries) * PLANTED + which) * self._stride

    def expected_ranks(self, layer: int, dims: list[int], query_vectors: Tensor) -> NDArray[np.int64]:
        """(dims, queries): the rank, from 1, of each query's relevant document among all planted ones; dims ascend.

        No other document reaches it. At narrow widths queries share signs and so each other's planted documents.
        """
        every = self._planted(layer, np.arange(self.queries * PLANTED), query_vectors)
        numbers = torch.arange(len(every))
        ranks = np.empty((len(dims), self.queries), dtype=np.int64)
        for start in range(0, self.queries, 256):
            asked = query_vectors[start : start + 256]
            first = (torch.arange(start, start + len(asked)) * PLANTED)[:, None]
            own = first + RELEVANT
            scores = torch.zeros(len(asked), len(every))
            scores.scatter_(1, first + EXCLUDED, float("-inf"))
            for row, (begin, end) in enumerate(pairwise([0, *dims])):
                scores.addmm_(asked[:, begin:end], every[:, begin:end].T)
                reached = scores.gather(1, own)
                before = (scores > reached) | ((scores == reached) & (numbers < own))
                ranks[row, start : start + len(asked)] = 1 + before.sum(dim=1).numpy()
        return ranks

    @property
    def _stride(self) -> int:
        return self.documents // (self.queries * PLANTED)

    def _planted(self, layer: int, numbers: NDArray[np.int64], query_vectors: Tensor) -> Tensor:
        """(n, width) of planted documents, counted query after query."""
        query, which = numbers // PLANTED, numbers % PLANTED
        foe = np.where(which <= (query + layer) % (FOES + 1), _ABOVE, _BELOW)
        strength = np.where(which <= FOES, foe, np.where(which == LOST, -_ABOVE, _OWN))
        return torch.from_numpy(strength)[:, None] * query_vectors[torch.from_numpy(query)].sign()

    def _draws(self, layer: int, kind: int, chunk: int, rows: int) -> NDArray[np.int8]:
        """(rows, width) from -64 to 63: eight coordinates are the bytes of one number of 64 bits."""
        counter = np.array([0, chunk, kind, 0], dtype=np.uint64)
        key = np.array([self.seed, layer], dtype=np.uint64)
        bits = np.random.Philox(counter=counter, key=key).random_raw(-(-rows * self.width // 8))
        return (bits.view(np.int8)[: rows * self.width] >> 1).reshape(rows, self.width)
