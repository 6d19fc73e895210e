"""Gradient caching gives the loss and gradients of the whole batch and keeps less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from matryobench.models.folders import load_encoder
from matryobench.objectives.recipe import ContrastiveLoss
from matryobench.objectives.registry import load_methods
from matryobench.objectives.retrieval import RetrievalObjective


def texts() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """5 queries and 15 passages of different lengths."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(3, 12, (20,), generator=generator).tolist()
    drawn = [torch.randint(5, 20, (length,), generator=generator) for length in lengths]
    return drawn[:5], drawn[5:]


def objective(encoder: Any) -> RetrievalObjective:
    """2DMSE with alignment: its compression sees the whole batch at once."""
    variant = load_methods()["2dmse"].variants["paper"]
    return RetrievalObjective(
        variant=variant, base=ContrastiveLoss(loss="contrastive"), depth=encoder.depth, width=encoder.width,
        target_dims=(2, 4),  # no more than the rank of five centred queries: beyond it axes are arbitrary
    )  # fmt: skip


def step(module: Any, objective: RetrievalObjective, queries: list[Any], passages: list[Any]) -> torch.Tensor:
    layers = objective.query_layers()
    sides = module([*queries, *passages], layers).tensor_split([len(queries)], dim=1)
    asked, found = (dict(zip(layers, side, strict=True)) for side in sides)
    return objective(asked, found, None, torch.Generator().manual_seed(1))[0]


def test_gradient_caching_equals_the_whole_batch_with_dropout_and_keeps_less(tiny_bert: Path) -> None:
    from matryobench.training.module import AllLayers

    queries, passages = texts()
    results = []
    for cached in (False, True):
        encoder = load_encoder(tiny_bert, "mean").double().train()
        torch.manual_seed(5)
        kept: list[int] = []

        def pack(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = step(AllLayers(encoder, 32, cached), objective(encoder), queries, passages)
        held = sum(kept)
        loss.backward()
        gradients = {name: value.grad for name, value in encoder.named_parameters() if value.grad is not None}
        results.append((loss.item(), gradients, held))
    (loss, gradients, held), (cached_loss, cached_gradients, cached_held) = results
    assert cached_loss == pytest.approx(loss, abs=1e-12)
    assert set(gradients) == set(cached_gradients)
    for name, value in gradients.items():
        torch.testing.assert_close(cached_gradients[name], value, rtol=1e-10, atol=1e-12)
    assert cached_held < held / 5
