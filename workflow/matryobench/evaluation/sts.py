"""STS over the whole grid: every distinct text of all test sets encoded once, every layer, every width as a prefix.

Scores are Spearman's correlation between the gold scores and the cosine similarity of the first d coordinates.
Layer l in 1..L is hidden_states[l].
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matryobench.data.tokens import Tokens
from matryobench.errors import InputError
from matryobench.grid import Cell
from matryobench.models.encoder import Encoder, default_tokens_per_forward, length_batches

if TYPE_CHECKING:
    from matryobench.evaluation.results import Score

METRIC = "spearman_cosine"

PASSES = 64
"""Forward passes of the encoder between two reports of progress."""


@dataclass(frozen=True)
class SetResult:
    """One test set on every cell: spearman (cells,) in the cells' order; similarities (cells, n) float32."""

    dataset: str
    cells: list[Cell]
    spearman: NDArray[np.float64]
    similarities: NDArray[np.float32]
    task = "sts"

    def scores(self) -> Iterator[Score]:
        """metric, query layer, layer, dim, value and number of pairs of every cell."""
        for (layer, dim), value in zip(self.cells, self.spearman, strict=True):
            yield METRIC, layer, layer, dim, float(value), self.similarities.shape[1]


def distinct_texts(sets: Mapping[str, Tokens]) -> tuple[list[Tensor], dict[str, NDArray[np.int64]]]:
    """All distinct token sequences of some sets, and per set its (n, 2) pairs as numbers into that list."""
    known: dict[bytes, int] = {}
    texts: list[Tensor] = []
    pairs = {}
    for name, tokens in sets.items():
        numbers = np.empty(tokens.texts, dtype=np.int64)
        for index in range(tokens.texts):
            text = tokens.text(index)
            numbers[index] = known.setdefault(text.numpy().tobytes(), len(texts))
            if numbers[index] == len(texts):
                texts.append(text)
        pairs[name] = numbers[tokens.rows.numpy()]
    return texts, pairs


@torch.inference_mode()
def encode(
    encoder: Encoder,
    texts: Sequence[Tensor],
    layers: Sequence[int],
    tokens_per_forward: int,
    progress: bool,
    skips: Sequence[int] | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """n x (tokens,) -> (layers, n, H) float32, every text passed once through the encoder, longest first.

    `skips`: leading tokens of each text that pooling leaves out. `out` is filled where it is given (it may be memory-mapped).
    """
    lengths = [len(text) for text in texts]
    order = sorted(range(len(texts)), key=lambda index: -lengths[index])
    if out is None:
        out = np.empty((len(layers), len(texts), encoder.width), dtype=np.float32)
    batches = length_batches([lengths[index] for index in order], tokens_per_forward)
    bar: Any = None
    if progress and sys.stderr.isatty():
        from tqdm import tqdm

        bar = tqdm(total=len(texts), desc="encode", unit="text")
    for first in range(0, len(batches), PASSES):
        group = batches[first : first + PASSES]
        chosen = order[group[0].start : group[-1].stop]
        left_out = None if skips is None else [skips[index] for index in chosen]
        pooled = encoder.embed([texts[index] for index in chosen], layers, tokens_per_forward, skips=left_out)
        out[:, chosen] = pooled.float().cpu().numpy()
        if bar is not None:
            bar.update(len(chosen))
    if bar is not None:
        bar.close()
    return out


def prefix_cosines(left: NDArray[np.float32], right: NDArray[np.float32], dims: Sequence[int]) -> NDArray[np.float64]:
    """Cosine similarity of n pairs at several widths: (n, H), (n, H), ascending dims -> (dims, n).

    Products and squared norms of width d are those of the width before plus one block, summed in float64.
    """
    first, second = left.astype(np.float64), right.astype(np.float64)
    starts = [0, *dims[:-1]]

    def blocks(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.cumsum(np.add.reduceat(values[:, : dims[-1]], starts, axis=1), axis=1).T  # (dims, n)

    products, squares = blocks(first * second), blocks(first * first) * blocks(second * second)
    with np.errstate(invalid="ignore", divide="ignore"):  # a zero vector gives NaN, which the caller refuses
        cosines: NDArray[np.float64] = products / np.sqrt(squares)
    return cosines


def evaluate_sts(
    encoder: Encoder,
    sets: Mapping[str, Tokens],
    cells: Sequence[Cell],
    progress: bool = True,
) -> list[SetResult]:
    """Scores every cell on every set from one encoding.

    Raises InputError where a similarity is not a number, or a set's similarities or gold scores are all equal, since
    then no rank correlation exists.
    """
    encoder.eval()
    layers = sorted({layer for layer, _ in cells})
    dims = {layer: sorted({dim for at, dim in cells if at == layer}) for layer in layers}
    texts, pairs = distinct_texts(sets)
    device = next(encoder.parameters()).device
    embeddings = encode(encoder, texts, layers, default_tokens_per_forward(device), progress)
    results = []
    for name, tokens in sets.items():
        assert tokens.scores is not None  # scored pairs, checked by the plan
        gold = tokens.scores.numpy()
        if len(gold) < 2 or np.all(gold == gold[0]):
            raise InputError(f"{name}: all gold scores are equal, so there is no rank correlation; use another set.")
        first, second = pairs[name][:, 0], pairs[name][:, 1]
        similarity = {
            (layer, dim): cosines
            for position, layer in enumerate(layers)
            for dim, cosines in zip(
                dims[layer],
                prefix_cosines(embeddings[position][first], embeddings[position][second], dims[layer]),
                strict=True,
            )
        }
        # Ranked in the float32 that is kept, so that the kept similarities give exactly the reported numbers.
        kept = np.stack([similarity[cell] for cell in cells]).astype(np.float32)
        results.append(SetResult(name, list(cells), _spearman(gold, kept, name, cells), kept))
    return results


def _spearman(
    gold: NDArray[np.float64], similarities: NDArray[np.float32], name: str, cells: Sequence[Cell]
) -> NDArray[np.float64]:
    """Spearman of the gold scores with every row of (cells, n), as scipy.stats.spearmanr."""
    from scipy.stats import rankdata

    for cell, row in zip(cells, similarities, strict=True):
        if not np.isfinite(row).all():
            raise InputError(f"{name}: cell {cell} has a similarity that is not a number; is the model damaged?")
        if np.all(row == row[0]):
            raise InputError(f"{name}: all similarities are equal at cell {cell}; the cell does not see the texts.")
    ranks = rankdata(np.concatenate([gold[None], similarities]), axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    ranks /= np.linalg.norm(ranks, axis=1, keepdims=True)
    correlations: NDArray[np.float64] = ranks[1:] @ ranks[0]
    return correlations
