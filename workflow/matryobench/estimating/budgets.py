"""How much memory a job takes at its peak, and how it cuts its texts into passes: constants with where they are from."""

from __future__ import annotations

import math

from matryobench.estimating.shapes import EncoderShape
from matryobench.estimating.work import Start

MEGABYTE = 2**20
RESIDENT: dict[Start, float] = {"light": 90, "tables": 230, "figures": 300, "model": 480, "mteb": 700}
"""MiB of a started job before it has data: the smallest maxima of the demo's jobs."""
ACTIVATION_BYTES = 190
"""Bytes per token, layer and unit of width that a training step in float32 keeps for its backward pass: the slope of peak
memory over the layers of MiniLM's truncated runs is 175 (STS) to 198 (retrieval)."""
HALF_ACTIVATIONS = 0.6
"""Share of that under autocast: products in 16 bits, norms and softmaxes in 32."""
STATE_BYTES = 16
"""Weights, gradients and both moments of AdamW, in float32."""
PADDING = 1.05
"""Padded tokens per token where texts are sorted by length and cut into passes."""
UNSORTED = 1.35
"""The same where a library pads a batch as it comes: the reference backends took so much longer on MiniLM."""


def tokens_per_forward(gpu: bool, setting: int | None) -> int:
    """As `models.encoder.default_tokens_per_forward`, which cannot be asked without loading torch."""
    return setting or (16384 if gpu else 1024)


def passes(tokens: float, budget: int) -> int:
    """Forward passes that so many padded tokens are cut into."""
    return max(1, math.ceil(tokens / budget))


def training_bytes(
    shape: EncoderShape, layers: int, parameters: float, tokens: float, one_pass: float, half: bool, keeps: str
) -> float:
    """Bytes of a training step: state, and activations of `tokens` of a micro-batch, `one_pass` of them at a time.

    keeps: "all" activations, "layers" (gradient checkpointing: each layer's input, and one layer inside) or "pass"
    (gradient caching: those of one pass).
    """
    per_layer = ACTIVATION_BYTES * shape.hidden * (HALF_ACTIVATIONS if half else 1)
    one_pass = min(one_pass, tokens)
    match keeps:
        case "layers":
            kept = tokens * layers * 4 * shape.hidden + one_pass * per_layer
        case "pass":
            kept = one_pass * layers * per_layer
        case _:
            kept = tokens * layers * per_layer
    return STATE_BYTES * parameters + kept
