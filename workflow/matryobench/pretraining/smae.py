"""Masked LM at every size, with a masked auto-encoder on every size's [CLS]: SMAE (Starbucks, arXiv 2410.13230).

For each (layer, dim) pair, hidden_states[layer][..., :dim] goes through the model's one masked-LM head, of whose first
projection only the first dim input columns are used: the MLM loss. The head's transform of the same state's [CLS] replaces
the first position of a decoder's input, the embedded text with more of its words masked; the decoder is one transformer layer
and predicts them by the same head: the MAE loss. The step's loss is the mean over pairs of (MLM + MAE) / 2; without a
decoder it is the mean of MLM, and with the one pair (L, H) plain masked language modelling.

What is done once for all pairs: the encoder, the decoder's embeddings, its queries, and its attention among the positions
after the first, which is where no two pairs differ. A pair adds its [CLS] to that attention by the weight that its
own key gets in the softmax. The rest of the decoder, the transforms and the projection to the vocabulary run at predicted
positions only. One dropout mask of the decoder's embeddings and attention so serves all pairs; the released code draws
one per pair. Sharing the head's first projection between dims would need pairs of one layer and save 3 % of a pair's head.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matryobench.errors import InputError
from matryobench.pretraining.masking import UNPREDICTED
from matryobench.pretraining.parts import LayerParts, head_of, layers_of, parts_of
from matryobench.pretraining.vocabulary_loss import vocabulary_loss

Pair = tuple[int, int]


def check_pairs(pairs: Sequence[Pair], depth: int, width: int, place: str) -> None:
    """Raises InputError for no pairs, one that is listed twice, and one that exceeds a backbone of this size."""
    if not pairs:
        raise InputError(f"{place}: there are no sizes to pre-train; give at least one (layer, dim).")
    for number, (layer, dim) in enumerate(pairs):
        if not (1 <= layer <= depth and 1 <= dim <= width):
            raise InputError(
                f"{place}: the size ({layer}, {dim}) does not fit the backbone, whose layers are 1..{depth} and dims"
                f" 1..{width}; choose within."
            )
        if (layer, dim) in pairs[:number]:
            raise InputError(f"{place}: the size ({layer}, {dim}) is listed twice; list every size once.")


class SizedMaskedLM(nn.Module):
    """A transformers masked-language model trained at (layer, dim) pairs.

    With `decoder`, a copy of the model's first layer becomes the decoder. Layers above the deepest pair are frozen.
    """

    def __init__(self, model: Any, pairs: Sequence[Pair], decoder: bool) -> None:
        super().__init__()
        config = model.config
        check_pairs(pairs, config.num_hidden_layers, config.hidden_size, "pre-training")
        self.model = model
        self.pairs = list(pairs)
        layers = layers_of(model)
        self.decoder = copy.deepcopy(layers[0]) if decoder else None
        for layer in list(layers)[max(layer for layer, _ in pairs) :]:
            layer.requires_grad_(False)  # several processes cannot train what has no gradient

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        decoder_ids: Tensor | None = None,
        decoder_labels: Tensor | None = None,
        counts: Tensor | None = None,
        processes: int = 1,
    ) -> tuple[Tensor, Tensor]:
        """(batch, tokens) each; labels are -100 where nothing is predicted. Position 0 is [CLS] and never predicted.

        Returns the loss and, without gradient, (sides, pairs) each one's own mean negative log likelihood: MLM and, with a
        decoder, MAE. Means are over predicted tokens: those of this batch or, where the batch is one of several
        `processes`' parts, over `counts` of all parts (of encoder and decoder), times `processes` since DDP averages.
        """
        head = head_of(self.model)
        chosen = labels != UNPREDICTED
        hidden = self.model.base_model(
            input_ids, attention_mask=attention_mask, output_hidden_states=True
        ).hidden_states
        batch, tokens = input_ids.shape
        places = chosen.flatten().nonzero()[:, 0]
        if self.decoder is not None:
            places = torch.cat([torch.arange(batch, device=places.device) * tokens, places])
        transformed = torch.stack(
            [head.transform(hidden[layer].flatten(0, 1)[places, :dim]) for layer, dim in self.pairs]
        )
        goals, sides = [labels[chosen]], [transformed]
        if self.decoder is not None:
            assert decoder_ids is not None and decoder_labels is not None
            sides[0] = transformed[:, batch:]
            sides.append(
                head.transform(self._decode(decoder_ids, attention_mask, decoder_labels, transformed[:, :batch]))
            )
            goals.append(decoder_labels[decoder_labels != UNPREDICTED])
        numbers = [len(goal) for goal in goals]
        if counts is None:
            counts = torch.tensor(numbers, device=labels.device)
        # The mean over none, where a small batch draws no token, is 0.
        means = processes / counts.clamp_min(1).to(head.projection.weight.dtype)
        share = means / (len(sides) * len(self.pairs))
        repeats = torch.tensor([number * len(self.pairs) for number in numbers], device=labels.device)
        loss, rows = vocabulary_loss(
            torch.cat([side.flatten(0, 1) for side in sides]),
            head.projection.weight,
            head.projection.bias,
            torch.cat([goal.repeat(len(self.pairs)) for goal in goals]),
            share.repeat_interleave(repeats),
        )
        parts = torch.split(rows, [number * len(self.pairs) for number in numbers])
        sums = torch.stack(
            [part.view(len(self.pairs), number).sum(dim=1) for part, number in zip(parts, numbers, strict=True)]
        )
        return loss, sums * means[:, None]

    def _decode(self, ids: Tensor, mask: Tensor, labels: Tensor, slots: Tensor) -> Tensor:
        """(batch, tokens) decoder text and its labels, (pairs, batch, H) first positions -> (pairs, predicted, H)."""
        parts = parts_of(self.decoder, self.model.config)
        # Every row's predicted positions, padded to as many as the fullest row has.
        chosen = labels != UNPREDICTED
        most = max(1, int(chosen.sum(dim=1).max()))
        where = torch.argsort((~chosen).to(torch.int8), dim=1, stable=True)[:, :most]
        valid = chosen.gather(1, where)
        inputs = self.model.base_model.embeddings(ids)
        asking = inputs.gather(1, where[..., None].expand(-1, -1, inputs.shape[-1]))
        context = attend_with_first(parts, asking, inputs, mask, slots, self.training)
        kept = context[:, valid]
        given = asking[valid].expand(len(slots), -1, -1)
        return parts.feed_forward(parts.after(kept.to(given.dtype), given))


def attend_with_first(
    parts: LayerParts, asking: Tensor, inputs: Tensor, mask: Tensor, firsts: Tensor, training: bool
) -> Tensor:
    """Self-attention of some positions when the input's first position is, in turn, each of `firsts`.

    asking (batch, m, H), inputs (batch, tokens, H), mask (batch, tokens) 0/1, firsts (n, batch, H) -> (n, batch, m, H).
    With s a position's score of the first one, z the log of the sum over the other positions of exp(score) and o the
    attention among these, attention over all is p v(first) + (1 - p) o with p = sigmoid(s - z).
    """

    def split(states: Tensor) -> Tensor:
        apart = states.view(*states.shape[:-1], parts.heads, -1)
        return apart.transpose(-2, -3)  # (..., heads, positions, H / heads)

    query, key, value = split(parts.query(asking)), split(parts.key(inputs)), split(parts.value(inputs))
    scale = query.shape[-1] ** -0.5
    scores = _full(query @ key.transpose(-1, -2)) * scale
    others = mask.bool().clone()
    others[:, 0] = False
    scores = scores.masked_fill(~others[:, None, None], torch.finfo(scores.dtype).min)
    total = scores.logsumexp(dim=-1, keepdim=True)  # (batch, heads, m, 1)
    rest = F.dropout((scores - total).exp(), parts.dropout, training).to(value.dtype) @ value
    first_key, first_value = (split(linear(firsts)[..., None, :]) for linear in (parts.key, parts.value))
    own = _full((query * first_key).sum(dim=-1, keepdim=True)) * scale  # (n, batch, heads, m, 1)
    part = torch.sigmoid(own - total)
    dropped = F.dropout(part, parts.dropout, training)
    context = (1 - part) * rest + dropped * first_value
    return context.transpose(-2, -3).flatten(-2)


def _full(values: Tensor) -> Tensor:
    """At least float32: sums of exponentials need it."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
