"""Records what the installed sentence-transformers computes on the tiny model, for every forced random choice.

Regenerate, once per version, from the project's root (Python 3.11; the first is the regime of 2.5-5.1, the second of
5.2-5.6, the third of 5.7 and later; see README.md):

    python3 -m venv st && st/bin/pip install torch==2.13.0 sentence-transformers==5.1.2 transformers==4.57.6
    python3 -m venv st && st/bin/pip install torch==2.13.0 sentence-transformers==5.6.1 transformers==5.23.0
    python3 -m venv st && st/bin/pip install torch==2.13.0 sentence-transformers==6.2.0 transformers==5.23.0
    st/bin/python tests/parity/record_sentence_transformers.py

and for the release of the papers' time: torch==2.13.0 sentence-transformers==3.2.1 transformers==4.45.2.
Writes recorded/sentence_transformers-<version>.json. The library is run as it is: only Python's `random.sample`, from
which it draws layers and dims, is replaced while a loss runs, by one that returns the listed choice.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import tiny_model
import torch
import transformers
from sentence_transformers import SentenceTransformer

try:  # the names since 5.4; the older ones warn there
    from sentence_transformers.sentence_transformer import losses, modules
except ImportError:
    from sentence_transformers import losses
    from sentence_transformers import models as modules

Picks = list[list[int]]
Case = dict[str, Any]


@contextmanager
def scripted_sample(picks: Picks) -> Iterator[None]:
    """Makes `random.sample` return `picks` one after the other; all must be valid draws and all must be used."""
    original, remaining = random.sample, list(picks)

    def sample(population: Sequence[int], k: int) -> list[int]:
        chosen = remaining.pop(0)
        assert len(chosen) == k and set(chosen) <= set(population), (chosen, population, k)
        return list(chosen)

    random.sample = sample
    try:
        yield
    finally:
        random.sample = original
    assert not remaining, f"the library did not draw {remaining}"


def regime(version: str) -> str:
    """Which of the three behaviours of AdaptiveLayerLoss a version has."""
    number = tuple(int(part) for part in version.split(".")[:2])
    return "2.5-5.1" if number < (5, 2) else "5.2-5.6" if number < (5, 7) else "5.7-"


def load(folder: Path, pooling: str) -> SentenceTransformer:
    encoder = modules.Transformer(str(folder), max_seq_length=tiny_model.POSITIONS)
    model = SentenceTransformer(
        modules=[encoder, modules.Pooling(tiny_model.HIDDEN, pooling_mode=pooling)], device="cpu"
    )
    return model.train()


def tensors(columns: list[dict[str, np.ndarray]]) -> list[dict[str, torch.Tensor]]:
    return [{name: torch.from_numpy(array) for name, array in column.items()} for column in columns]


def build(model: SentenceTransformer, loss: str, base: str, arguments: dict[str, Any]) -> torch.nn.Module:
    """The library's loss around a base loss, or the base loss alone where `loss` is its name."""
    inner = getattr(losses, base)(model)
    if loss == base:
        return inner
    dims = () if loss == "AdaptiveLayerLoss" else (list(tiny_model.DIMS),)
    return getattr(losses, loss)(model, inner, *dims, **arguments)


def step(
    folder: Path,
    loss: str,
    base: str = "MultipleNegativesRankingLoss",
    pooling: str = "mean",
    picks: Picks | None = None,
    arguments: dict[str, Any] | None = None,
    **at: Any,
) -> Case:
    """One training step of a fresh tiny model: loss and gradient norms. `at` says which cells it trains."""
    model = load(folder, pooling)
    made = build(model, loss, base, arguments or {})
    columns, scores = (tiny_model.triplet_columns(), None) if base.startswith("Multiple") else tiny_model.pair_columns()
    with scripted_sample(picks or []):
        value = made(tensors(columns), None if scores is None else torch.from_numpy(scores))
    value.backward()
    return {
        "loss": loss,
        "base": base,
        "data": "triplets" if scores is None else "pairs",
        "pooling": pooling,
        "arguments": arguments or {},
        **at,
        "value": value.item(),
        "gradient_norms": tiny_model.gradient_norms(model.named_parameters()),
    }


