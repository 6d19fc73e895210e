"""Linear projection to the vocabulary and cross entropy in one, piece by piece.

The logits of all sizes together would be the largest tensor of a step by far (rows x vocabulary). Here a piece of them is
made, turned into its gradient and dropped, in the forward pass, so that no logits are kept and none are made twice.
torch.nn.functional.linear_cross_entropy works so too, but has one sum per call, in the dtype of its input (three digits
under bf16): a loss per size would take a call, and a gradient of the whole vocabulary matrix, per size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Logits of a piece: on CPU few enough to stay near the cache, on a GPU enough to fill it.
_PIECE = {"cpu": 2**22, "cuda": 2**27}


def vocabulary_loss(
    states: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, shares: Tensor
) -> tuple[Tensor, Tensor]:
    """(sum over rows of shares x negative log likelihood, the rows' own values without gradient, (rows,)).

    states (rows, H), weight (vocabulary, H), bias (vocabulary,), targets (rows,) ids, shares (rows,) >= 0. Matrix products
    are in autocast's dtype where it is on, all else is in float32 (float64 for such input). No second derivatives.
    """
    result: tuple[Tensor, Tensor] = _VocabularyLoss.apply(states, weight, bias, targets, shares)  # type: ignore[no-untyped-call]
    return result


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, shares: Tensor
    ) -> tuple[Tensor, Tensor]:
        kind = states.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        with torch.autocast(kind, enabled=False):
            rows, matrix = states.to(low), weight.to(low)
            # fp16 cannot hold shares of 1/rows, so the largest is taken out of the products and put back at the end.
            top = shares.max().clamp_min(torch.finfo(shares.dtype).tiny) if len(shares) else shares.new_ones(())
            d_rows, d_weight, d_bias = torch.empty_like(states), torch.zeros_like(weight), torch.zeros_like(bias)
            losses = bias.new_empty(len(rows))
            size = max(1, _PIECE.get(kind, 2**25) // len(weight))
            cut = zip(*(torch.split(part, size) for part in (rows, targets, losses, d_rows, shares / top)), strict=True)
            for piece, goals, losses_part, d_part, share in cut:
                logits = torch.mm(piece, matrix.T).to(weight.dtype).add_(bias)
                norm = logits.logsumexp(dim=1, keepdim=True)
                right = goals[:, None]
                losses_part.copy_((norm - logits.gather(1, right)).squeeze(1))
                slope = logits.sub_(norm).exp_()
                slope.scatter_add_(1, right, torch.full_like(norm, -1.0)).mul_(share[:, None])
                d_bias += slope.sum(dim=0)
                slope = slope.to(low)
                d_part.copy_(torch.mm(slope, matrix))
                if low == weight.dtype:
                    d_weight.addmm_(slope.T, piece)
                else:
                    d_weight += torch.mm(slope.T, piece)
        ctx.save_for_backward(d_rows, d_weight, d_bias, top)
        ctx.mark_non_differentiable(losses)
        return (losses * shares).sum(), losses

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        d_rows, d_weight, d_bias, top = ctx.saved_tensors
        scale = slope * top
        return (d_rows * scale).to(d_rows.dtype), d_weight * scale, d_bias * scale, None, None
