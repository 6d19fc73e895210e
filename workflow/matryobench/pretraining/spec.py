"""Settings of pre-training. Nothing here imports torch, so that planning stays fast."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from matryobench.validation import Settings


class Architecture(Settings):
    """A BERT encoder by its sizes."""

    layers: PositiveInt = Field(description="L, number of transformer layers.")
    hidden: PositiveInt = Field(description="H, width of every layer.")
    heads: PositiveInt = Field(description="Attention heads; must divide hidden.")
    intermediate: PositiveInt = Field(description="Width inside the feed-forward blocks.")
    max_length: PositiveInt = Field(128, description="Longest text in tokens (size of the position table).")
    dropout: float = Field(
        0.1, ge=0, lt=1, description="Dropout of hidden states and attention; kept in later training."
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> Architecture:
        if self.hidden % self.heads:
            raise ValueError(f"'heads' ({self.heads}) must divide 'hidden' ({self.hidden})")
        return self


class PretrainSeeds(Settings):
    """Separate seeds of a pre-training."""

    init: int = Field(1, description="Initial weights.")
    data: int = Field(1, description="Order of the text blocks.")
    masking: int = Field(1, description="Which tokens are masked.")
    dropout: int = Field(1, description="Dropout masks.")


class PretrainSpec(Settings):
    """Plain masked-language-model pre-training of a small encoder from scratch."""

    architecture: Architecture = Field(description="Sizes of the encoder.")
    vocab_size: PositiveInt = Field(description="Entries of the WordPiece vocabulary, special tokens included.")
    steps: PositiveInt = Field(description="Optimiser steps.")
    batch_size: PositiveInt = Field(description="Text blocks per step.")
    learning_rate: float = Field(gt=0, description="Peak learning rate of AdamW; linear decay to 0.")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")
    mask_probability: float = Field(0.15, gt=0, lt=1, description="Share of the tokens that are predicted.")
    seeds: PretrainSeeds = Field(PretrainSeeds(), description="Seeds.")
