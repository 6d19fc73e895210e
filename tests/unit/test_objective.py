"""Objectives: formulas against direct float64 evaluation, declared gradient coverage against autograd, invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp, softmax
from torch import Tensor

from matryobench.objectives.alignment import kl_over_coordinates, pca_compress, softmax_svd_compress
from matryobench.objectives.base import angle, base_terms, cosent, multiple_negatives_ranking
from matryobench.objectives.objective import Objective
from matryobench.objectives.recipe import AngleLoss, CoSENTLoss, MNRLoss
from matryobench.objectives.registry import load_methods

DEPTH, WIDTH, BATCH = 4, 16, 6
METHODS = load_methods()
VARIANTS = [
    (method, name) for method, entry in METHODS.items() for name, variant in entry.variants.items()
    if variant.task != "retrieval"
]  # fmt: skip


def objective(method: str, variant: str, base: object = None, **changes: object) -> Objective:
    definition = METHODS[method].variants[variant]
    cell = {"one": None, "per-layer": (DEPTH, None), "per-cell": (DEPTH, 4)}[definition.runs]
    defaults = {
        "depth": DEPTH, "width": WIDTH, "nested_dims": (16, 8, 4), "target_dim": 4,
        "sizes": ((1, 4), (2, 8), (4, 16)), "cell": cell,
    }  # fmt: skip
    return Objective(variant=definition, base=base or MNRLoss(loss="mnrl"), **{**defaults, **changes})


def pooled(dtype: torch.dtype = torch.float32, seed: int = 0, columns: int = 3) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        layer: torch.randn(columns, BATCH, WIDTH, generator=generator, dtype=torch.float64).to(dtype)
        for layer in range(DEPTH + 1)
    }


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def mnrl_by_hand(layers: dict[int, np.ndarray], layer: int, dim: int) -> float:
    anchors, positives, negatives = (unit(column[:, :dim]) for column in layers[layer])
    scores = 20 * anchors @ np.concatenate([positives, negatives]).T
    return float(-np.mean(np.diag(log_softmax(scores, axis=1)[:, :BATCH])))


def kl_by_hand(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    p = softmax(teacher / temperature, axis=1)
    terms = p * (log_softmax(teacher / temperature, axis=1) - log_softmax(student / temperature, axis=1))
    return float(terms.sum(axis=1).mean())


def evaluated(method: str, variant: str, layer: int | None = None, dims: tuple[int | None, ...] | None = None) -> tuple:
    """(objective's loss for one draw, the same embeddings as float64 arrays)."""
    chosen = objective(method, variant)
    draw = next(draw for draw in chosen.draws() if draw.layer == layer and (dims is None or draw.dims == dims))
    inputs = pooled()
    loss, _ = chosen.evaluate(draw, inputs, None, generator())
    return float(loss), {number: value.double().numpy() for number, value in inputs.items()}


# --- base losses ----------------------------------------------------------------------------------------------------


def test_mnrl_of_a_hand_computed_case() -> None:
    # cosines: anchor 0 with (p0, p1, n0, n1) = (1, 0, 0, -1); anchor 1 = (0, 1, 1, 0).
    anchors = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    positives = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    negatives = torch.tensor([[0.0, 5.0], [-1.0, 0.0]])
    first = -math.log(math.e / (math.e + 1 + 1 + 1 / math.e))
    second = -math.log(math.e / (1 + math.e + math.e + 1))
    got = multiple_negatives_ranking([anchors, positives, negatives], scale=1.0)
    assert float(got) == pytest.approx((first + second) / 2, rel=1e-6)


def test_cosent_of_a_hand_computed_case() -> None:
    # cosines 1 and 0; the pair with the lower score has the higher cosine, so one term exp(scale * (1 - 0)).
    left = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    right = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    got = cosent(left, right, torch.tensor([0.0, 5.0]), scale=3.0)
    assert float(got) == pytest.approx(math.log(1 + math.exp(3.0)), rel=1e-6)
    assert float(cosent(left, right, torch.tensor([2.0, 2.0]), scale=3.0)) == 0.0


def test_angle_of_a_hand_computed_case() -> None:
    # z = 1 + 2i, w = 3 - i: z w* = (1+2i)(3+i) = 1 + 7i; |z||w| = sqrt(50); sum of parts 8 / sqrt(50).
    left, right = torch.tensor([[1.0, 2.0], [1.0, 0.0]]), torch.tensor([[3.0, -1.0], [1.0, 0.0]])
    # second pair: z w* = 1, |z||w| = 1, so 1. The label of the first is lower, so its value minus the second's counts.
    got = angle(left, right, torch.tensor([0.0, 1.0]), scale=2.0)
    assert float(got) == pytest.approx(math.log(1 + math.exp(2 * (8 / math.sqrt(50) - 1))), rel=1e-6)


def test_angle_terms_of_a_triplet_rank_positives_over_negatives() -> None:
    columns = list(pooled()[1])
    terms = base_terms(columns, None, AngleLoss(loss="angle", cosine_weight=1.0))
    assert set(terms) == {"contrastive", "angle", "cosine"}
    assert float(terms["contrastive"]) == pytest.approx(30 * float(multiple_negatives_ranking(columns, 20.0)))
    anchors, positives, negatives = (unit(c.double().numpy()) for c in columns)
    low, high = 20 * (anchors * negatives).sum(1), 20 * (anchors * positives).sum(1)
    differences = (low[:, None] - high[None, :]).ravel()
    assert float(terms["cosine"]) == pytest.approx(logsumexp([0, *differences]), rel=1e-5)


# --- alignments -----------------------------------------------------------------------------------------------------


def test_kl_is_that_of_the_definition() -> None:
    first, second = pooled()[1][0], pooled()[2][0]
    expected = kl_by_hand(first.double().numpy(), second.double().numpy(), 0.3)
    assert float(kl_over_coordinates(first, second, 0.3)) == pytest.approx(expected, rel=1e-5)
    assert float(kl_over_coordinates(first, first, 0.3)) == pytest.approx(0.0, abs=1e-6)


def test_pca_keeps_the_variance_of_the_leading_axes() -> None:
    texts = pooled()[1].flatten(0, 1)
    compressed = pca_compress(texts, 4).double().numpy()
    spectrum = np.linalg.svd((texts - texts.mean(0)).double().numpy(), compute_uv=False) ** 2
    centred = compressed - compressed.mean(0)
    assert np.allclose((centred**2).sum(0), spectrum[:4], rtol=1e-4)
    assert torch.equal(pca_compress(texts, 4), pca_compress(texts, 4))


def test_softmax_svd_is_seeded_by_its_generator_and_leaves_the_global_state() -> None:
    texts = pooled()[1].flatten(0, 1)
    state = torch.get_rng_state()
    first = softmax_svd_compress(texts, 4, generator(3))
    assert torch.equal(first, softmax_svd_compress(texts, 4, generator(3)))
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == (3 * BATCH, 4)
    assert not first.requires_grad


# --- methods against their formulas ---------------------------------------------------------------------------------


def test_bert_is_the_base_loss_at_the_full_cell() -> None:
    loss, layers = evaluated("bert", "paper", None)
    assert loss == pytest.approx(mnrl_by_hand(layers, 4, 16), rel=1e-5)


def test_bert_s_trains_its_own_cell_as_written_and_the_full_width_as_released() -> None:
    loss, layers = evaluated("bert-s", "paper", None)
    assert loss == pytest.approx(mnrl_by_hand(layers, 4, 4), rel=1e-5)
    loss, layers = evaluated("bert-s", "released", None)
    assert loss == pytest.approx(mnrl_by_hand(layers, 4, 16), rel=1e-5)


def test_mse_v1_is_the_sum_over_nested_dims() -> None:
    loss, layers = evaluated("mse", "v1", None)
    assert loss == pytest.approx(sum(mnrl_by_hand(layers, 4, dim) for dim in (16, 8, 4)), rel=1e-5)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_2dmse_v1_as_written_is_equation_7(layer: int) -> None:
    loss, layers = evaluated("2dmse-v1", "paper", layer)
    base = sum(mnrl_by_hand(layers, at, dim) for at in (4, layer) for dim in (16, 8, 4))
    kl = kl_by_hand(layers[layer].reshape(-1, WIDTH), layers[4].reshape(-1, WIDTH), 1.0)
    assert loss == pytest.approx(base + kl, rel=1e-5)


@pytest.mark.parametrize(("variant", "first"), [("released", 1), ("st-5.2", 0), ("st-5.7", 0)])
def test_2dmse_v1_regimes_weigh_the_drawn_layer_by_its_place(variant: str, first: int) -> None:
    for layer in range(first, 4):
        loss, layers = evaluated("2dmse-v1", variant, layer, (8, 4))
        weight = 1.0 if variant == "st-5.7" else 1 / (1 + layer - first)
        kl = kl_by_hand(layers[layer].reshape(-1, WIDTH), layers[4].reshape(-1, WIDTH), 0.3)
        expected = mnrl_by_hand(layers, 4, 8) + weight * mnrl_by_hand(layers, layer, 4) + 0.3 * kl
        assert loss == pytest.approx(expected, rel=1e-5)


def test_2dmse_v2_as_written_is_equation_12() -> None:
    loss, layers = evaluated("2dmse-v2", "paper", None)
    expected = mnrl_by_hand(layers, 4, 16)
    for layer in (1, 2, 3, 4):
        weight = 1.0 if layer == 4 else 1 / (1 + math.log(layer))
        texts = layers[layer].reshape(-1, WIDTH)
        target = pca_compress(torch.tensor(texts), 4).double().numpy()
        student = texts[:, :4]
        aligned = float(np.mean((student - target) ** 2)) + kl_by_hand(student, target, 1.0)
        expected += weight * (mnrl_by_hand(layers, layer, 4) + aligned)
    assert loss == pytest.approx(expected, rel=1e-4)


def test_2dmse_v2_as_released_never_trains_layer_l_minus_1_but_the_embedding_output() -> None:
    layers = {cell.layer for cell in objective("2dmse-v2", "released").coverage()}
    assert layers == {0, 1, 2, 4}
    weights = {
        cell.layer: cell.weight
        for cell in objective("2dmse-v2", "released").coverage()
        if cell.term == "base" and cell.layer < 4
    }
    assert weights == pytest.approx({i: 1 / 3 / (1 + math.log(1 + i)) for i in (0, 1, 2)})


@pytest.mark.parametrize(("variant", "factor"), [("paper", 1.0), ("released", 0.3)])
def test_srl_sums_the_sizes_and_aligns_each_with_the_cut_full_size(variant: str, factor: float) -> None:
    loss, layers = evaluated("srl", variant, None)
    expected = sum(mnrl_by_hand(layers, layer, dim) for layer, dim in ((1, 4), (2, 8), (4, 16)))
    for layer, dim in ((1, 4), (2, 8)):
        student, teacher = (layers[at].reshape(-1, WIDTH)[:, :dim] for at in (layer, 4))
        expected += factor * kl_by_hand(student, teacher, 1.0)
    assert loss == pytest.approx(expected, rel=1e-5)


# --- properties of every method and variant -------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "variant"), VARIANTS)
def test_exactly_the_declared_coordinates_get_gradient(method: str, variant: str) -> None:
    chosen = objective(method, variant)
    for draw in chosen.draws():
        inputs = {layer: value.requires_grad_() for layer, value in pooled().items()}
        loss, _ = chosen.evaluate(draw, inputs, None, generator())
        loss.backward()
        declared = {(layer, at) for layer, dim, *_ in chosen.step_coverage(draw) for at in range(dim)}
        found = {
            (layer, at)
            for layer, value in inputs.items()
            if value.grad is not None
            for at in range(WIDTH)
            if value.grad[..., at].abs().max() > 0
        }
        assert found == declared


@pytest.mark.parametrize(("method", "variant"), VARIANTS)
def test_named_terms_sum_to_the_loss_and_layers_suffice(method: str, variant: str) -> None:
    chosen = objective(method, variant)
    inputs = {layer: value for layer, value in pooled().items() if layer in chosen.layers()}
    for seed in range(6):
        loss, terms = chosen(inputs, None, generator(seed))
        assert sum(float(value) for value in terms.values()) == pytest.approx(float(loss), rel=1e-5)
        assert all("/l" in name and "/d" in name for name in terms)


@pytest.mark.parametrize(("method", "variant"), VARIANTS)
def test_the_order_of_dims_and_sizes_does_not_matter(method: str, variant: str) -> None:
    plain = objective(method, variant)
    turned = objective(method, variant, nested_dims=(4, 16, 8), sizes=((4, 16), (1, 4), (2, 8)))
    for draw in plain.draws():
        first, _ = plain.evaluate(draw, pooled(), None, generator())
        second, _ = turned.evaluate(draw, pooled(), None, generator())
        assert float(first) == pytest.approx(float(second), rel=1e-6)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_generator_alone_decides_the_draw(seed: int) -> None:
    chosen = objective("2dmse-v1", "released")
    first, terms = chosen(pooled(), None, generator(seed))
    torch.manual_seed(seed + 1)
    second, again = chosen(pooled(), None, generator(seed))
    assert float(first) == float(second)
    assert terms.keys() == again.keys()


def test_every_layer_and_width_is_drawn_equally_often() -> None:
    chosen = objective("2dmse-v1", "released")
    counts: dict[str, int] = {}
    source = generator(0)
    for _ in range(900):
        _, terms = chosen(pooled(), None, source)
        for name in terms:
            if name.startswith("kl/"):
                counts[name] = counts.get(name, 0) + 1
    assert set(counts) == {"kl/l1/d16", "kl/l2/d16", "kl/l3/d16"}
    assert all(abs(count - 300) < 75 for count in counts.values())  # five standard deviations


def test_scored_pairs_train_with_cosent_and_angle() -> None:
    inputs = pooled(columns=2)
    scores = torch.arange(BATCH, dtype=torch.float32)
    for base in (CoSENTLoss(loss="cosent"), AngleLoss(loss="angle", contrastive_weight=0.0)):
        loss, _ = objective("mse", "v1", base)(inputs, scores, generator())
        assert torch.isfinite(loss)


def test_every_method_is_described_and_styled_once() -> None:
    assert len({method.colour.lower() for method in METHODS.values()}) == len(METHODS)
    assert len({method.marker for method in METHODS.values()}) == len(METHODS)