def layer_draws() -> list[tuple[int, int]]:
    """(drawn index, index into hidden_states) of every possible sub-layer, by the installed version's regime."""
    if regime(sentence_transformers.__version__) == "2.5-5.1":
        return [(draw, draw + 1) for draw in range(tiny_model.LAYERS - 1)]
    return [(draw, draw) for draw in range(tiny_model.LAYERS)]


def one_layer_cases(folder: Path) -> Iterator[Case]:
    """Base losses alone, and MatryoshkaLoss around them."""
    dims = list(tiny_model.DIMS)
    for pooling in ("mean", "cls"):
        yield step(folder, "MultipleNegativesRankingLoss", pooling=pooling)
    for number, dim in enumerate(dims):
        yield step(folder, "MatryoshkaLoss", picks=[[number]], arguments={"n_dims_per_step": 1}, dims=[dim])
    yield step(folder, "MatryoshkaLoss", dims=dims)
    for name in ("CoSENTLoss", "AnglELoss"):
        yield step(folder, name, base=name)
        yield step(folder, "MatryoshkaLoss", base=name, dims=dims)


def two_layer_cases(folder: Path) -> Iterator[Case]:
    """AdaptiveLayerLoss and Matryoshka2dLoss, for every sub-layer that can be drawn."""
    dims = list(tiny_model.DIMS)
    yield step(folder, "AdaptiveLayerLoss", arguments={"n_layers_per_step": -1}, layers=[at for _, at in layer_draws()])
    for draw, layer in layer_draws():
        for arguments in ({}, {"kl_temperature": 0.0}):
            yield step(folder, "AdaptiveLayerLoss", picks=[[draw]], arguments=arguments, layers=[layer])
    every = {"n_dims_per_step": -1}
    weighted = [every | {"layer_weighting": rule} for rule in ("log", "linear")]
    newest = regime(sentence_transformers.__version__) == "5.7-"
    for pooling in ("mean", "cls"):
        for draw, layer in layer_draws():
            two: dict[str, Any] = {"loss": "Matryoshka2dLoss", "pooling": pooling, "layers": [layer]}
            # All dims at both layers.
            for arguments in [every, *weighted] if newest else [every]:
                yield step(folder, picks=[[draw]], arguments=arguments, last_dims=dims, sub_dims=dims, **two)
            # The library's own defaults: one dim at the last layer and, drawn again, one at the sub-layer.
            for last, sub in ((0, 0), (1, 3), (3, draw % len(dims))):
                yield step(folder, picks=[[last], [draw], [sub]], last_dims=[dims[last]], sub_dims=[dims[sub]], **two)


class Given(torch.nn.Module):
    """A "model" whose features are the embeddings already."""

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return features


def fixed_cases() -> Iterator[Case]:
    """Base losses on fixed embeddings: value and the gradient of every coordinate, (columns, rows, width)."""
    _, scores = tiny_model.pair_columns()
    for name, shape, labels in (
        ("MultipleNegativesRankingLoss", (3, 6, 12), None),
        ("CoSENTLoss", (2, 8, 12), torch.from_numpy(scores)),
        ("AnglELoss", (2, 8, 12), torch.from_numpy(scores)),
    ):
        embeddings = torch.from_numpy(tiny_model.fixed_embeddings(*shape)).requires_grad_()
        value = getattr(losses, name)(Given())([{"sentence_embedding": column} for column in embeddings], labels)
        value.backward()
        yield {"loss": name, "base": name, "data": "fixed", "shape": list(shape), "value": value.item()} | {
            "gradient": embeddings.grad.tolist()
        }


def all_cases(folder: Path) -> list[Case]:
    return [*one_layer_cases(folder), *two_layer_cases(folder), *fixed_cases()]


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    version = sentence_transformers.__version__
    with tempfile.TemporaryDirectory() as work:
        cases = all_cases(tiny_model.build(Path(work) / "tiny"))
    tiny_model.write_recording(
        Path(__file__).parent / "recorded" / f"sentence_transformers-{version}.json",
        "sentence-transformers",
        {"sentence-transformers": version, "transformers": transformers.__version__, "torch": torch.__version__},
        regime(version),
        cases,
    )


if __name__ == "__main__":
    main()
