"""Alignment terms: what pulls one cell towards another. Pure functions of float embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_over_coordinates(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)), summed over coordinates, mean over texts.

    student, teacher: (N, d). The gradient reaches both; detach the teacher before the call where it must not.
    """
    divergence: Tensor = F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence


def compression_term(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    """MSE(student, target) + T x KL(softmax(target / T) || softmax(student / T)); student, target: (N, k)."""
    return F.mse_loss(student, target) + temperature * kl_over_coordinates(student, target, temperature)


@torch.no_grad()
def pca_compress(embeddings: Tensor, width: int) -> Tensor:
    """Projects a batch (N, H) on its `width` leading principal axes, (N, width), in float32; no gradient.

    The embeddings are not centred before the projection (a constant shift would be a target that the first k raw
    coordinates cannot reach); axes come from the centred covariance. Each axis points where its largest component
    is positive, so that the result does not depend on the eigensolver's choice of sign.
    """
    batch = embeddings.float()
    centred = batch - batch.mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)  # ascending eigenvalues, (H, H)
    axes = axes[:, -width:].flip(-1)  # (H, k)
    peaks = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    projected: Tensor = batch @ (axes * torch.where(peaks < 0, -1.0, 1.0))
    return projected


@torch.no_grad()
def softmax_svd_compress(embeddings: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """The released ESE compression (D3): m (U S), U and S of a rank-k SVD of softmax(m'm / sqrt(H)); (N, width).

    In float32 outside autocast; the randomised SVD is seeded from `generator`. Not a principal component analysis.
    """
    batch = embeddings.float()
    relations = torch.softmax(batch.T @ batch / batch.shape[-1] ** 0.5, dim=-1)  # (H, H)
    seed = int(torch.randint(2**62, (), generator=generator))
    # svd_lowrank takes no generator, so its draws come from a global state that is put back afterwards.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        left, singular, _ = torch.svd_lowrank(relations, q=width)
    return batch @ (left * singular)
