"""What half precision does to rankings: FAISS with float16 storage beside the exact search. A measurement only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from matryobench.errors import InputError
from matryobench.evaluation.rankings import EMPTY, Rankings, SearchCell, from_keys, pack
from matryobench.models.encoder import default_tokens_per_forward

if TYPE_CHECKING:
    from matryobench.evaluation.retrieval import SetScores
    from matryobench.evaluation.retrieval_runs import SearchSettings
    from matryobench.evaluation.searches import Search
    from matryobench.models.encoder import Encoder


@dataclass(frozen=True)
class Agreement:
    """Per cell, over queries: the share of equal top lists, and the mean share of documents that two lists share."""

    equal_lists: NDArray[np.float64]
    overlap: NDArray[np.float64]


def fp16_rankings(queries: Tensor, documents: Tensor, cell: SearchCell, k: int) -> Rankings:
    """Inner products of the first d coordinates, the documents stored in float16: (nq, H), (n, H) -> one cell.

    FAISS's IndexScalarQuantizer (QT_fp16): queries stay float32, each product sums in float32.
    """
    try:
        import faiss
    except ImportError:
        raise InputError(
            "half precision: FAISS is not installed; pip install faiss-cpu, or leave the option out."
        ) from None

    dim = cell[2]
    index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(np.ascontiguousarray(documents[:, :dim].float().cpu().numpy()))
    scores, numbers = index.search(np.ascontiguousarray(queries[:, :dim].float().cpu().numpy()), k)
    found = torch.from_numpy(numbers)
    keys = pack(torch.from_numpy(scores), found.clamp(min=0)).masked_fill(found < 0, EMPTY)
    return from_keys([cell], keys[None])


@torch.inference_mode()
def rank_fp16(encoder: Encoder, search: Search, settings: SearchSettings) -> Rankings:
    """The rankings of a search with float16 documents, as `retrieval_runs.rank` gives the exact ones.

    The corpus is held in memory at all layers of the cells, so this is for corpora of at most some 100,000 documents.
    """
    budget = default_tokens_per_forward(next(encoder.parameters()).device)
    layers = sorted({layer for query, document, _ in settings.cells for layer in (query, document)})
    queries = dict(zip(layers, encoder.embed(search.queries, layers, budget), strict=True))
    texts = [search.corpus.text(number) for number in search.corpus.rows[:, 0].tolist()]
    documents = dict(zip(layers, encoder.embed(texts, layers, budget), strict=True))
    keys = []
    for cell in settings.cells:
        asked, held = queries[cell[0]][:, : cell[2]], documents[cell[1]][:, : cell[2]]
        if settings.similarity == "cosine":
            asked, held = F.normalize(asked, dim=-1), F.normalize(held, dim=-1)
        # One more than asked for, since a query's own document may have to go.
        found = fp16_rankings(asked, held, cell, min(settings.top_k + 1, len(texts)))
        own = found.documents == search.excluded[None, :, None]
        packed = pack(found.scores, found.documents.clamp(min=0)).masked_fill(own | (found.documents < 0), EMPTY)
        keys.append(packed.topk(min(settings.top_k, len(texts)), dim=-1).values[0])
    return from_keys(settings.cells, torch.stack(keys))


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
