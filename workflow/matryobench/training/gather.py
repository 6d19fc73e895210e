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


def world_size() -> int:
    """Number of training processes; 1 where there is no process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes: the first of several, or the only one."""
    return world_size() == 1 or dist.get_rank() == 0


def largest(value: float, device: torch.device) -> float:
    """The largest of all processes' values; `device` is the one that they train on."""
    if world_size() == 1:
        return value
    held = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(held, dist.ReduceOp.MAX)
    return held.item()


def share(rows: Tensor) -> Tensor:
    """This process's consecutive part of a batch's rows, (n,) of (N,); the parts in order of rank are the batch.

    Parts differ by one row at most, earlier ones being larger; of fewer rows than processes the last ones get none.
    """
    return rows if world_size() == 1 else rows.tensor_split(world_size())[dist.get_rank()]


def rows_to_embed(rows: Tensor) -> tuple[Tensor, int]:
    """The rows that this process embeds, (n,) of (N,), and how many of them count: its `share`, all of which count.

    Where its share is empty it embeds the first row, which does not count: DDP needs every process in the backward pass.
    """
    own = share(rows)
    return (own, len(own)) if len(own) else (rows[:1], 0)


def gather_embeddings(embeddings: Tensor) -> Tensor:
    """(..., n, H) of this process -> (..., N, H) of all, in order of rank; n may differ between processes and be 0.

    Gradient flows to this process's own embeddings only, times `world_size()`, for DDP to average. Without a process
    group the embeddings themselves.
    """
    if world_size() == 1:
        return embeddings
    counts = [torch.zeros(1, dtype=torch.long, device=embeddings.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([embeddings.shape[-2]], device=embeddings.device))
    numbers = [int(count) for count in counts]
    *leading, own, width = embeddings.shape
    padded = embeddings.new_zeros((*leading, max(numbers), width))
    padded[..., :own, :] = embeddings.detach()
    parts = [torch.empty_like(padded) for _ in numbers]
    dist.all_gather(parts, padded)
    cut = [part[..., :number, :] for part, number in zip(parts, numbers, strict=True)]
    own_part: Any = embeddings.view_as(embeddings)  # a node of its own, so that the hook sees this use only
    if own_part.requires_grad:
        own_part.register_hook(lambda gradient: gradient * len(numbers))
    cut[dist.get_rank()] = own_part
    return torch.cat(cut, dim=-2)
