"""Rankings of documents per cell and query: their one order, their files, and the exact merge of shards.

A score and a document number are packed into one int64 whose natural order is trec_eval's: score descending, then
lower document number (a passages table is sorted by id descending, so the lower number is the higher id). With one
total order, the best k of anything is the k largest keys, whatever the order or the pieces in which they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from matryobench.errors import InputError
from matryobench.tensors import read_tensors, write_tensors

SearchCell = tuple[int, int, int]
"""(query layer, document layer, dim); layer l in 1..L is hidden_states[l], dim d its first d coordinates."""

EMPTY = torch.iinfo(torch.int64).min
"""The key of no document: below every other, since its upper half would be a NaN."""
MAX_DOCUMENTS = 2**32 - 1

_LOW = 0xFFFFFFFF
_MAGNITUDE = 0x7FFFFFFF


@dataclass(frozen=True)
class Rankings:
    """The best k documents of every cell and query, best first.

    scores (cells, nq, k) float32, -inf where there are fewer documents; documents (cells, nq, k) int64, -1 there.
    """

    cells: tuple[SearchCell, ...]
    scores: Tensor
    documents: Tensor

    def of(self, queries: slice) -> Rankings:
        """The rankings of some of the queries."""
        return Rankings(self.cells, self.scores[:, queries], self.documents[:, queries])


def pack(scores: Tensor, documents: Tensor) -> Tensor:
    """float32 scores (never NaN) and int64 numbers below MAX_DOCUMENTS, of one shape -> int64 keys."""
    bits = (scores + 0.0).view(torch.int32)  # -0 and 0 are one score
    ordered = bits ^ ((bits >> 31) & _MAGNITUDE)  # negative floats count backwards in their bits
    return (ordered.long() << 32) | (_LOW - documents)


def unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """int64 keys -> (float32 scores, int64 document numbers); EMPTY -> (-inf, -1)."""
    ordered = (keys >> 32).int()
    scores = (ordered ^ ((ordered >> 31) & _MAGNITUDE)).view(torch.float32)
    empty = keys == EMPTY
    return scores.masked_fill(empty, float("-inf")), (_LOW - (keys & _LOW)).masked_fill(empty, -1)


def from_keys(cells: Sequence[SearchCell], keys: Tensor) -> Rankings:
    """(cells, nq, k) keys in any order -> rankings on the CPU, best first."""
    return _unpacked(cells, keys.shape[1:], (one.cpu().sort(dim=-1, descending=True).values for one in keys))


def _unpacked(cells: Sequence[SearchCell], shape: Sequence[int], keys: Iterable[Tensor]) -> Rankings:
    """Rankings from one (nq, k) of ordered keys per cell; with many queries and cells two copies would not fit."""
    scores = torch.empty(len(cells), *shape)
    documents = torch.empty(len(cells), *shape, dtype=torch.int64)
    for number, one in enumerate(keys):
        scores[number], documents[number] = unpack(one)
    return Rankings(tuple(cells), scores, documents)


def to_keys(rankings: Rankings) -> Tensor:
    """The (cells, nq, k) keys of rankings."""
    missing = rankings.documents < 0
    keys = pack(rankings.scores.masked_fill(missing, 0), rankings.documents.clamp(min=0))
    return keys.masked_fill(missing, EMPTY)


def merge(parts: Sequence[Rankings]) -> Rankings:
    """The rankings of a corpus from those of its shards: the exact best k of their union.

    Raises InputError where the shards differ in cells, queries or k, or hold a document twice.
    """
    first = parts[0]
    if any(part.cells != first.cells or part.scores.shape != first.scores.shape for part in parts):
        raise InputError("rankings: the shards differ in cells, queries or k; search all of them with one setting.")
    return _unpacked(first.cells, first.scores.shape[1:], (_merged(parts, cell) for cell in range(len(first.cells))))


def _merged(parts: Sequence[Rankings], cell: int) -> Tensor:
    """(nq, k) keys of one cell from those of all shards, best first; the union is never held for all cells."""
    one = [Rankings(part.cells, part.scores[cell], part.documents[cell]) for part in parts]
    keys = torch.cat([to_keys(part) for part in one], dim=-1).sort(dim=-1, descending=True).values
    documents = unpack(keys)[1].sort(dim=-1).values
    if ((documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)).any():
        raise InputError("rankings: two shards hold the same document; give every shard its own documents.")
    return keys[:, : parts[0].scores.shape[-1]]


def write_rankings(rankings: Rankings, path: Path, meta: dict[str, Any]) -> None:
    """Writes rankings and `meta` (JSON values) as safetensors, whole or not at all."""
    tensors = {"scores": rankings.scores.contiguous(), "documents": rankings.documents.contiguous()}
    write_tensors(tensors, {**meta, "cells": list(rankings.cells)}, path)


def read_rankings(path: Path) -> tuple[Rankings, dict[str, Any]]:
    """What `write_rankings` wrote; InputError where the file is missing or not one."""
    tensors, meta = read_tensors(path, ("scores", "documents"), "file of rankings", "search")
    cells = tuple((query, layer, dim) for query, layer, dim in meta.pop("cells"))
    return Rankings(cells, tensors["scores"], tensors["documents"]), meta
