"""What half precision does to rankings: FAISS with float16 storage beside the exact search. A measurement only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matryobench.evaluation.rankings import EMPTY, Rankings, SearchCell, from_keys, pack

if TYPE_CHECKING:
    from matryobench.evaluation.retrieval import SetScores


@dataclass(frozen=True)
class Agreement:
    """Per cell, over queries: the share of equal top lists, and the mean share of documents that two lists share."""

    equal_lists: NDArray[np.float64]
    overlap: NDArray[np.float64]


def fp16_rankings(queries: Tensor, documents: Tensor, cell: SearchCell, k: int) -> Rankings:
    """Inner products of the first d coordinates, the documents stored in float16: (nq, H), (n, H) -> one cell.

    FAISS's IndexScalarQuantizer (QT_fp16): queries stay float32, each product sums in float32.
    """
    import faiss

    dim = cell[2]
    index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(np.ascontiguousarray(documents[:, :dim].float().cpu().numpy()))
    scores, numbers = index.search(np.ascontiguousarray(queries[:, :dim].float().cpu().numpy()), k)
    found = torch.from_numpy(numbers)
    keys = pack(torch.from_numpy(scores), found.clamp(min=0)).masked_fill(found < 0, EMPTY)
    return from_keys([cell], keys[None])


def rank_agreement(a: Rankings, b: Rankings, depth: int = 10) -> Agreement:
    """How far two rankings of the same queries and cells agree in their first `depth` documents."""
    first, second = a.documents[:, :, :depth].numpy(), b.documents[:, :, :depth].numpy()
    if a.cells != b.cells or first.shape != second.shape:
        raise ValueError("the two rankings are of different cells, queries or depths")
    shared = (first[..., :, None] == second[..., None, :]) & (first >= 0)[..., None]
    counts = np.maximum((first >= 0).sum(axis=-1), 1)
    return Agreement((first == second).all(axis=-1).mean(axis=-1), (shared.sum(axis=(-2, -1)) / counts).mean(axis=-1))


def metric_differences(a: SetScores, b: SetScores) -> dict[str, NDArray[np.float64]]:
    """Per metric (cells,) the mean over queries of `b` minus that of `a`."""
    if a.cells != b.cells or a.query_ids != b.query_ids:
        raise ValueError("the two results are of different cells or queries")
    before, after = a.means(), b.means()
    return {metric: after[metric] - before[metric] for metric in before}
