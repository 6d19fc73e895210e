"""What every objective is composed of: weighted layers, named terms that sum to the loss, declared gradient coverage.

Index convention: hidden_states[0] is the embedding output; layer l in 1..L is hidden_states[l]; dimension d is the
first d coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from matryobench.objectives.spec import LayerGroup

Side = Literal["both", "query", "passage"]


@dataclass(frozen=True)
class Trained:
    """Coordinates 0..dim-1 of a layer that a term sends gradient to, with its weight and how often it is drawn.

    `side` is where in retrieval: the embeddings of queries, of passages, or of both; in STS there is no such difference.
    """

    layer: int
    dim: int
    term: str  # "base", "kl", "compression", "teacher", "score-mse" or "score-kl"
    weight: float
    probability: float
    side: Side = "both"


class Terms:
    """Weighted terms of a loss by name, e.g. ce/l3/d128; terms of one name are added up."""

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Adds a weighted term, a scalar tensor."""
        self._values[name] = self._values[name] + value if name in self._values else value

    def total(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its terms detached from the graph for telemetry."""
        loss = torch.stack(list(self._values.values())).sum()
        return loss, {name: value.detach() for name, value in self._values.items()}


def at_least_float32(embeddings: Tensor) -> Tensor:
    """Half precision becomes float32, in which every term is evaluated; float64 stays (exact checks)."""
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def weighted_layers(
    group: LayerGroup,
    depth: int,
    cell: tuple[int, int | None] | None = None,
    sampled: tuple[int, int] | None = None,
) -> list[tuple[int, float]]:
    """The group's layers with their weights.

    depth: L; cell: the run's own one; sampled: lowest layer that may be drawn, and the drawn one.
    """
    match group.layers:
        case "last":
            first, chosen = depth, [depth]
        case "below-last":
            first, chosen = 1, list(range(1, depth))
        case "input-to-second-last":
            first, chosen = 0, list(range(depth - 1))
        case "sampled":
            assert sampled is not None
            first, chosen = sampled[0], [sampled[1]]
        case "cell":
            assert cell is not None
            first, chosen = cell[0], [cell[0]]
    share = 1 / len(chosen) if group.average and chosen else 1.0
    return [(layer, _layer_weight(group.weights, layer - first) * share) for layer in chosen]


def _layer_weight(rule: str, position: int) -> float:
    match rule:
        case "log":
            return 1 / (1 + math.log(1 + position))
        case "linear":
            return 1 / (1 + position)
        case _:
            return 1.0
