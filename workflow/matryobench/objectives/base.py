"""Base losses: what one cell is trained on. Pure functions of float embeddings, returning named terms.

Shapes: `columns` is a list of (B, d) embeddings; for triplets anchor (of instructed rows: query), positive,
negative; for scored pairs the two sentences. `scores` is (B,) and only scored pairs have it. Names follow the field.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from matryobench.objectives.recipe import AngleLoss, BaseLoss, CoSENTLoss, InstructorLoss, MNRLoss


def multiple_negatives_ranking(columns: Sequence[Tensor], scale: float) -> Tensor:
    """Cross entropy of scale x cos(anchor, every candidate of the batch) against the anchor's own positive.

    Candidates are the B positives followed by the B negatives of every further column, (B, n B) scores in all.
    Source: arXiv 1705.00652; the same as sentence-transformers' MultipleNegativesRankingLoss with its defaults.
    """
    anchors = F.normalize(columns[0], dim=-1)  # (B, d)
    candidates = F.normalize(torch.cat(list(columns[1:])), dim=-1)  # (n B, d)
    similarities = scale * anchors @ candidates.T  # (B, n B)
    return F.cross_entropy(similarities, torch.arange(len(anchors), device=anchors.device))


def instructor(columns: Sequence[Tensor], temperature: float) -> tuple[Tensor, Tensor]:
    """INSTRUCTOR's two cross entropies of cosine / temperature, means over the batch; columns: query, positive, negative.

    First: a query's own positive against the hard negatives of the whole batch, its own among them; the positives of
    other queries are no candidates. Second: a positive's own query against the other queries of the batch.
    Source: xlang-ai/instructor-embedding, train.py at commit 00948fb, InstructorTrainer.compute_loss, which adds the two.
    """
    queries, positives, negatives = (F.normalize(column, dim=-1) for column in columns)  # (B, d)
    own = (queries * positives).sum(dim=-1, keepdim=True)  # (B, 1)
    against = torch.cat([own, queries @ negatives.T], dim=1) / temperature  # (B, 1 + B)
    reverse = positives @ queries.T / temperature  # (B, B)
    return (
        F.cross_entropy(against, torch.zeros(len(against), dtype=torch.long, device=against.device)),
        F.cross_entropy(reverse, torch.arange(len(reverse), device=reverse.device)),
    )


def _ranked_pairs(values: Tensor, labels: Tensor) -> Tensor:
    """log(1 + sum of exp(values_i - values_j) over all pairs with labels_i < labels_j); values, labels: (N,)."""
    ordered = labels[:, None] < labels[None, :]  # (N, N)
    differences = (values[:, None] - values[None, :])[ordered]
    return torch.logsumexp(torch.cat([values.new_zeros(1), differences]), dim=0)


def cosent(left: Tensor, right: Tensor, scores: Tensor, scale: float) -> Tensor:
    """The CoSENT loss: pairs with the higher score should have the higher cosine. left, right: (N, d); scores: (N,)."""
    return _ranked_pairs(scale * F.cosine_similarity(left, right, dim=-1), scores)


def angle(left: Tensor, right: Tensor, scores: Tensor, scale: float) -> Tensor:
    """AnglE's angle loss on complex vectors (arXiv 2309.12871): left, right: (N, d) with even d; scores: (N,).

    The first d/2 coordinates are real parts, the rest imaginary. With z = left, w = right, the parts of
    (z / w) / (|z| / |w|) are summed and the absolute sum, times `scale`, is ranked as in CoSENT.
    """
    real_left, imaginary_left = left.chunk(2, dim=-1)
    real_right, imaginary_right = right.chunk(2, dim=-1)
    # z w* / |w|^2, then / (|z| / |w|), is z w* / (|z| |w|): the moduli are vector norms over all coordinates.
    moduli = left.norm(dim=-1, keepdim=True) * right.norm(dim=-1, keepdim=True)
    real = (real_left * real_right + imaginary_left * imaginary_right) / moduli
    imaginary = (imaginary_left * real_right - real_left * imaginary_right) / moduli
    return _ranked_pairs(scale * (real + imaginary).sum(dim=-1).abs(), scores)


def _angle_terms(columns: Sequence[Tensor], scores: Tensor | None, settings: AngleLoss) -> dict[str, Tensor]:
    """AnglE's three weighted terms; a triplet counts as one pair labelled 1 and one labelled 0."""
    if scores is None:
        anchors, positives, negatives = columns
        left, right = torch.cat([anchors, anchors]), torch.cat([positives, negatives])
        labels = torch.cat([anchors.new_ones(len(anchors)), anchors.new_zeros(len(anchors))])
    else:
        (left, right), labels = columns, scores
    terms = {}
    if settings.contrastive_weight:
        contrastive = multiple_negatives_ranking(columns, settings.contrastive_scale)
        terms["contrastive"] = settings.contrastive_weight * contrastive
    if settings.angle_weight:
        terms["angle"] = settings.angle_weight * angle(left, right, labels, settings.angle_scale)
    if settings.cosine_weight:
        terms["cosine"] = settings.cosine_weight * cosent(left, right, labels, settings.cosine_scale)
    return terms


def base_terms(columns: Sequence[Tensor], scores: Tensor | None, settings: BaseLoss) -> dict[str, Tensor]:
    """The base loss of one cell as named terms whose sum is the loss; see the module for shapes."""
    match settings:
        case MNRLoss():
            return {"mnrl": multiple_negatives_ranking(columns, settings.scale)}
        case InstructorLoss():
            forward, reverse = instructor(columns, settings.temperature)
            return {"instructor": forward, "instructor-reverse": reverse}
        case CoSENTLoss():
            assert scores is not None  # the plan refuses CoSENT on triplets
            return {"cosent": cosent(columns[0], columns[1], scores, settings.scale)}
        case AngleLoss():
            return _angle_terms(columns, scores, settings)
