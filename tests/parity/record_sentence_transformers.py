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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import tiny_model
import torch
import transformers
from sentence_transformers import SentenceTransformer, losses
from sentence_transformers import models as modules

Picks = list[list[int]]


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


def step(
    folder: Path, pooling: str, make: Callable[[SentenceTransformer], torch.nn.Module], scored: bool, picks: Picks
) -> dict[str, Any]:
    """Loss and gradient norms of one training step of a fresh tiny model."""
    model = load(folder, pooling)
    columns, scores = tiny_model.pair_columns() if scored else (tiny_model.triplet_columns(), None)
    loss = make(model)
    with scripted_sample(picks):
        value = loss(tensors(columns), None if scores is None else torch.from_numpy(scores))
    value.backward()
    return {"value": value.item(), "gradient_norms": tiny_model.gradient_norms(model.named_parameters())}


def layer_draws() -> list[tuple[int, int]]:
    """(drawn index, index into hidden_states) of every possible sub-layer, by the installed version's regime."""
    if regime(sentence_transformers.__version__) == "2.5-5.1":
        return [(draw, draw + 1) for draw in range(tiny_model.LAYERS - 1)]
    return [(draw, draw) for draw in range(tiny_model.LAYERS)]


def triplet_cases(folder: Path) -> Iterator[dict[str, Any]]:
    dims = list(tiny_model.DIMS)

    def case(
        loss: str, make: Callable[..., torch.nn.Module], pooling: str = "mean", picks: Picks | None = None, **at: Any
    ):
        return {"loss": loss, "data": "triplets", "pooling": pooling, **at} | step(
            folder, pooling, make, False, picks or []
        )

    mnrl = losses.MultipleNegativesRankingLoss
    for pooling in ("mean", "cls"):
        yield case("MultipleNegativesRankingLoss", lambda m: mnrl(m), pooling, arguments={})
    yield case("MatryoshkaLoss", lambda m: losses.MatryoshkaLoss(m, mnrl(m), dims), arguments={}, dims=dims)
    for number, dim in enumerate(dims):
        one = {"n_dims_per_step": 1}
        yield case(
            "MatryoshkaLoss",
            lambda m: losses.MatryoshkaLoss(m, mnrl(m), dims, **one),
            picks=[[number]],
            arguments=one,
            dims=[dim],
        )

    everything = {"n_layers_per_step": -1}
    yield case("AdaptiveLayerLoss", lambda m: losses.AdaptiveLayerLoss(m, mnrl(m), **everything), arguments=everything,
               layers=[layer for _, layer in layer_draws()])  # fmt: skip
    for draw, layer in layer_draws():
        for arguments in ({}, {"kl_temperature": 0.0}):
            yield case(
                "AdaptiveLayerLoss",
                lambda m: losses.AdaptiveLayerLoss(m, mnrl(m), **arguments),
                picks=[[draw]],
                arguments=arguments,
                layers=[layer],
            )

    def twice(model: SentenceTransformer, **arguments: Any) -> torch.nn.Module:
        return losses.Matryoshka2dLoss(model, mnrl(model), dims, **arguments)

    weightings = ["log", "linear"] if regime(sentence_transformers.__version__) == "5.7-" else []
    for pooling in ("mean", "cls"):
        for draw, layer in layer_draws():
            # All dims at both layers.
            for arguments in [{"n_dims_per_step": -1}] + [
                {"n_dims_per_step": -1, "layer_weighting": rule} for rule in weightings
            ]:
                yield case("Matryoshka2dLoss", lambda m: twice(m, **arguments), pooling, [[draw]], arguments=arguments,
                           layers=[layer], last_dims=dims, sub_dims=dims)  # fmt: skip
            # The library's own defaults: one dim at the last layer and, drawn again, one at the sub-layer.
            for first, second in ((0, 0), (1, 3), (3, draw % len(dims))):
                yield case("Matryoshka2dLoss", twice, pooling, [[first], [draw], [second]], arguments={},
                           layers=[layer], last_dims=[dims[first]], sub_dims=[dims[second]])  # fmt: skip


def pair_cases(folder: Path) -> Iterator[dict[str, Any]]:
    for name in ("CoSENTLoss", "AnglELoss"):
        plain = getattr(losses, name)
        common = {"loss": name, "data": "pairs", "pooling": "mean", "arguments": {}}
        yield common | step(folder, "mean", plain, True, [])
        made = step(folder, "mean", lambda m: losses.MatryoshkaLoss(m, plain(m), list(tiny_model.DIMS)), True, [])
        yield common | {"loss": f"MatryoshkaLoss({name})", "dims": list(tiny_model.DIMS)} | made


class Given(torch.nn.Module):
    """A "model" whose features are the embeddings already."""

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return features


def fixed_cases() -> Iterator[dict[str, Any]]:
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
        yield {"loss": name, "data": "fixed", "shape": list(shape), "value": value.item()} | {
            "gradient": embeddings.grad.tolist()
        }


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    version = sentence_transformers.__version__
    with tempfile.TemporaryDirectory() as work:
        folder = tiny_model.build(Path(work) / "tiny")
        cases = [*triplet_cases(folder), *pair_cases(folder), *fixed_cases()]
    tiny_model.write_recording(
        Path(__file__).parent / "recorded" / f"sentence_transformers-{version}.json",
        "sentence-transformers",
        {"sentence-transformers": version, "transformers": transformers.__version__, "torch": torch.__version__},
        regime(version),
        cases,
    )


if __name__ == "__main__":
    main()
