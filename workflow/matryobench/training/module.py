"""The encoder as a module over token sequences: what the training loop wraps for mixed precision and several devices."""

from __future__ import annotations

from torch import Tensor, nn

from matryobench.models.encoder import Encoder


class AllLayers(nn.Module):
    """The encoder as a module over lists of token sequences, so that mixed precision wraps the whole pass."""

    def __init__(self, encoder: Encoder, tokens_per_forward: int, cache_gradients: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokens_per_forward = tokens_per_forward
        self.cache_gradients = cache_gradients

    def forward(self, texts: list[Tensor], layers: list[int], skips: Tensor | None = None) -> Tensor:
        """n x (tokens,) -> (layers, n, H); skips: (n,) leading tokens that pooling leaves out, see `Encoder.embed`."""
        return self.encoder.embed(texts, layers, self.tokens_per_forward, self.cache_gradients, skips)
