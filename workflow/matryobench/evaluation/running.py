"""The running best k of a tile of queries at one cell: thresholds, candidates, and what is kept of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from matryobench.evaluation.rankings import EMPTY, pack, unpack

GROUP = 8
"""Columns of a tile that are passed over together; few enough that looking into one is cheap."""


class RunningBest:
    """The best k keys (see rankings.pack) of each of `rows` queries while tiles of scores come in.

    Candidates are collected in room for k more keys per query; only when that is full are the best k selected and
    the thresholds raised, so that a tile that adds little costs one comparison. Tiles have `tile_rows` >= `rows` rows.
    """

    def __init__(self, k: int, rows: int, tile_rows: int, device: torch.device) -> None:
        self.k = k
        self.rows = rows
        self._keys = torch.full((rows, 2 * k), EMPTY, device=device)  # candidates, then the best k so far
        self._fill = torch.zeros(rows, dtype=torch.long, device=device)  # candidates of each row
        self._threshold = torch.full((tile_rows, 1), torch.finfo(torch.float32).min, device=device)
        self._threshold[rows:] = float("inf")  # rows of padding take nothing
        self._following = 0  # the thresholds hold for documents from this number on

    def best(self) -> Tensor:
        """(rows, k) keys, ascending."""
        self._compact(self._following)
        return self._keys[:, self.k :].clone()

    def restore(self, keys: Tensor) -> None:
        """Takes up what `best` gave, in place of what is held."""
        self._keys[:, : self.k] = EMPTY
        self._keys[:, self.k :] = keys
        self._compact(0)

    def offer(self, scores: Tensor, first: int, count: int) -> None:
        """Takes in a tile of scores (tile_rows, columns), whose first `count` are of documents first .. first + count.

        What is -inf stays out, as all columns from `count` on must be; all else is finite. The number of columns is a
        power of two of at least GROUP.
        """
        if first < self._following:  # a piece out of order: at equal scores its lower numbers win
            self._compact(first)
        # A group of columns is looked into only where its maximum reaches the threshold.
        columns = scores.shape[1]
        groups = columns // GROUP
        maxima = scores.view(-1, GROUP, groups).amax(dim=1)
        hits = _at_least(maxima, self._threshold)
        if len(hits) > self.k * self.rows:
            # The first tiles: k maxima are k of the scores, so the k-th largest of them is a valid threshold.
            kth = _sorted(maxima.clone())[:, groups - self.k, None]
            torch.maximum(self._threshold, kth, out=self._threshold)
            hits = _at_least(maxima, self._threshold)
        if len(hits) == 0:
            return
        rows = hits >> (groups.bit_length() - 1)
        members = (hits + rows * (columns - groups))[:, None] + torch.arange(GROUP, device=hits.device) * groups
        values = scores.view(-1).index_select(0, members.view(-1))
        found = _at_least(values.view(-1, GROUP), self._threshold.index_select(0, rows))
        rows = rows.index_select(0, found >> (GROUP.bit_length() - 1))
        documents = first + (members.view(-1).index_select(0, found) & (columns - 1))
        self._append(rows, pack(values.index_select(0, found), documents), first + count)

    def _append(self, rows: Tensor, keys: Tensor, following: int) -> None:
        """Adds keys to their rows, which ascend; makes room where there is none."""
        counts = torch.bincount(rows, minlength=self.rows)
        if int((self._fill + counts).max()) > self.k:
            self._compact(following)
            most = int(counts.max())
            if most > self.k:  # more at once than the room holds: the best k of a wider table
                wide = torch.full((self.rows, most), EMPTY, device=keys.device)
                self._place(wide, rows, keys, counts)
                self._keys = _sorted(torch.cat([wide, self._keys], dim=1))[:, -2 * self.k :].contiguous()
                self._compact(following)
                return
        self._place(self._keys, rows, keys, counts)
        self._fill += counts

    def _place(self, table: Tensor, rows: Tensor, keys: Tensor, counts: Tensor) -> None:
        """Writes keys behind the candidates that their rows of `table` hold."""
        start = torch.arange(self.rows, device=keys.device) * table.shape[1] + self._fill - (counts.cumsum(0) - counts)
        places = start.index_select(0, rows) + torch.arange(len(rows), device=keys.device)
        table.view(-1).index_copy_(0, places, keys)

    def _compact(self, following: int) -> None:
        """Keeps the best k and raises the thresholds, which then hold for documents from `following` on."""
        self._keys = _sorted(self._keys)
        self._keys[:, : self.k] = EMPTY
        self._fill.zero_()
        score, document = unpack(self._keys[:, self.k])
        # Where the k-th has a lower number than all that follow, an equal score cannot displace it.
        above = torch.nextafter(score, torch.full_like(score, float("inf")))
        self._threshold[: self.rows, 0] = torch.where(document < following, above, score)
        self._following = following


def _at_least(values: Tensor, threshold: Tensor) -> Tensor:
    """(n, m), (n, 1) -> flat positions of the values that reach their row's threshold, ascending."""
    if _by_numpy(values):
        return torch.from_numpy(np.flatnonzero(np.greater_equal(values.numpy(), threshold.numpy())))
    return (values >= threshold).view(-1).nonzero().squeeze(1)


def _sorted(values: Tensor) -> Tensor:
    """(n, m) -> each row ascending; may sort in place."""
    if _by_numpy(values):
        values.numpy().sort(axis=1)
        return values
    return values.sort(dim=1).values


def _by_numpy(values: Tensor) -> bool:
    """On CPU numpy compares twice, and sorts short rows ten times as fast as torch."""
    return values.device.type == "cpu"
