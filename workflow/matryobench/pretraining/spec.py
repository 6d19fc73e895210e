"""Settings of pre-training. Nothing here imports torch, so that planning stays fast."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from matryobench.grid import Cell
from matryobench.tasks import Training
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

    init: int = Field(1, description="Initial weights; of a start that has no masked-LM head, the head's.")
    data: int = Field(1, description="Order of the texts.")
    masking: int = Field(1, description="Where long texts are cut, which tokens are masked, and by what.")
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
    whole_words: bool = Field(False, description="Mask whole words; no: every token is drawn by itself.")
    seeds: PretrainSeeds = Field(PretrainSeeds(), description="Seeds.")


class ContinueSpec(Settings):
    """Pre-training that goes on from a finished encoder: SMAE (Starbucks, arXiv 2410.13230) or plain masked LM.

    The defaults are those of the released SMAE script, apart from the sizes, which the task or `sizes` gives.
    """

    objective: Literal["smae", "mlm"] = Field(
        "smae",
        description="smae: masked LM at every size and a masked auto-encoder on its [CLS]; mlm: the full size alone.",
    )
    text: str = Field(description="Dataset of kind text, from config/datasets.yaml.")
    sizes: dict[str, Cell] | list[str] = Field(
        {}, description="Named (layer, dim) sizes of smae, or names only, which are spread over the backbone."
    )
    max_length: int = Field(
        512, ge=3, description="Tokens of a text, special tokens included; a longer one is cut at a random place."
    )
    whole_words: bool = Field(True, description="Mask whole words; no: every token is drawn by itself.")
    encoder_mask: float = Field(0.2, gt=0, lt=1, description="Share of the tokens that the encoder predicts.")
    decoder_mask: float = Field(0.4, gt=0, lt=1, description="The same for the decoder; its words include the former.")
    training: Training = Field(description="The training loop; batch_size counts texts per micro-batch.")
    seeds: PretrainSeeds = Field(PretrainSeeds(), description="Seeds.")

    @model_validator(mode="after")
    def _nested(self) -> ContinueSpec:
        if self.objective == "smae" and self.decoder_mask < self.encoder_mask:
            raise ValueError(
                f"'decoder_mask' ({self.decoder_mask}) is below 'encoder_mask' ({self.encoder_mask}), whose words it includes"
            )
        if (self.objective == "smae") != bool(self.sizes):
            raise ValueError("'sizes' is needed exactly with objective smae; plain mlm has the full size alone")
        return self
