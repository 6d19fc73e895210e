"""The contrastive loss and scores of all widths: hand-computed cases, what carries gradient, what is held in memory."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_cases import (
    LISTS,
    SIZES,
    TARGETS,
    H,
    N,
    Q,
    base,
    each_variant,
    generator,
    objective,
    sides,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from matryobench.objectives.scores import contrastive, prefix_scores


def test_contrastive_of_a_hand_computed_case() -> None:
    # Two queries with groups of two. Row 0: own positive 1, others 0, 1, 0; row 1: own positive (column 2) 2.
    scores = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 2.0, 1.0]])
    first = -math.log(math.e / (2 * math.e + 2))
    second = -math.log(math.e**2 / (math.e**2 + math.e + 2))
    assert float(contrastive(scores, 1.0)) == pytest.approx((first + second) / 2)


def test_known_positives_are_left_out_but_for_the_own_one() -> None:
    scores = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 2.0, 1.0]], requires_grad=True)
    known = torch.tensor([[True, False, True, False], [False, False, True, False]])
    first = -math.log(math.e / (math.e + 2))  # column 2 is no candidate of query 0
    second = -math.log(math.e**2 / (math.e**2 + math.e + 2))
    loss = contrastive(scores, 1.0, known)
    assert loss.item() == pytest.approx((first + second) / 2)
    loss.backward()
    assert scores.grad is not None and float(scores.grad[0, 2]) == 0.0
    everything = contrastive(scores, 1.0, torch.ones(2, 4, dtype=torch.bool))
    assert everything.item() == 0.0 and torch.isfinite(torch.autograd.grad(everything, scores)[0]).all()


def test_masking_is_the_base_loss_s_choice_and_touches_the_cross_entropy_only() -> None:
    known = torch.zeros(Q, N, dtype=torch.bool)
    known[0, 5] = True
    chosen = {mode: objective("score", "released", base(false_negatives=mode)) for mode in ("keep", "mask")}
    keep, mask = (chosen[mode](*sides(), known, generator())[1] for mode in ("keep", "mask"))
    plain = objective("score", "released")(*sides(), None, generator())[1]
    assert {name: float(value) for name, value in keep.items()} == {name: float(value) for name, value in plain.items()}
    changed = {name.split("/")[0] for name in keep if float(keep[name]) != float(mask[name])}
    assert changed == {"ce"}
    assert all(float(mask[name]) <= float(keep[name]) for name in keep)


@given(st.integers(0, 1000), st.sets(st.integers(1, H), min_size=1), st.sampled_from(["dot", "cosine"]))
@settings(max_examples=40, deadline=None)
def test_prefix_scores_are_the_scores_of_the_cut_vectors(seed: int, dims: set[int], similarity: Any) -> None:
    queries, passages = (side[1].detach() for side in sides(seed))
    found = prefix_scores(queries, passages, dims, similarity)
    assert set(found) == dims
    for dim, scores in found.items():
        first, second = queries[:, :dim], passages[:, :dim]
        if similarity == "cosine":
            first, second = (torch.nn.functional.normalize(rows, dim=-1) for rows in (first, second))
        torch.testing.assert_close(scores, first @ second.T, rtol=1e-12, atol=1e-13)


def test_scores_beyond_the_trained_width_carry_no_gradient() -> None:
    queries, passages = (side[1] for side in sides())
    for similarity in ("dot", "cosine"):
        found = prefix_scores(queries, passages, (4, H), similarity, trained=4)
        assert found[4].requires_grad and not found[H].requires_grad


def test_a_zero_vector_has_cosine_zero_and_finite_gradients() -> None:
    queries, passages = (side[1].detach().clone() for side in sides())
    queries[0] = 0
    queries.requires_grad_()
    scores = prefix_scores(queries, passages, (4, H), "cosine")
    assert float(scores[4][0].detach().abs().max()) == 0.0
    (gradient,) = torch.autograd.grad(contrastive(scores[4], 0.05), queries)
    assert torch.isfinite(gradient).all()


# --- memory, precision, randomness --------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize(
    ("method", "variant"), [("score", "released"), ("+dims+full-dim", "seven"), ("srl", "released-retrieval")]
)
def test_nothing_larger_than_scores_of_one_cell_or_embeddings_of_one_layer_is_formed(
    method: str, variant: str, similarity: str
) -> None:
    queries, passages = sides()
    with Largest() as seen:
        chosen = objective(method, variant, base(similarity=similarity))
        chosen(queries, passages, None, generator())[0].backward()
    assert seen.elements <= max(Q * N, N * H)


def test_terms_are_float32_even_under_autocast() -> None:
    queries, passages = sides(dtype=torch.float32)
    chosen = objective("2dmse", "paper")
    plain, _ = chosen(queries, passages, None, generator())
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = chosen(queries, passages, None, generator())
    assert mixed.dtype == torch.float32 and float(mixed) == float(plain)
    half = {layer: rows.detach().bfloat16() for layer, rows in queries.items()}
    loss, _ = chosen(half, passages, None, generator())
    assert loss.dtype == torch.float32


def test_the_randomised_compression_is_seeded_by_the_generator_alone() -> None:
    chosen = objective("2dmse", "repaired")
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(losses))
        state = torch.get_rng_state()
        losses.append(float(chosen(*sides(), None, generator(seed))[0]))
        assert torch.equal(state, torch.get_rng_state())
    assert losses[0] == losses[1] != losses[2]


@each_variant
def test_the_order_of_widths_does_not_matter(method: str, variant: str) -> None:
    turned = {name: dims[::-1] for name, dims in LISTS.items()}
    changes = {"target_dims": TARGETS[::-1], "dim_lists": turned, "sizes": SIZES[::-1]}
    first, _ = objective(method, variant)(*sides(), None, generator())
    second, _ = objective(method, variant, **changes)(*sides(), None, generator())
    assert float(first) == pytest.approx(float(second), rel=1e-12)
