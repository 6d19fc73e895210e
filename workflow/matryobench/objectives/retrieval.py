"""The training objective of a retrieval run: cells x contrastive loss x alignment x weights, on pooled embeddings.

Index convention: hidden_states[0] is the embedding output; layer l in 1..L is hidden_states[l]; dimension d is the
first d coordinates. S(l,d) are the scores of all queries over all passages of the batch; where the documents are fixed
(`documents: last`) the passage side of every S(l,d) is layer L.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from matryobench.objectives.alignment import compress, compression_term, kl_over_coordinates
from matryobench.objectives.recipe import ContrastiveLoss
from matryobench.objectives.scores import contrastive, prefix_scores
from matryobench.objectives.spec import (
    CellGroup,
    Compression,
    CoordinateKL,
    ScoreAlignment,
    ScoreKL,
    SizeGroup,
    Variant,
)
from matryobench.objectives.terms import Side, Terms, Trained, at_least_float32, weighted_layers

Embeddings = Mapping[int, Tensor]


@dataclass(frozen=True)
class _ScoreTerm:
    """One half of an alignment of S(layer, dim) with a teacher's scores, and its whole weight."""

    half: Literal["mse", "kl"]
    layer: int
    dim: int
    weight: float
    teacher: int  # the layer whose scores at full width it is aligned with
    divide: bool


