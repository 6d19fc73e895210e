"""Retrieval objectives of every variant on small random embeddings, for the tests of what they compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from matryobench.objectives.recipe import ContrastiveLoss
from matryobench.objectives.registry import load_methods
from matryobench.objectives.retrieval import RetrievalObjective

L, H, Q, G = 4, 16, 6, 3
N = Q * G
TARGETS = (4, 8)
LISTS = {"two": (2, 8), "four": (2, 4, 8, 12), "six": (1, 2, 4, 8, 10, 12), "seven": (1, 2, 3, 4, 8, 10, 12)}
SIZES = ((1, 2), (2, 4), (3, 8), (4, 16))
DRAWN = 2  # the sampled layer, where one is
METHODS = load_methods()
VARIANTS = [
    (method, name)
    for method, entry in METHODS.items()
    if "retrieval" in entry.tasks
    for name, variant in entry.variants.items()
    if variant.task != "sts"
]
each_variant = pytest.mark.parametrize(("method", "variant"), VARIANTS)


def base(**changes: Any) -> ContrastiveLoss:
    return ContrastiveLoss.model_validate({"loss": "contrastive", **changes})


def objective(method: str, variant: str, settings: ContrastiveLoss | None = None, **changes: Any) -> RetrievalObjective:
    definition = METHODS[method].variants[variant]
    given = {
        "depth": L, "width": H, "target_dims": TARGETS, "dim_lists": LISTS, "sizes": SIZES,
        "cell": {"one": None, "per-layer": (L, None), "per-cell": (L, 4)}[definition.runs],
    }  # fmt: skip
    chosen = RetrievalObjective(variant=definition, base=settings or base(), **{**given, **changes})
    return chosen.at(DRAWN) if chosen.draws() else chosen


def sides(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Layer -> embeddings of queries and of passages; not of layer 0, which no variant trains."""
    source = generator(seed)
    queries, passages = (
        {
            layer: torch.randn(rows, H, generator=source, dtype=torch.float64).to(dtype).requires_grad_()
            for layer in range(1, L + 1)
        }
        for rows in (Q, N)
    )
    return queries, passages


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
