"""Alignment terms: what pulls one cell towards another. Pure functions of float embeddings or scores."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from matryobench.objectives.terms import at_least_float32


def kl_over_coordinates(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)), summed over coordinates, mean over texts.

    student, teacher: (N, d); or scores, one row per query and one column per passage. The gradient reaches both; detach
    the teacher before the call where it must not.
    """
    divergence: Tensor = F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence


def compression_term(
    student: Tensor, target: Tensor, temperature: float, kl_factor: Literal["temperature", "one"] = "temperature"
) -> Tensor:
    """MSE(student, target) + f x KL(softmax(target / T) || softmax(student / T)), f = T or 1; both (N, k)."""
    factor = temperature if kl_factor == "temperature" else 1.0
    return F.mse_loss(student, target) + factor * kl_over_coordinates(student, target, temperature)


def compress(how: Literal["pca", "softmax-svd"], embeddings: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """(N, H) compressed to (N, width) without gradient; only softmax-svd draws from the generator."""
    if how == "pca":
        return pca_compress(embeddings, width)
    return softmax_svd_compress(embeddings, width, generator)


@torch.no_grad()
def pca_compress(embeddings: Tensor, width: int) -> Tensor:
    """Projects a batch (N, H) on its `width` leading principal axes, (N, width), at least in float32; no gradient.

    The embeddings are not centred before the projection (a constant shift would be a target that the first k raw
    coordinates cannot reach); axes come from the centred covariance. Each axis points where its largest component
    is positive, so that the result does not depend on the eigensolver's choice of sign. N texts have N - 1 axes at most:
    columns beyond them are 0, because any direction without variance would do (128 queries and width 128 are the case).
    """
    batch = at_least_float32(embeddings)
    centred = batch - batch.mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)  # ascending eigenvalues, (H, H)
    axes = axes[:, -width:].flip(-1)  # (H, k)
    axes[:, len(batch) - 1 :] = 0
    peaks = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    projected: Tensor = batch @ (axes * torch.where(peaks < 0, -1.0, 1.0))
    return projected


@torch.no_grad()
def softmax_svd_compress(embeddings: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """The released ESE compression (D3): m (U S), U and S of a rank-k SVD of softmax(m'm / sqrt(H)); (N, width).

    At least in float32, outside autocast; the randomised SVD is seeded from `generator`. Not a principal component analysis.
    """
    batch = at_least_float32(embeddings)
    relations = torch.softmax(batch.T @ batch / batch.shape[-1] ** 0.5, dim=-1)  # (H, H)
    seed = int(torch.randint(2**62, (), generator=generator))
    # svd_lowrank takes no generator, so its draws come from a global state that is put back afterwards.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        left, singular, _ = torch.svd_lowrank(relations, q=width)
    return batch @ (left * singular)
