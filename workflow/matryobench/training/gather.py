"""Training in several processes: each embeds its share of a batch, and all of them see all embeddings.

Every process then has the loss of the whole batch, of which only its own embeddings carry gradient. DDP averages the
processes' gradients, so that of the embeddings is multiplied by the number of processes on its way back; loss and
gradients are then those of one process with the whole batch (the released code leaves the factor out, D8). The factor
belongs to the gathering, not to the training loop: a loss without gathered negatives must not have it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from matryobench.errors import InputError


def world_size() -> int:
    """Number of training processes; 1 where there is no process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def share(rows: Tensor) -> Tensor:
    """This process's consecutive part of a batch's rows, (n,) of (N,); the parts in order of rank are the batch.

    Raises InputError where there are fewer rows than processes: each needs one to take part in the backward pass.
    """
    processes = world_size()
    if processes == 1:
        return rows
    if len(rows) < processes:
        raise InputError(
            f"training: a batch of {len(rows)} queries cannot be shared by {processes} processes; use fewer processes or a"
            " batch_size of which no smaller rest is left."
        )
    return rows.tensor_split(processes)[dist.get_rank()]


def gather_embeddings(embeddings: Tensor) -> Tensor:
    """(layers, n, H) of this process -> (layers, N, H) of all, in order of rank; n may differ between processes.

    Gradient flows to this process's own embeddings only, times `world_size()`, for DDP to average. Without a process
    group the embeddings themselves.
    """
    if world_size() == 1:
        return embeddings
    counts = [torch.zeros(1, dtype=torch.long, device=embeddings.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([embeddings.shape[1]], device=embeddings.device))
    numbers = [int(count) for count in counts]
    layers, own, width = embeddings.shape
    padded = embeddings.new_zeros((layers, max(numbers), width))
    padded[:, :own] = embeddings.detach()
    parts = [torch.empty_like(padded) for _ in numbers]
    dist.all_gather(parts, padded)
    cut = [part[:, :number] for part, number in zip(parts, numbers, strict=True)]
    own_part: Any = embeddings.view_as(embeddings)  # a node of its own, so that the hook sees this use only
    if own_part.requires_grad:
        own_part.register_hook(lambda gradient: gradient * len(numbers))
    cut[dist.get_rank()] = own_part
    return torch.cat(cut, dim=1)
