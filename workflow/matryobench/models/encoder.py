"""The all-layer encoder: every requested layer pooled in one forward pass that stops at the deepest.

Index convention: hidden_states[0] is the embedding output; layer l in 1..L is hidden_states[l]; dimension d is the
first d coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from matryobench.threads import alone, side_by_side

Pooling = Literal["mean", "cls"]


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """(batch, tokens, H) token vectors and their (batch, tokens) 0/1 mask -> (batch, H)."""
    if pooling == "cls":
        return states[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


class Encoder(nn.Module):
    """A transformers encoder of `depth` layers whose layers are pooled to embeddings.

    Families whose last hidden state passes a final norm (ModernBERT) get that norm on every layer read, because that
    is what an encoder truncated to this layer gives; for all others a layer's embedding is hidden_states[l] pooled.

    computed_in: where it is set, `embed` runs the backbone under autocast to this type; pooling is float32.
    """

    backbone: Any  # a transformers model, which has a config and saves itself

    def __init__(self, backbone: Any, pooling: Pooling, pad_token_id: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling: Pooling = pooling
        self.pad_token_id = pad_token_id
        self.depth: int = backbone.config.num_hidden_layers
        self.width: int = backbone.config.hidden_size
        self.computed_in: torch.dtype | None = None

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int], skip: Tensor | None = None
    ) -> Tensor:
        """(batch, tokens) -> (layers, batch, H) pooled embeddings, in the order of `layers` (0..depth).

        skip: (batch,) whole numbers, the leading tokens (an instruction's) that mean pooling leaves out; attention sees
        them. Pooling by the first token takes it whatever is skipped.
        """
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        final_norm = getattr(self.backbone, "final_norm", None)
        pooled_mask = attention_mask
        if skip is not None:
            places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
            pooled_mask = attention_mask * (places >= skip[:, None])
        pooled = []
        for layer in layers:
            states = output.hidden_states[layer]
            if self.computed_in is not None:
                states = states.float()
            if final_norm is not None and 0 < layer < self.depth:  # the last one has passed it already
                states = final_norm(states)
            pooled.append(pool(states, pooled_mask, self.pooling))
        return torch.stack(pooled)

    def embed(
        self,
        texts: Sequence[Tensor],
        layers: Sequence[int],
        tokens_per_forward: int,
        cache_gradients: bool = False,
        skips: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """Embeds token sequences of any lengths: n x (tokens,) -> (layers, n, H), in the order given.

        skips: (n,) leading tokens of each that mean pooling leaves out, always fewer than it has (ValueError); None: none.

        Sequences are sorted by length and cut into forward passes of at most `tokens_per_forward` padded tokens, so
        that little of the work is padding; the result differs from one padded batch only by rounding. Without gradients
        and on a CPU the passes are divided among torch's threads.

        With `cache_gradients` (GradCache, arXiv 2101.06983) no activations are kept between the passes: the backward
        pass runs each of them again, with the same dropout, from the gradient of its embeddings. Loss and gradients are
        those of the whole batch, memory is that of one pass.
        """
        device = next(self.backbone.parameters()).device
        lengths = [len(text) for text in texts]
        left_out = None if skips is None else torch.as_tensor(skips)
        if left_out is not None and any(skip >= size for skip, size in zip(left_out.tolist(), lengths, strict=True)):
            raise ValueError("a text is skipped to its end; at least one token must be pooled")
        order = sorted(range(len(texts)), key=lambda index: -lengths[index])

        def embed_batch(batch: range) -> Tensor:
            indices = [order[position] for position in batch]
            chosen = [texts[index] for index in indices]
            input_ids = nn.utils.rnn.pad_sequence(chosen, batch_first=True, padding_value=self.pad_token_id)
            sizes = torch.tensor([len(text) for text in chosen])
            mask = (torch.arange(input_ids.shape[1]) < sizes[:, None]).long()
            skip = None if left_out is None else left_out[indices].to(device)
            inputs = (input_ids.long().to(device), mask.to(device), layers, skip)
            with self._precision(device):
                pooled: Tensor = checkpoint(self, *inputs, use_reentrant=False) if cache_gradients else self(*inputs)
            return pooled

        work = [
            partial(embed_batch, batch)
            for batch in length_batches([lengths[index] for index in order], tokens_per_forward)
        ]
        # Batches that nothing is learnt from are independent of each other.
        apart = device.type == "cpu" and len(work) > 1 and not (torch.is_grad_enabled() or self.training)
        threads = torch.get_num_threads() if apart else 1
        with alone(threads):
            pieces = side_by_side(work, threads)
        inverse = torch.empty(len(order), dtype=torch.long)
        inverse[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(pieces, dim=1)[:, inverse.to(device)]

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """Autocast to `computed_in`; without it what surrounds the call, mixed precision of training included."""
        return torch.autocast(device.type, self.computed_in) if self.computed_in else nullcontext()


def default_tokens_per_forward(device: torch.device) -> int:
    """Padded tokens per forward pass: on CPU few enough to stay in the cache, on a GPU enough to fill it."""
    return 1024 if device.type == "cpu" else 16384


def length_batches(lengths: Sequence[int], tokens_per_forward: int) -> list[range]:
    """Cuts descending lengths into consecutive ranges whose padded size (count x longest) fits the budget.

    A single text longer than the budget is a range of its own.
    """
    batches: list[range] = []
    start = 0
    while start < len(lengths):
        count = max(1, tokens_per_forward // max(lengths[start], 1))
        batches.append(range(start, min(start + count, len(lengths))))
        start += count
    return batches
