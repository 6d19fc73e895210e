"""Scores of queries against passages at several widths at once, and the contrastive loss on them.

Widths are prefixes, so the dot product at width d_j is the one at d_(j-1) plus the product of one block of coordinates:
all widths together cost one full product and hold one (Q, N) matrix each, whatever H is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST_NORM = 1e-12  # as torch's normalize: a zero vector has similarity 0, not NaN


def prefix_scores(
    queries: Tensor,
    passages: Tensor,
    dims: Iterable[int],
    similarity: Literal["dot", "cosine"] = "dot",
    trained: int | None = None,
) -> dict[int, Tensor]:
    """Width d -> (Q, N) similarities of the first d coordinates, for every d of `dims`.

    queries: (Q, H); passages: (N, H). Cosine is that of the cut vectors. Coordinates from `trained` on (none: H) get no
    gradient, so scores at larger widths, as only a teacher has them, carry none at all.
    """
    ends = sorted(set(dims))
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    rest = queries.shape[-1] - ends[-1]
    blocks = zip(
        ends, torch.split(queries, [*sizes, rest], dim=-1), torch.split(passages, [*sizes, rest], dim=-1), strict=False
    )
    found: dict[int, Tensor] = {}
    products = queries.new_zeros(())
    query_squares, passage_squares = queries.new_zeros(()), passages.new_zeros(())
    for end, query_block, passage_block in blocks:
        if trained is not None and end > trained:
            query_block, passage_block, products = query_block.detach(), passage_block.detach(), products.detach()
            query_squares, passage_squares = query_squares.detach(), passage_squares.detach()
        products = products + query_block @ passage_block.T
        if similarity == "dot":
            found[end] = products
        else:
            query_squares = query_squares + query_block.square().sum(dim=-1)  # (Q,)
            passage_squares = passage_squares + passage_block.square().sum(dim=-1)  # (N,)
            found[end] = products / (_norms(query_squares)[:, None] * _norms(passage_squares))
    return found


def contrastive(scores: Tensor, temperature: float, known_positives: Tensor | None = None) -> Tensor:
    """Cross entropy of scores / temperature over all passages against each query's own positive, mean over queries.

    scores: (Q, Q g), query i's own passages being columns i g .. i g + g - 1 with the positive first. A passage marked
    in known_positives, (Q, Q g) bool, is no candidate of that query, but for its own positive. The same as Tevatron's
    loss, whose targets are i g.
    """
    queries, candidates = scores.shape
    targets = torch.arange(queries, device=scores.device) * (candidates // queries)
    logits = scores / temperature
    if known_positives is not None:
        logits = logits.masked_fill(known_positives.scatter(1, targets[:, None], False), -torch.inf)
    return F.cross_entropy(logits, targets)


def _norms(squares: Tensor) -> Tensor:
    return squares.clamp_min(_SMALLEST_NORM**2).sqrt()
