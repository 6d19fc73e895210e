"""Floating-point operations of passes, searches and losses: a multiplication and an addition count as two.

Matrix products only, as torch.utils.flop_counter counts them; norms, activations and softmaxes are elementwise, and their
time is that of the elements that are moved (`work`). n is a text's number of tokens, H the width, I the inner width, V the
vocabulary, l layers.
"""

from __future__ import annotations

from collections.abc import Sequence

from matryobench.estimating.shapes import EncoderShape
from matryobench.estimating.texts import Texts

BACKWARD = 2.0
"""A backward pass has two products, by inputs and by weights, for each one of the forward pass."""


def forward(shape: EncoderShape, texts: Texts, layers: int) -> float:
    """One pass of texts through the first `layers` layers: per token and layer 8 H^2 + 4 H I for the projections (query,
    key, value, output: 2 H^2 each; two of the feed-forward block: 2 H I each), and 4 H n for scores and context."""
    hidden = shape.hidden
    projections = texts.tokens * (8 * hidden * hidden + 4 * hidden * shape.intermediate)
    return layers * (projections + 4 * hidden * texts.squares)


def training(shape: EncoderShape, texts: Texts, layers: int, recomputed: int = 0) -> float:
    """Forward and backward pass; `recomputed` further forward passes, one each for gradient checkpointing and caching."""
    return forward(shape, texts, layers) * (1 + BACKWARD + recomputed)


def contrastive(queries: float, passages: float, dims: Sequence[int]) -> float:
    """Score matrices of a batch at some widths, forward and backward."""
    return (1 + BACKWARD) * sum(2 * queries * passages * dim for dim in dims)


def search(queries: float, documents: float, width: int) -> float:
    """Scores of all queries over all documents at every width up to `width`: a wider one adds its block to a narrower one."""
    return 2 * queries * documents * width


def masked_lm(
    shape: EncoderShape,
    texts: Texts,
    pairs: Sequence[tuple[int, int]],
    encoder_mask: float,
    decoder_mask: float | None,
) -> float:
    """A step of masked-LM training at (layer, dim) pairs, with SMAE's decoder where `decoder_mask` is given.

    Masks are shares of the tokens that are predicted. Per pair and predicted token the head has 2 d H for its transform and
    2 H V for the vocabulary. The decoder has, once for all pairs, keys and values of every token (4 H^2), queries of
    predicted ones (2 H^2) and their attention (4 H n), and per pair and predicted token 2 H^2 + 4 H I behind the attention.
    """
    hidden, deepest = shape.hidden, max(layer for layer, _ in pairs)
    predicted = texts.tokens * encoder_mask
    transform = 2 * hidden * sum(dim for _, dim in pairs)
    vocabulary = 2 * hidden * shape.vocabulary * len(pairs)
    operations = forward(shape, texts, deepest) + predicted * (transform + vocabulary)
    if decoder_mask is not None:
        answered = texts.tokens * decoder_mask
        operations += texts.count * (transform + 4 * hidden * hidden * len(pairs))  # [CLS]: its state, key and value
        operations += texts.tokens * 4 * hidden * hidden + answered * 2 * hidden * hidden
        operations += 4 * hidden * texts.squares * decoder_mask
        behind = 2 * hidden * hidden + 4 * hidden * shape.intermediate
        operations += answered * (len(pairs) * (behind + 2 * hidden * hidden) + vocabulary)
    return operations * (1 + BACKWARD)
