"""The running best k of a tile of queries at all cells: thresholds, candidates, and what is kept of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from matryobench.evaluation.rankings import EMPTY, pack, unpack


class RunningBest:
    """The best k keys (see rankings.pack) of `rows` queries at each of `cells` cells, while tiles of scores come in.

    What reaches a row's threshold is a candidate. Candidates are collected in room for k more keys; only when that is
    full are the best k selected and the threshold raised, so that a tile that adds little costs one comparison.
    Tiles have `tile_rows` >= `rows` rows.
    """

    def __init__(self, k: int, cells: int, rows: int, tile_rows: int, device: torch.device) -> None:
        self.k = k
        self.rows = rows
        self._keys = torch.full((cells, tile_rows, 2 * k), EMPTY, device=device)  # candidates, then the best k so far
        self._fill = torch.zeros(cells, tile_rows, dtype=torch.long, device=device)  # candidates of each row
        self._threshold = torch.full((cells, tile_rows, 1), torch.finfo(torch.float32).min, device=device)
        self._threshold[:, rows:] = float("inf")  # rows of padding take nothing
        self._following = [0] * cells  # a cell's thresholds hold for documents from this number on
        self._found: list[tuple[Tensor, Tensor]] = []  # of the tile at hand: flat positions over all cells, scores

    def best(self) -> Tensor:
        """(cells, rows, k) keys, ascending."""
        for cell, following in enumerate(self._following):
            self._compact(cell, following)
        return self._keys[:, : self.rows, self.k :].sort(dim=2).values

    def restore(self, keys: Tensor) -> None:
        """Takes up what `best` gave, in place of what is held."""
        self._keys[:] = EMPTY
        self._keys[:, : self.rows, self.k :] = keys
        for cell in range(len(keys)):
            self._compact(cell, 0)

    def offer(self, cell: int, scores: Tensor, first: int) -> None:
        """Looks for candidates in a cell's tile of scores (tile_rows, columns); documents count from `first`.

        What is -inf stays out; all else is finite. The number of columns is a power of two. Candidates count when
        `take` is called.
        """
        if first < self._following[cell]:  # a piece out of order: at equal scores its lower numbers win
            self._compact(cell, first)
        threshold = self._threshold[cell]
        found = _at_least(scores, threshold)
        if len(found) > self.k * self.rows:
            # The first tiles: the k-th best of a tile is a threshold, and far fewer reach it.
            torch.maximum(threshold, _kth_best(scores, self.k), out=threshold)
            found = _at_least(scores, threshold)
        if len(found):
            self._found.append((found + cell * scores.numel(), scores.view(-1).index_select(0, found)))

    def take(self, columns: int, first: int, count: int) -> None:
        """Takes in the candidates of a tile, offered cell after cell: documents first .. first + count."""
        if not self._found:
            return
        found, scores = (torch.cat(parts) for parts in zip(*self._found, strict=True))
        self._found.clear()
        documents = first + (found & (columns - 1))
        self._append(found >> (columns.bit_length() - 1), pack(scores, documents), first + count)

    def _append(self, rows: Tensor, keys: Tensor, following: int) -> None:
        """Adds keys to their rows, which ascend and count on from cell to cell; makes room where there is none."""
        counts = torch.bincount(rows, minlength=self._fill.numel()).view_as(self._fill)
        full = ((self._fill + counts).amax(dim=1) > self.k).tolist()
        for cell, overflows in enumerate(full):
            if overflows:
                self._compact(cell, following)
        most = int(counts.max())
        if most > self.k:  # more at once than the room holds: the best k of a wider table
            wide = torch.full((*self._fill.shape, most), EMPTY, device=keys.device)
            self._fill.zero_()
            _place(wide, self._fill, rows, keys, counts)
            table = torch.cat([wide, self._keys], dim=2)
            self._keys = _best_last(table, 2 * self.k)[:, :, most:].contiguous()
            for cell in range(len(full)):
                self._compact(cell, following)
            return
        _place(self._keys, self._fill, rows, keys, counts)
        self._fill += counts

    def _compact(self, cell: int, following: int) -> None:
        """Keeps a cell's best k and raises its thresholds, which then hold for documents from `following` on."""
        keys = self._keys[cell] = _best_last(self._keys[cell], self.k)
        keys[:, : self.k] = EMPTY
        self._fill[cell] = 0
        score, document = unpack(keys[: self.rows, self.k])
        # Where the k-th has a lower number than all that follow, an equal score cannot displace it.
        above = torch.nextafter(score, torch.full_like(score, float("inf")))
        self._threshold[cell, : self.rows, 0] = torch.where(document < following, above, score)
        self._following[cell] = following


def _place(table: Tensor, fill: Tensor, rows: Tensor, keys: Tensor, counts: Tensor) -> None:
    """Writes keys behind the `fill` candidates that their rows of `table` (cells, rows, room) hold."""
    counts = counts.view(-1)
    start = torch.arange(len(counts), device=keys.device) * table.shape[2] + fill.view(-1) - (counts.cumsum(0) - counts)
    places = start.index_select(0, rows) + torch.arange(len(rows), device=keys.device)
    table.view(-1).index_copy_(0, places, keys)


def _at_least(values: Tensor, threshold: Tensor) -> Tensor:
    """(n, m), (n, 1) -> flat positions of the values that reach their row's threshold, ascending."""
    if _by_numpy(values):
        return torch.from_numpy(np.flatnonzero(np.greater_equal(values.numpy(), threshold.numpy())))
    return (values >= threshold).view(-1).nonzero().squeeze(1)


def _kth_best(scores: Tensor, k: int) -> Tensor:
    """(n, m), k <= m -> (n, 1), the k-th largest of each row."""
    if _by_numpy(scores):
        place = scores.shape[1] - k
        return torch.from_numpy(np.partition(scores.numpy(), place, axis=1)[:, place, None].copy())
    return scores.topk(k, dim=1).values[:, -1:]


def _best_last(keys: Tensor, count: int) -> Tensor:
    """(..., m) -> each row's `count` largest at its end, the least of them first; may work in place."""
    if _by_numpy(keys):
        keys.numpy().partition(keys.shape[-1] - count, axis=-1)
        return keys
    return keys.sort(dim=-1).values


def _by_numpy(values: Tensor) -> bool:
    """On CPU numpy compares twice, and selects from short rows ten times, as fast as torch."""
    return values.device.type == "cpu"
