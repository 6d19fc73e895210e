"""Exact top-k search of a whole grid in one pass over the documents.

For each pair of layers the scores at widths d_1 < ... < d_k come by prefix accumulation: those of d_j are those of
d_(j-1) plus the product of one block of coordinates. Every cell keeps, per query, the k-th best score so far as a
threshold; one comparison over a tile of scores finds the few that can still enter. Documents come in pieces of any
size and order and are not kept, so memory depends on queries, cells and k and not on the corpus.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from matryobench.errors import InputError
from matryobench.evaluation.rankings import MAX_DOCUMENTS, Rankings, SearchCell, from_keys
from matryobench.evaluation.running import RunningBest
from matryobench.threads import alone, side_by_side

Similarity = Literal["dot", "cosine"]


@dataclass(frozen=True)
class TileSize:
    """Queries (at most) and documents that are scored together; `documents` is a power of two of at least 64.

    Every tile of a search has the same shape, the last ones padded: a matrix product rounds by its shape, so that
    equal documents have equal scores wherever they stand.
    """

    queries: int
    documents: int

    def __post_init__(self) -> None:
        if self.documents < 64 or self.documents & (self.documents - 1):
            raise ValueError(f"a tile of {self.documents} documents: give a power of two of at least 64")


def default_tile(device: torch.device, queries: int) -> TileSize:
    """On CPU a tile for every thread, small enough to stay in its cache; on a GPU large enough to fill it."""
    if device.type != "cpu":
        return TileSize(8192, 4096)
    rows = min(512, max(32, math.ceil(queries / torch.get_num_threads())))
    return TileSize(rows, 1024 if rows > 256 else 2048)


class TopK:
    """The best k documents of every cell (query layer, document layer, dim) and query, while documents come in.

    `queries`: query embeddings (nq, H) per query layer. A score is the inner product of the first d coordinates, or
    their cosine, in float32 on the embeddings' device, never in TF32. Equal scores: the lower document number first,
    also at the k-th place. `excluded`: (nq,) int64, the document that must not appear for a query, -1 for none.
    `place` names the search in errors. Holds 2 k int64 per cell and query.
    """

    def __init__(
        self,
        cells: Sequence[SearchCell],
        queries: Mapping[int, Tensor],
        k: int,
        similarity: Similarity = "dot",
        *,
        excluded: Tensor | None = None,
        place: str = "search",
        tile: TileSize | None = None,
    ) -> None:
        some = queries[cells[0][0]]
        self.cells, self.k, self.similarity, self.place = tuple(cells), k, similarity, place
        self._device, self._count = some.device, len(some)
        tile = tile or default_tile(self._device, self._count)
        self._columns = tile.documents
        tiles = max(1, math.ceil(self._count / tile.queries))
        self._rows = math.ceil(self._count / tiles / 8) * 8  # of one size, so that little of the work is padding
        self._starts = range(0, self._count, self._rows)
        padding = self._rows * len(self._starts) - self._count
        self._queries = {
            layer: nn.functional.pad(queries[layer].float(), (0, 0, 0, padding))
            for layer in {cell[0] for cell in cells}
        }
        if excluded is None:
            excluded = torch.full((self._count,), -1)
        self._excluded = excluded.to(self._device)
        self._pairs: dict[tuple[int, int], list[int]] = {}  # pair of layers -> its cells' numbers, narrowest first
        for number in sorted(range(len(cells)), key=lambda number: cells[number][2]):
            self._pairs.setdefault(cells[number][:2], []).append(number)
        self._running = {
            pair: [
                RunningBest(k, len(numbers), min(self._rows, self._count - start), self._rows, self._device)
                for start in self._starts
            ]
            for pair, numbers in self._pairs.items()
        }
        threads = torch.get_num_threads() if self._device.type == "cpu" else 1
        self._threads = min(threads, len(self._pairs) * len(self._starts))

    def keys(self) -> Tensor:
        """(cells, nq, k) int64 on the CPU: all that the documents so far have left; `restore` takes it up."""
        keys = torch.empty(len(self.cells), self._count, self.k, dtype=torch.int64)
        for pair, tiles in self._running.items():
            keys[self._pairs[pair]] = torch.cat([tile.best() for tile in tiles], dim=1).cpu()
        return keys

    def restore(self, keys: Tensor) -> None:
        """Goes on from the `keys` of an equal search."""
        for pair, tiles in self._running.items():
            for tile, part in zip(tiles, torch.split(keys[self._pairs[pair]], self._rows, dim=1), strict=True):
                tile.restore(part.to(self._device))

    def result(self) -> Rankings:
        """The rankings of the documents so far, padded where these are fewer than k."""
        return from_keys(self.cells, self.keys())

    @torch.no_grad()
    def add(self, documents: Mapping[int, Tensor], first: int) -> None:
        """Scores documents first .. first + n, given as embeddings (n, H) per document layer.

        Raises InputError where a score is not a finite number: a damaged model, or under cosine a zero vector.
        """
        work = []
        with _exact_float32(), alone(self._threads):
            for (query_layer, layer), running in self._running.items():
                piece = documents[layer].to(self._device, torch.float32)
                if first < 0 or first + len(piece) > MAX_DOCUMENTS:
                    raise InputError(f"{self.place}: more than {MAX_DOCUMENTS} documents; search parts of the corpus.")
                cells = [self.cells[number] for number in self._pairs[query_layer, layer]]
                pair = _PairScores(self._queries[query_layer], self._count, piece, cells, self.similarity, self.place)
                for tile, start in zip(running, self._starts, strict=True):
                    work.append(partial(self._add_to_tile, pair, tile, start, first))
            side_by_side(work, self._threads)

    def _add_to_tile(self, pair: _PairScores, running: RunningBest, start: int, first: int) -> None:
        """Scores a piece of documents for the tile of queries from `start` on."""
        with torch.autocast(self._device.type, enabled=False):  # a thread has its own
            room = torch.empty(2, self._rows, self._columns, device=self._device)
            for begin in range(0, pair.documents, self._columns):
                count = min(self._columns, pair.documents - begin)
                out = self._excluded_in(start, first + begin)
                tiles = pair.tiles(range(start, start + self._rows), range(begin, begin + self._columns), room)
                for cell, scores in enumerate(tiles):
                    if len(out):
                        scores.view(-1)[out] = float("-inf")  # and so it stays when wider products are added
                    if count < self._columns:
                        scores[:, count:] = float("-inf")
                    running.offer(cell, scores, first + begin)
                running.take(self._columns, first + begin, count)

    def _excluded_in(self, start: int, first: int) -> Tensor:
        """Flat positions of excluded documents in the tile of queries from `start` and documents from `first` on."""
        columns = self._excluded[start : start + self._rows] - first
        rows = ((columns >= 0) & (columns < self._columns)).nonzero().squeeze(1)
        return rows * self._columns + columns[rows]


class _PairScores:
    """Scores of queries at one layer and a piece of documents at one, at every width from one accumulation.

    queries (padded nq, H), of which `count` are real; documents (n, H); cells: this pair's, narrowest first.
    """

    def __init__(
        self,
        queries: Tensor,
        count: int,
        documents: Tensor,
        cells: Sequence[SearchCell],
        similarity: Similarity,
        place: str,
    ) -> None:
        self._queries, self._count, self._documents, self._cells, self._place = queries, count, documents, cells, place
        self._blocks = list(pairwise([0, *(dim for _, _, dim in cells)]))
        # Below this bound every partial sum is finite; at NaN, infinity or enormous values each tile is looked at.
        self._scales: list[tuple[Tensor, Tensor]] | None = None
        if similarity == "cosine":
            query_scales = self._inverse_norms(queries[:count], "query")
            pad = (0, len(queries) - count)
            self._scales = [
                (nn.functional.pad(query, pad), document)
                for query, document in zip(query_scales, self._inverse_norms(documents, "document"), strict=True)
            ]
        # Below this bound every partial sum is finite; at NaN, infinity or enormous values each score is looked at.
        bound = _largest_magnitude(queries) * _largest_magnitude(documents) * self._blocks[-1][1]
        if not bound < torch.finfo(torch.float32).max:
            self._refuse_not_finite()

    @property
    def documents(self) -> int:
        """How many documents the piece has."""
        return len(self._documents)

    def tiles(self, rows: range, columns: range, room: Tensor) -> Iterator[Tensor]:
        """(rows, columns) scores per cell, with zeros beyond the last document; each is overwritten by the next.

        `room`: (2, rows, columns) float32 to compute in.
        """
        queries = self._queries[rows.start : rows.stop]
        missing = columns.stop - len(self._documents)
        documents = self._documents[columns.start : columns.stop]
        if missing > 0:
            documents = nn.functional.pad(documents, (0, 0, 0, missing))
        products, scores = room
        for number, (start, stop) in enumerate(self._blocks):
            block = documents[:, start:stop].T
            if number == 0:
                torch.mm(queries[:, :stop], block, out=products)
            else:
                products.addmm_(queries[:, start:stop], block)
            if self._scales is None:
                yield products
                continue
            query_scale, document_scale = self._scales[number]
            document_scale = document_scale[columns.start : columns.stop]
            document_scale = nn.functional.pad(document_scale, (0, max(missing, 0)))
            torch.mul(products, document_scale, out=scores)
            yield scores.mul_(query_scale[rows.start : rows.stop, None])

    def _refuse_not_finite(self) -> None:
        rows, columns = range(len(self._queries)), 1024
        room = torch.empty(2, len(rows), columns, device=self._queries.device)
        for start in range(0, len(self._documents), columns):
            for number, scores in enumerate(self.tiles(rows, range(start, start + columns), room)):
                if not torch.isfinite(scores).all():
                    raise self._error(number, "a score that is not a finite number")

    def _inverse_norms(self, values: Tensor, what: str) -> list[Tensor]:
        """(n, H) -> per cell (n,) one over the norm of the first d coordinates, summed in float64."""
        squares = torch.zeros(len(values), dtype=torch.float64, device=values.device)
        inverse = []
        for number, (start, stop) in enumerate(self._blocks):
            squares = squares + torch.linalg.vector_norm(values[:, start:stop], dim=1, dtype=torch.float64).square()
            inverse.append(squares.rsqrt().float())
            if not torch.isfinite(inverse[-1]).all():
                raise self._error(number, f"a {what} whose vector has no norm to divide by")
        return inverse

    def _error(self, number: int, problem: str) -> InputError:
        query_layer, layer, dim = self._cells[number]
        return InputError(
            f"{self._place}: there is {problem} at query layer {query_layer}, layer {layer}, dim {dim}; "
            "is the model damaged?"
        )


def _largest_magnitude(values: Tensor) -> float:
    """NaN where there is a NaN."""
    low, high = torch.aminmax(values)
    return max(-float(low), float(high))


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Matrix products in true float32: no TF32, no bfloat16 passes."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
