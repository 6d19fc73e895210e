"""The parts of a masked-language model that pre-training uses by themselves, the same for every family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

# Model types -> where their masked-LM head is; weights under this name may be missing from a start.
HEADS = {
    "bert": "cls.predictions",
    "roberta": "lm_head",
    "xlm-roberta": "lm_head",
    "camembert": "lm_head",
    "distilbert": "vocab_",
}


@dataclass(frozen=True)
class Head:
    """dense -> activation -> norm (the transform) -> projection to the vocabulary, tied to the word embeddings."""

    dense: nn.Linear
    activation: Callable[[Tensor], Tensor]
    norm: nn.Module
    projection: nn.Linear

    def transform(self, states: Tensor) -> Tensor:
        """(..., d) -> (..., H): of the dense layer only the first d input columns are used."""
        dense = F.linear(states, self.dense.weight[:, : states.shape[-1]], self.dense.bias)
        transformed: Tensor = self.norm(self.activation(dense))
        return transformed


def head_of(model: Any) -> Head:
    """The head of a transformers masked-language model of one of the types in HEADS."""
    match model.config.model_type:
        case "bert":
            head, transform = model.cls.predictions, model.cls.predictions.transform
            return Head(transform.dense, transform.transform_act_fn, transform.LayerNorm, head.decoder)
        case "distilbert":
            return Head(model.vocab_transform, model.activation, model.vocab_layer_norm, model.vocab_projector)
        case _:
            head = model.lm_head
            return Head(head.dense, F.gelu, head.layer_norm, head.decoder)


def layers_of(model: Any) -> nn.ModuleList:
    """The transformer layers, the first one first."""
    base = model.base_model
    layers: nn.ModuleList = (base.transformer if model.config.model_type == "distilbert" else base.encoder).layer
    return layers


@dataclass(frozen=True)
class LayerParts:
    """A transformer layer, taken apart around its attention."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    heads: int
    dropout: float
    after: Callable[[Tensor, Tensor], Tensor]  # (what attention gave, the layer's input) -> normed sum
    feed_forward: Callable[[Tensor], Tensor]  # with its own sum and norm


def parts_of(layer: Any, config: Any) -> LayerParts:
    """The parts of a transformer layer of one of the types in HEADS."""
    attention = layer.attention
    if config.model_type == "distilbert":
        return LayerParts(
            attention.q_lin,
            attention.k_lin,
            attention.v_lin,
            config.n_heads,
            config.attention_dropout,
            lambda context, given: layer.sa_layer_norm(attention.out_lin(context) + given),
            lambda states: layer.output_layer_norm(layer.ffn(states) + states),
        )
    own = attention.self
    return LayerParts(
        own.query,
        own.key,
        own.value,
        config.num_attention_heads,
        config.attention_probs_dropout_prob,
        attention.output,
        layer.feed_forward_chunk,
    )
