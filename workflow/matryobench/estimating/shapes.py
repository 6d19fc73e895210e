"""The sizes of an encoder that decide what it costs, known without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matryobench.backbones import backbone_settings
from matryobench.config import HubBackbone, PretrainedBackbone
from matryobench.errors import InputError

if TYPE_CHECKING:
    from matryobench.plan import Plan


@dataclass(frozen=True)
class EncoderShape:
    """L layers of width H and inner width I, a vocabulary of V, a table of positions; `types` token types."""

    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int = 2

    def parameters(self, layers: int | None = None) -> int:
        """Parameters of the encoder without a pooler, cut to its first `layers` layers where given."""
        hidden, inner = self.hidden, self.intermediate
        embeddings = (self.vocabulary + self.positions + self.types + 2) * hidden
        layer = 4 * (hidden * hidden + hidden) + 2 * hidden * inner + inner + hidden + 4 * hidden
        return embeddings + (self.layers if layers is None else layers) * layer

    def head_parameters(self) -> int:
        """Parameters of the masked-LM head, whose projection is tied to the word embeddings."""
        return self.hidden * self.hidden + 3 * self.hidden + self.vocabulary


BERT_BASE = EncoderShape(12, 768, 3072, 30522, 512)
PUBLISHED = {
    "google-bert/bert-base-uncased": BERT_BASE,
    "distilbert/distilroberta-base": EncoderShape(6, 768, 3072, 50265, 514, types=1),
}
"""Backbones of the shipped experiments by hub id, from their config.json there, for plans made before a fetch."""


def shape_of(plan: Plan, stand_in: EncoderShape | None = None) -> EncoderShape:
    """The shape of the plan's backbone; `stand_in` where it can only be known after a fetch, InputError without one."""
    backbone = plan.experiment.backbone
    if isinstance(backbone, PretrainedBackbone):
        own, size = backbone.spec.architecture, backbone.spec.vocab_size
        return EncoderShape(own.layers, own.hidden, own.intermediate, size, own.max_length)
    settings = backbone_settings(backbone, plan.experiment.mirror, plan.place)
    if settings is None:
        assert isinstance(backbone, HubBackbone)
        known = PUBLISHED.get(backbone.id, stand_in)
        if known is None:
            raise InputError(
                f"{plan.place}: backbone: the sizes of {backbone.id} are not known before it is fetched; run 'matryobench"
                f" fetch {plan.place}' first."
            )
        return known
    values = []
    for key, other in _KEYS:
        value = settings.get(key, settings.get(other))
        if not isinstance(value, int):
            raise InputError(
                f"{plan.place}: backbone: its config.json has no {key}, which its cost follows from; is it an encoder?"
            )
        values.append(value)
    layers, hidden, intermediate, vocabulary, positions = values
    return EncoderShape(layers, hidden, intermediate, vocabulary, positions, settings.get("type_vocab_size", 2))


# What BERT calls it, what DistilBERT does.
_KEYS = (
    ("num_hidden_layers", "n_layers"),
    ("hidden_size", "dim"),
    ("intermediate_size", "hidden_dim"),
    ("vocab_size", "vocab_size"),
    ("max_position_embeddings", "max_position_embeddings"),
)
