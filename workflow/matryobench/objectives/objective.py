"""The training objective of a run: cells x base loss x alignment x weights, evaluated on pooled embeddings.

Index convention: hidden_states[0] is the embedding output; layer l in 1..L is hidden_states[l]; dimension d is the
first d coordinates.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from matryobench.objectives.alignment import compress, compression_term, kl_over_coordinates
from matryobench.objectives.base import base_terms
from matryobench.objectives.recipe import BaseLoss
from matryobench.objectives.spec import CellGroup, Compression, CoordinateKL, LayerGroup, SizeGroup, Variant
from matryobench.objectives.terms import Terms, Trained, at_least_float32, weighted_layers

__all__ = ["Draw", "Objective", "Trained"]


@dataclass(frozen=True)
class Draw:
    """What one step drew: the sampled layer, and a width for each group of losses (None where nothing is drawn)."""

    layer: int | None
    dims: tuple[int | None, ...]


@dataclass(frozen=True)
class Objective:
    """One STS run's objective.

    `depth` is L and `width` is H of the encoder that is trained (for bert-s, of its truncated encoder). `nested_dims`,
    `target_dim` and `sizes` are the recipe's; `cell` is the run's own (layer, dim), dim None where it has no width.
    """

    variant: Variant
    base: BaseLoss
    depth: int
    width: int
    nested_dims: tuple[int, ...] = ()
    target_dim: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    cell: tuple[int, int | None] | None = None

    def __call__(
        self, pooled: Mapping[int, Tensor], scores: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its named, weighted terms (detached); the terms sum to the loss.

        pooled: layer -> (columns, B, H) pooled embeddings of every layer in `layers()`; scores: (B,) or None;
        generator: a CPU generator, the only source of randomness (drawn layer and widths, randomised SVD).
        """
        draws = self.draws()
        draw = draws[int(torch.randint(len(draws), (), generator=generator))]
        return self.evaluate(draw, pooled, scores, generator)

    def evaluate(
        self, draw: Draw, pooled: Mapping[int, Tensor], scores: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As calling the objective, for a given draw; the generator then only seeds randomised SVDs."""
        terms = Terms()
        embeddings = {layer: at_least_float32(pooled[layer]) for layer in self._step_layers(draw)}
        for layer, dim, weight in self._base_cells(draw):
            columns = list(embeddings[layer][..., :dim])  # columns x (B, d)
            for name, value in base_terms(columns, scores, self.base).items():
                terms.add(f"{name}/l{layer}/d{dim}", weight * value)
        # Alignments see all texts of the batch as one set, whatever their column.
        texts = {layer: stack.flatten(0, 1) for layer, stack in embeddings.items()}  # (columns B, H)
        for alignment in self.variant.alignments:
            if isinstance(alignment, CoordinateKL):
                for layer, dim in self._students(alignment, draw):
                    teacher = texts[self.depth][:, :dim]
                    teacher = teacher.detach() if alignment.detach_teacher else teacher
                    value = kl_over_coordinates(texts[layer][:, :dim], teacher, alignment.temperature)
                    terms.add(f"kl/l{layer}/d{dim}", alignment.weight * value)
            elif isinstance(alignment, Compression):
                assert alignment.temperature != "base"  # the spec keeps it to retrieval
                for layer, weight in self._weighted_layers(alignment, draw):
                    target = compress(alignment.compress, texts[layer], self._target(), generator)
                    value = compression_term(
                        texts[layer][:, : self._target()], target, alignment.temperature, alignment.kl_factor
                    )
                    terms.add(f"compression/l{layer}/d{self._target()}", weight * value)
        return terms.total()

    def draws(self) -> list[Draw]:
        """What a step may draw, all equally likely: a layer where one is sampled, a width for each one-nested group."""
        first = self.variant.sample_from
        layers = [None] if first is None else list(range(first, self.depth))
        widths = [
            self.nested_dims if isinstance(group, CellGroup) and group.dims == "one-nested" else (None,)
            for group in self.variant.losses
        ]
        return [Draw(layer, dims) for layer in layers for dims in itertools.product(*widths)]

    def layers(self) -> list[int]:
        """Every layer that some step may need, ascending."""
        return sorted({layer for draw in self.draws() for layer in self._step_layers(draw)})

    def coverage(self) -> list[Trained]:
        """Every (layer, dim) that gets gradient, term by term, with its weight; what autograd must agree with."""
        draws = self.draws()
        found: dict[tuple[int, int, str, float], float] = {}
        for draw in draws:
            for (layer, dim, term, weight), times in self.step_coverage(draw).items():
                key = layer, dim, term, weight * times
                found[key] = found.get(key, 0.0) + 1 / len(draws)
        return [Trained(*key, probability=min(share, 1.0)) for key, share in sorted(found.items())]

    def step_coverage(self, draw: Draw) -> Counter[tuple[int, int, str, float]]:
        """(layer, dim, term, weight) of all that gets gradient in a step with this draw, and how often."""
        covered = Counter((layer, dim, "base", weight) for layer, dim, weight in self._base_cells(draw))
        for alignment in self.variant.alignments:
            if isinstance(alignment, CoordinateKL):
                for layer, dim in self._students(alignment, draw):
                    covered[layer, dim, "kl", alignment.weight] += 1
                    if not alignment.detach_teacher:
                        covered[self.depth, dim, "teacher", alignment.weight] += 1
            elif isinstance(alignment, Compression):
                for layer, weight in self._weighted_layers(alignment, draw):
                    covered[layer, self._target(), "compression", weight] += 1
        return covered

    def _step_layers(self, draw: Draw) -> set[int]:
        layers = {layer for layer, *_ in self.step_coverage(draw)}
        return layers | ({self.depth} if any(isinstance(a, CoordinateKL) for a in self.variant.alignments) else set())

    def _base_cells(self, draw: Draw) -> Iterator[tuple[int, int, float]]:
        for group, drawn in zip(self.variant.losses, draw.dims, strict=True):
            if isinstance(group, SizeGroup):
                yield from ((layer, dim, 1.0) for layer, dim in self.sizes)
            else:
                for layer, weight in self._weighted_layers(group, draw):
                    for dim in self._dims(group) if drawn is None else (drawn,):
                        yield layer, dim, weight

    def _weighted_layers(self, group: LayerGroup, draw: Draw) -> list[tuple[int, float]]:
        sampled = None
        if draw.layer is not None and self.variant.sample_from is not None:
            sampled = self.variant.sample_from, draw.layer
        return weighted_layers(group, self.depth, self.cell, sampled)

    def _dims(self, group: CellGroup) -> tuple[int, ...]:
        match group.dims:
            case "full":
                return (self.width,)
            case "nested" | "one-nested":
                return self.nested_dims
            case "target":
                return (self._target(),)
            case "cell":
                assert self.cell is not None and self.cell[1] is not None
                return (self.cell[1],)
            case "targets" | "list":
                raise AssertionError("a retrieval variant has an objective of its own")

    def _students(self, alignment: CoordinateKL, draw: Draw) -> list[tuple[int, int]]:
        if alignment.students == "sizes":
            return [size for size in self.sizes if size != (self.depth, self.width)]
        assert draw.layer is not None
        return [(draw.layer, self.width)]

    def _target(self) -> int:
        assert self.target_dim is not None
        return self.target_dim
