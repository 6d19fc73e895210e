"""What the parity tests share: recordings, the tiny model's pooled layers, and the comparison with its tolerances.

The forward pass and the pooling here are plain transformers and torch, so that only the objective is under test.
Index convention: hidden_states[0] is the embedding output; layer l in 1..L is hidden_states[l].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny_model
import torch
from torch import Tensor

from matryobench.objectives.base import base_terms
from matryobench.objectives.objective import Objective
from matryobench.objectives.recipe import BaseLoss
from matryobench.objectives.spec import Variant

LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4

Case = dict[str, Any]


@cache
def recording(name: str) -> dict[str, Any]:
    """recorded/<name>.json, after a check that it was made from this tiny model and these batches."""
    record: dict[str, Any] = json.loads(
        (Path(__file__).parent / "recorded" / f"{name}.json").read_text(encoding="utf-8")
    )
    assert record["inputs"] == tiny_model.fingerprint(), f"{name} was recorded from other inputs; record it again"
    return record


def named(case: Case) -> str:
    """A short id of a case for pytest."""
    parts = [case["loss"], *(f"{key}={case[key]}" for key in NAMED if case.get(key))]
    return " ".join(str(part) for part in parts).replace("'", "").replace(" ", "_")


NAMED = ("base", "format", "pooling", "layers", "dims", "last_dims", "sub_dims", "sizes", "arguments", "settings")


class Tiny:
    """The tiny model, its gradients set to zero before every forward pass."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel

        self.model = AutoModel.from_pretrained(folder).float().train()

    def pooled(self, columns: Sequence[dict[str, Any]], pooling: str) -> dict[int, Tensor]:
        """Layer -> (columns, B, H) pooled embeddings, for every layer 0..L."""
        self.model.zero_grad(set_to_none=True)
        layers: list[list[Tensor]] = [[] for _ in range(tiny_model.LAYERS + 1)]
        for column in columns:
            ids, mask = torch.from_numpy(column["input_ids"]), torch.from_numpy(column["attention_mask"])
            states = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
            weights = mask[..., None].float()
            for found, state in zip(layers, states, strict=True):
                mean = (state * weights).sum(dim=1) / weights.sum(dim=1)
                found.append(state[:, 0] if pooling == "cls" else mean)
        return {layer: torch.stack(found) for layer, found in enumerate(layers)}

    def step(self, objective: Objective, case: Case, layer: int | None = None, dims: Sequence[int | None] = ()) -> Case:
        """Value and gradient norms of the objective on the case's batch, with the given sampled layer and widths."""
        from matryobench.objectives.objective import Draw

        scored = case["data"] == "pairs"
        columns, scores = tiny_model.pair_columns() if scored else (tiny_model.triplet_columns(), None)
        widths = tuple(dims) or (None,) * len(objective.variant.losses)
        assert Draw(layer, widths) in objective.draws()
        loss, terms = objective.evaluate(
            Draw(layer, widths),
            self.pooled(columns, case["pooling"]),
            None if scores is None else torch.from_numpy(scores),
            torch.Generator().manual_seed(0),
        )
        assert sum(value.item() for value in terms.values()) == pytest.approx(loss.item(), rel=1e-5)
        loss.backward()
        return {"value": loss.item(), "gradient_norms": tiny_model.gradient_norms(self.model.named_parameters())}


def objective(variant: Variant, base: BaseLoss, **settings: Any) -> Objective:
    """The variant on the tiny model."""
    return Objective(variant=variant, base=base, depth=tiny_model.LAYERS, width=tiny_model.HIDDEN, **settings)


def changed(variant: Variant, change: Callable[[dict[str, Any]], None]) -> Variant:
    """The variant after `change` edited its settings."""
    settings = variant.model_dump()
    change(settings)
    return Variant.model_validate(settings)


def assert_same(case: Case, measured: Case) -> None:
    """Loss and every gradient norm agree within the tolerances."""
    assert measured["value"] == pytest.approx(case["value"], rel=LOSS_TOLERANCE)
    assert dict(flat(measured)) == pytest.approx(dict(flat(case)), rel=GRADIENT_TOLERANCE)


def flat(case: Case) -> Iterator[tuple[str, float]]:
    norms = case["gradient_norms"]
    yield "word_embeddings", norms["word_embeddings"]
    yield "embeddings", norms["embeddings"]
    yield from ((f"layer {number}", norm) for number, norm in enumerate(norms["layers"], start=1))


def assert_same_on_fixed(case: Case, loss: Callable[[list[Tensor]], Tensor]) -> None:
    """Value and the gradient of every coordinate agree on the fixed embeddings of the case's shape."""
    columns = torch.from_numpy(tiny_model.fixed_embeddings(*case["shape"])).requires_grad_()
    value = loss(list(columns))
    value.backward()
    assert value.item() == pytest.approx(case["value"], rel=LOSS_TOLERANCE)
    expected = torch.tensor(case["gradient"])
    assert columns.grad is not None
    error = (columns.grad - expected).norm() / expected.norm()
    assert error.item() < GRADIENT_TOLERANCE


def base_sum(columns: list[Tensor], scores: Tensor | None, base: BaseLoss) -> Tensor:
    """The base loss as one number."""
    return torch.stack(list(base_terms(columns, scores, base).values())).sum()