@dataclass(frozen=True)
class RetrievalObjective:
    """One retrieval run's objective.

    `depth` is L and `width` is H of the encoder that is trained (for bert-s, of its truncated encoder). `target_dims`,
    `dim_lists` and `sizes` are the recipe's; `cell` is the run's own (layer, dim), dim None where it has no width.
    `drawn` is the sampled layer of one step (`at`); calling the objective draws it.
    """

    variant: Variant
    base: ContrastiveLoss
    depth: int
    width: int
    target_dims: tuple[int, ...] = ()
    dim_lists: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    cell: tuple[int, int | None] | None = None
    drawn: int | None = None

    def __post_init__(self) -> None:
        assert self.variant.task != "sts", "the plan gives an STS variant its own objective"

    def __call__(
        self, queries: Embeddings, passages: Embeddings, known_positives: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its named, weighted terms (detached); the terms sum to the loss.

        queries: layer -> (Q, H) for every layer in `query_layers()`; passages: layer -> (Q g, H) for every layer in
        `passage_layers()`, those of query i in rows i g .. i g + g - 1, its positive first. known_positives: (Q, Q g)
        bool, needed where the base loss masks false negatives. generator: a CPU generator, the only source of
        randomness (drawn layer, randomised SVD). Evaluated outside autocast, at least in float32.
        """
        if open_draws := self.draws():
            chosen = open_draws[int(torch.randint(len(open_draws), (), generator=generator))]
            return self.at(chosen)(queries, passages, known_positives, generator)
        terms = Terms()
        known = known_positives if self.base.false_negatives == "mask" else None
        assert known is not None or self.base.false_negatives == "keep"
        with torch.autocast(next(iter(queries.values())).device.type, enabled=False):
            queries = {layer: at_least_float32(queries[layer]) for layer in self.query_layers()}
            passages = {layer: at_least_float32(passages[layer]) for layer in self.passage_layers()}
            self._add_score_terms(terms, queries, passages, known)
            self._add_embedding_terms(terms, "query", queries, generator)
            self._add_embedding_terms(terms, "passage", passages, generator)
        return terms.total()

    def draws(self) -> list[int]:
        """The layers that a step may draw, all equally likely; none where nothing is sampled or it is drawn already."""
        sampled = any(isinstance(group, SizeGroup) and group.sizes == "sampled-layer" for group in self.variant.losses)
        return sorted({layer for layer, _ in self.sizes} - {self.depth}) if sampled and self.drawn is None else []

    def at(self, layer: int) -> RetrievalObjective:
        """The objective of a step that drew this layer."""
        return replace(self, drawn=layer)

    def query_layers(self) -> list[int]:
        """Every layer that queries are embedded at in some step, ascending."""
        if open_draws := self.draws():
            return sorted({layer for drawn in open_draws for layer in self.at(drawn).query_layers()})
        layers = {layer for layer, _ in self._cells()} | {layer for layer, *_ in self._compressed("query")}
        for term in self._score_terms():
            layers |= {term.layer, term.teacher}
        if self._coordinate_kls():
            layers |= {self.depth, *(layer for layer, _ in self._students())}
        return sorted(layers)

    def passage_layers(self) -> list[int]:
        """Every layer that passages are embedded at, ascending; with fixed documents only L."""
        return [self.depth] if self.variant.documents == "last" else self.query_layers()

    def coverage(self) -> list[Trained]:
        """Every (layer, dim) that gets gradient, term by term, with its weight; what autograd must agree with."""
        if open_draws := self.draws():
            counts = Counter(one for drawn in open_draws for one in self.at(drawn).coverage())
            return [
                replace(one, probability=count / len(open_draws)) for one, count in sorted(counts.items(), key=_place)
            ]
        found = Counter(self._scored_coverage())
        sides: tuple[Side, ...] = ("query", "passage")
        for side in sides:
            for layer, dim, weight in self._compressed(side):
                found[layer, dim, "compression", weight, side] += 1
            for kl in self._coordinate_kls():
                for layer, dim in self._students(side):
                    found[layer, dim, "kl", kl.weight, side] += 1
                    if not kl.detach_teacher:
                        found[self.depth, dim, "teacher", kl.weight, side] += 1
        return [
            Trained(layer, dim, term, weight * times, 1.0, side)
            for (layer, dim, term, weight, side), times in sorted(found.items())
        ]

    def _scored_coverage(self) -> Iterator[tuple[int, int, str, float, Side]]:
        scored = [(layer, dim, "base", weight) for (layer, dim), weight in self._cells().items()]
        scored += [(term.layer, term.dim, f"score-{term.half}", term.weight) for term in self._score_terms()]
        for layer, dim, name, weight in scored:
            if layer == self._document_layer(layer):
                yield layer, dim, name, weight, "both"
            else:
                yield layer, dim, name, weight, "query"
                yield self._document_layer(layer), dim, name, weight, "passage"

    def _add_score_terms(self, terms: Terms, queries: Embeddings, passages: Embeddings, known: Tensor | None) -> None:
        cells, score_terms = self._cells(), list(self._score_terms())
        last: Tensor | None = None
        # From L downwards, because L's scores may be the teacher of the others.
        for layer in sorted({layer for layer, _ in cells} | {term.layer for term in score_terms} | {self.depth})[::-1]:
            trained = {dim for at, dim in cells if at == layer} | {
                term.dim for term in score_terms if term.layer == layer
            }
            taught = {self.width for term in score_terms if term.teacher == layer}
            if not trained | taught:
                continue
            scores = prefix_scores(
                queries[layer],
                passages[self._document_layer(layer)],
                trained | taught,
                self.base.similarity,
                trained=max(trained, default=0),
            )
            own = scores[self.width].detach() if taught else None
            last = own if layer == self.depth else last
            for (at, dim), weight in cells.items():
                if at == layer:
                    terms.add(f"ce/l{layer}/d{dim}", weight * contrastive(scores[dim], self.base.temperature, known))
            for term in score_terms:
                if term.layer == layer:
                    teacher = own if term.teacher == layer else last
                    assert teacher is not None
                    value = term.weight * self._score_loss(term, scores[term.dim], teacher)
                    terms.add(f"score-{term.half}/l{layer}/d{term.dim}", value)

    def _score_loss(self, term: _ScoreTerm, student: Tensor, teacher: Tensor) -> Tensor:
        if term.half == "mse":
            value = F.mse_loss(student, teacher)
        else:
            value = kl_over_coordinates(student, teacher, self.base.temperature)
        return value / student.numel() if term.divide else value

    def _add_embedding_terms(self, terms: Terms, side: Side, texts: Embeddings, generator: torch.Generator) -> None:
        for alignment in self.variant.alignments:
            if isinstance(alignment, Compression):
                temperature = self.base.temperature if alignment.temperature == "base" else alignment.temperature
                for layer, dims, weight in self._compressed_layers(alignment, side):
                    # The leading k axes of a wider compression are the compression to k: one decomposition for all k.
                    targets = compress(alignment.compress, texts[layer], max(dims), generator)
                    for dim in dims:
                        student, target = texts[layer][:, :dim], targets[:, :dim]
                        value = weight * compression_term(student, target, temperature, alignment.kl_factor)
                        value = value / len(student) if alignment.divide_by_texts else value
                        terms.add(f"{side}-compression/l{layer}/d{dim}", value)
        for kl in self._coordinate_kls():
            for layer, dim in self._students(side):
                teacher = texts[self.depth][:, :dim]
                teacher = teacher.detach() if kl.detach_teacher else teacher
                value = kl_over_coordinates(texts[layer][:, :dim], teacher, kl.temperature)
                terms.add(f"{side}-kl/l{layer}/d{dim}", kl.weight * value)

    def _cells(self) -> dict[tuple[int, int], float]:
        """Cells of the base loss with their weights; a cell that several groups name has the sum."""
        cells: dict[tuple[int, int], float] = {}
        for group in self.variant.losses:
            if isinstance(group, SizeGroup):
                chosen = list(self.sizes) if group.sizes == "all" else self._sampled_cells()
                found = [(layer, dim, 1.0) for layer, dim in chosen]
            else:
                found = [(layer, dim, weight) for layer, weight in self._layers(group) for dim in self._dims(group)]
            for layer, dim, weight in found:
                cells[layer, dim] = cells.get((layer, dim), 0.0) + weight
        return cells

    def _score_terms(self) -> Iterator[_ScoreTerm]:
        for alignment in self.variant.alignments:
            if isinstance(alignment, ScoreAlignment):
                for layer, weight in self._layers(alignment):
                    teacher = layer if alignment.teacher == "own-layer-full" else self.depth
                    for dim in self._dims(alignment):
                        if alignment.mse:
                            yield _ScoreTerm(
                                "mse", layer, dim, weight * alignment.mse, teacher, alignment.divide_by_scores
                            )
                        if alignment.kl:
                            yield _ScoreTerm(
                                "kl", layer, dim, weight * alignment.kl, teacher, alignment.divide_by_scores
                            )
            elif isinstance(alignment, ScoreKL):
                sampled = alignment.students == "sampled-layer"
                full = (self.depth, self.width)
                students = [c for c in self._sampled_cells() if c != full] if sampled else self._students()
                for layer, dim in students:
                    yield _ScoreTerm("kl", layer, dim, alignment.weight, self.depth, False)

    def _compressed(self, side: Side) -> Iterator[tuple[int, int, float]]:
        for alignment in self.variant.alignments:
            if isinstance(alignment, Compression):
                for layer, dims, weight in self._compressed_layers(alignment, side):
                    yield from ((layer, dim, weight) for dim in dims)

    def _compressed_layers(self, alignment: Compression, side: Side) -> Iterator[tuple[int, tuple[int, ...], float]]:
        for layer, weight in self._layers(alignment):
            if side == "query" or layer == self._document_layer(layer):  # fixed documents have no lower layers
                yield layer, self._dims(alignment), weight

    def _coordinate_kls(self) -> list[CoordinateKL]:
        return [alignment for alignment in self.variant.alignments if isinstance(alignment, CoordinateKL)]

    def _students(self, side: Side = "query") -> list[tuple[int, int]]:
        """The sizes but the largest; of fixed documents those at L only."""
        smaller = [size for size in self.sizes if size != (self.depth, self.width)]
        return [size for size in smaller if side == "query" or size[0] == self._document_layer(size[0])]

    def _sampled_cells(self) -> list[tuple[int, int]]:
        """Every size's dim at the drawn layer and at L."""
        assert self.drawn is not None  # calling the objective draws
        return [(layer, dim) for layer in (self.drawn, self.depth) for dim in sorted({dim for _, dim in self.sizes})]

    def _document_layer(self, layer: int) -> int:
        return self.depth if self.variant.documents == "last" else layer

    def _layers(self, group: CellGroup) -> list[tuple[int, float]]:
        return weighted_layers(group, self.depth, self.cell)

    def _dims(self, group: CellGroup) -> tuple[int, ...]:
        match group.dims:
            case "full":
                return (self.width,)
            case "targets":
                return self.target_dims
            case "list":
                assert group.dim_list is not None
                return tuple(self.dim_lists[group.dim_list])
            case "cell":
                assert self.cell is not None and self.cell[1] is not None
                return (self.cell[1],)
            case "nested" | "one-nested" | "target":
                raise AssertionError("the plan gives an STS variant its own objective")


def _place(counted: tuple[Trained, int]) -> tuple[int, int, str, float, str]:
    one = counted[0]
    return one.layer, one.dim, one.term, one.weight, one.side
