"""Retrieval objectives: every variant against a direct float64 evaluation of its formula and that formula's gradients,
and declared gradient coverage against autograd."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from retrieval_cases import (
    DRAWN,
    LISTS,
    SIZES,
    TARGETS,
    VARIANTS,
    G,
    H,
    L,
    N,
    Q,
    base,
    each_variant,
    generator,
    objective,
    sides,
)
from torch import Tensor

from matryobench.objectives.recipe import ContrastiveLoss


class Formula:
    """The terms of the papers on materialised products: (layers, Q, N, H), summed over the first d coordinates."""

    def __init__(
        self, queries: dict[int, Tensor], passages: dict[int, Tensor], settings: ContrastiveLoss, fixed: bool = False
    ) -> None:
        self.sides = queries, passages
        self.settings = settings
        stacked = [torch.stack([side[layer] for layer in range(1, L + 1)]) for side in (queries, passages)]
        if fixed:
            stacked[1] = stacked[1][-1:].expand(L, N, H)
        self.stacked = stacked

    def scores(self, layer: int, dim: int) -> Tensor:
        queries, passages = (side[layer - 1][:, :dim] for side in self.stacked)
        if self.settings.similarity == "cosine":
            queries, passages = (rows / rows.pow(2).sum(1, keepdim=True).sqrt() for rows in (queries, passages))
        return torch.einsum("qh,dh->qdh", queries, passages).sum(-1)

    def ce(self, layer: int, dim: int) -> Tensor:
        scores = self.scores(layer, dim) / self.settings.temperature
        return sum(scores[i].exp().sum().log() - scores[i, i * G] for i in range(Q)) / Q

    def kl(self, teacher: Tensor, student: Tensor) -> Tensor:
        t = self.settings.temperature
        first, second = (
            (rows / t).exp() / (rows / t).exp().sum(1, keepdim=True) for rows in (teacher.detach(), student)
        )
        return (first * (first / second).log()).sum() / Q

    def mse(self, teacher: Tensor, student: Tensor) -> Tensor:
        return (teacher.detach() - student).pow(2).mean()

    def grid(self, dims: tuple[int, ...], lower_full: bool = False) -> Tensor:
        """2DMSE over these widths, with the full width of lower layers as FULL-DIM has it."""
        total = self.ce(L, H) + sum(w(layer) * self.ce(layer, dim) for layer in range(1, L + 1) for dim in dims)
        return total + sum(w(layer) * self.ce(layer, H) for layer in range(1, L) if lower_full)

    def score_alignment(self, mse: float, kl: float, divisor: int, last: bool = False) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for layer in range(1, L + 1):
            teacher = self.scores(L if last else layer, H)
            for dim in TARGETS:
                student = self.scores(layer, dim)
                halves = mse * self.mse(teacher, student) + kl * self.kl(teacher, student)
                total = total + w(layer) * halves / divisor
        return total

    def embedding_alignment(
        self, compress: Callable[[Tensor, int], Tensor], t: float, divide: bool, lowest_of_passages: int = 1
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for texts, lowest in zip(self.sides, (1, lowest_of_passages), strict=True):
            for layer in range(lowest, L + 1):
                for dim in TARGETS:
                    student, target = texts[layer][:, :dim], compress(texts[layer].detach(), dim)
                    first, second = (torch.softmax(rows / t, 1) for rows in (target, student))
                    halves = (target - student).pow(2).mean() + (first * (first / second).log()).sum(1).mean()
                    total = total + w(layer) * halves / (len(student) if divide else 1)
        return total

    def sizes(self, aligned: bool) -> Tensor:
        total = sum(self.ce(layer, dim) for layer, dim in SIZES)
        kl = sum(self.kl(self.scores(L, H), self.scores(layer, dim)) for layer, dim in SIZES[:-1])
        return total + kl if aligned else total

    def sampled_layer(self) -> Tensor:
        cells = [(layer, dim) for layer in (DRAWN, L) for _, dim in SIZES]
        kl = sum(self.kl(self.scores(L, H), self.scores(*cell)) for cell in cells if cell != (L, H))
        return sum(self.ce(*cell) for cell in cells) + kl

    def coordinate_kl(self) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for texts in self.sides:
            for layer, dim in SIZES[:-1]:
                first, second = (torch.softmax(rows[:, :dim], 1) for rows in (texts[L].detach(), texts[layer]))
                total = total + (first * (first / second).log()).sum(1).mean()
        return total


def w(layer: int) -> float:
    return 1.0 if layer == L else 1 / (1 + math.log(layer))


def pca(rows: Tensor, k: int) -> Tensor:
    """Rows on their k leading axes, by SVD of the centred rows; largest component positive, 0 beyond the n - 1 axes."""
    axes = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[: min(k, len(rows) - 1)]
    signs = torch.stack([axis[axis.abs().argmax()].sign() for axis in axes])
    return torch.nn.functional.pad(rows @ (axes.T * signs), (0, k - len(axes)))


def stub(rows: Tensor, k: int) -> Tensor:
    """A fixed compression in place of the randomised one."""
    return rows @ torch.linspace(-1, 1, H * H, dtype=rows.dtype).reshape(H, H)[:, :k]


T = 0.7
EXPECTED: dict[tuple[str, str], Callable[[Formula], Tensor]] = {
    ("bert", "paper"): lambda f: f.ce(L, H),
    ("bert-s", "paper"): lambda f: f.ce(L, 4),
    ("bert-s", "released"): lambda f: f.ce(L, H),
    ("ff", "paper"): lambda f: f.ce(L, H),
    ("mse", "targets"): lambda f: f.ce(L, H) + f.ce(L, 4) + f.ce(L, 8),
    ("mrl", "targets"): lambda f: f.ce(L, H) + f.ce(L, 4) + f.ce(L, 8),
    ("ff->mrl", "targets"): lambda f: f.ce(L, H) + f.ce(L, 4) + f.ce(L, 8),
    ("2dmse", "released"): lambda f: f.grid(TARGETS),
    ("2dmse", "repaired"): lambda f: f.grid(TARGETS) + f.embedding_alignment(stub, T, divide=True),
    ("2dmse", "paper"): lambda f: f.grid(TARGETS) + f.embedding_alignment(pca, 1.0, divide=False),
    ("2dmse", "sampled-layer"): lambda f: f.sampled_layer(),
    ("score", "released"): lambda f: f.grid(TARGETS) + f.score_alignment(1, 1, Q * N),
    ("score", "only-mse"): lambda f: f.grid(TARGETS) + f.score_alignment(1, 0, Q * N),
    ("score", "only-kl"): lambda f: f.grid(TARGETS) + f.score_alignment(0, 1, Q * N),
    ("score", "compare-to-last"): lambda f: f.grid(TARGETS) + f.score_alignment(1, 1, Q * N, last=True),
    ("score", "unscaled"): lambda f: f.grid(TARGETS) + f.score_alignment(0, 1, 1),
    ("full-dim", "released"): lambda f: f.grid(TARGETS, lower_full=True),
    **{("+dims", name): lambda f, name=name: f.grid(LISTS[name]) for name in LISTS},
    **{
        ("+dims+full-dim", name): lambda f, name=name: f.grid(LISTS[name], lower_full=True) for name in ("six", "seven")
    },
    ("fix-doc", "released"): lambda f: f.grid(TARGETS),
    ("fix-doc", "repaired"): lambda f: (
        f.grid(TARGETS) + f.embedding_alignment(stub, T, divide=True, lowest_of_passages=L)
    ),
    ("paired-doc", "released"): lambda f: f.grid(TARGETS),
    ("srl", "paper"): lambda f: f.sizes(aligned=False) + f.coordinate_kl(),
    ("srl", "released-retrieval"): lambda f: f.sizes(aligned=True),
}
EXPECTED |= {("starbucks", name): EXPECTED["srl", name] for name in ("paper", "released-retrieval")}


def test_every_retrieval_variant_has_a_formula_here() -> None:
    assert set(EXPECTED) == set(VARIANTS)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@each_variant
def test_loss_and_gradients_are_those_of_the_formula(
    monkeypatch: pytest.MonkeyPatch, method: str, variant: str, similarity: str
) -> None:
    if variant == "repaired":
        monkeypatch.setattr(
            "matryobench.objectives.retrieval.compress", lambda how, rows, width, _: stub(rows.detach(), width)
        )
    chosen = objective(method, variant, base(similarity=similarity, temperature=T))
    queries, passages = sides()
    loss, terms = chosen(queries, passages, None, generator())
    loss.backward()
    twins = sides()
    expected = EXPECTED[method, variant](Formula(*twins, chosen.base, fixed=chosen.variant.documents == "last"))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert sum(float(value) for value in terms.values()) == pytest.approx(loss.item(), rel=1e-12)
    for found, twin in zip((queries, passages), twins, strict=True):
        for layer in range(1, L + 1):
            zero = torch.zeros_like(found[layer])
            first, second = (zero if side[layer].grad is None else side[layer].grad for side in (found, twin))
            torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)


# --- coverage, layers, terms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@each_variant
def test_exactly_the_declared_coordinates_of_each_side_get_gradient(method: str, variant: str, similarity: str) -> None:
    chosen = objective(method, variant, base(similarity=similarity))
    queries, passages = sides()
    chosen(queries, passages, None, generator())[0].backward()
    for side, texts in (("query", queries), ("passage", passages)):
        declared = {
            (cell.layer, at) for cell in chosen.coverage() if cell.side in (side, "both") for at in range(cell.dim)
        }
        found = {
            (layer, at)
            for layer, rows in texts.items()
            if rows.grad is not None
            for at in range(H)
            if rows.grad[:, at].abs().max() > 0
        }
        assert found == declared, side


@each_variant
def test_the_declared_layers_suffice_and_are_no_more_than_needed(method: str, variant: str) -> None:
    chosen = objective(method, variant)
    queries, passages = sides()
    loss, _ = chosen(queries, passages, None, generator())
    enough, _ = chosen(
        {layer: queries[layer] for layer in chosen.query_layers()},
        {layer: passages[layer] for layer in chosen.passage_layers()},
        None,
        generator(),
    )
    assert enough.item() == loss.item()
    with pytest.raises(KeyError):
        fewer = {layer: queries[layer] for layer in chosen.query_layers()[1:]}
        chosen({0: queries[1], **fewer}, passages, None, generator())


def test_fixed_documents_need_the_last_layer_only() -> None:
    chosen = objective("fix-doc", "released")
    assert chosen.query_layers() == [1, 2, 3, 4]
    assert chosen.passage_layers() == [4]
    assert {(cell.side, cell.layer) for cell in chosen.coverage() if cell.side == "passage"} == {("passage", 4)}


def test_fixed_documents_have_no_alignment_on_lower_passage_layers() -> None:
    _, terms = objective("fix-doc", "repaired")(*sides(), None, generator())
    assert {name for name in terms if name.startswith("passage-")} == {f"passage-compression/l4/d{d}" for d in TARGETS}
    assert sum(name.startswith("query-compression") for name in terms) == L * len(TARGETS)


def test_weights_of_the_layers_are_equation_8() -> None:
    weights = {cell.layer: cell.weight for cell in objective("2dmse", "released").coverage() if cell.dim == 8}
    assert weights == pytest.approx({layer: w(layer) for layer in range(1, L + 1)})


def test_score_telemetry_shows_both_halves_and_how_small_the_kl_half_is() -> None:
    """D6: both halves are divided by queries x passages, and raw scores make the MSE half the larger by far."""
    _, terms = objective("score", "released")(*sides(), None, generator())
    assert {name.split("/")[0] for name in terms} == {"ce", "score-mse", "score-kl"}
    halves = [
        sum(float(value) for name, value in terms.items() if name.startswith(half))
        for half in ("score-mse", "score-kl")
    ]
    assert halves[0] > 2 * halves[1] > 0
    _, alone = objective("score", "only-kl")(*sides(), None, generator())
    assert {n: float(v) for n, v in alone.items()} == {
        n: float(v) for n, v in terms.items() if not n.startswith("score-mse")
    }
    _, unscaled = objective("score", "unscaled")(*sides(), None, generator())
    assert float(unscaled["score-kl/l2/d4"]) == pytest.approx(Q * N * float(terms["score-kl/l2/d4"]))
