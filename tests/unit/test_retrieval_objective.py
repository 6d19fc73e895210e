"""Retrieval objectives: every variant against a direct float64 evaluation of its formula and that formula's gradients,
declared gradient coverage against autograd, and what the loss may hold in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from matryobench.errors import InputError
from matryobench.objectives.recipe import ContrastiveLoss
from matryobench.objectives.registry import load_methods
from matryobench.objectives.retrieval import RetrievalObjective
from matryobench.objectives.scores import contrastive, prefix_scores

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


# --- the formulas, written down a second time -------------------------------------------------------------------------


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


# --- scores and the contrastive loss ------------------------------------------------------------------------------------


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


# --- definitions --------------------------------------------------------------------------------------------------------


ENTRY = """
made:
  title: Made
  description: A method that only this test has.
  source: this test
  colour: "#123456"
  marker: o
  tasks: [retrieval]
  default_variant: one
  variants:
    one:
      description: A variant that only this test has.
      source: this test
      task: retrieval
      losses:
        - {layers: last, dims: full}
"""


def refusals() -> Iterator[Any]:
    losses = "        - {layers: last, dims: full}"
    for name, (old, new, message) in {
        "list without its name": (losses, losses.replace("full", "list"), "'dim_list' is needed exactly where dims is 'list'"),
        "sts word": (losses, losses.replace("full", "nested"), "'nested' exists for sts only; set 'task' to sts"),
        "task left out": (
            "      task: retrieval\n" + "      losses:\n" + losses,
            "      losses:\n" + losses.replace("full", "targets"),
            "'targets' exists for retrieval only; set 'task' to retrieval",
        ),
        "fixed documents": ("task: retrieval", "documents: last", "'documents: last' exists for retrieval only"),
        "no half": (
            losses,
            losses + "\n      alignments: [{kind: score-alignment, layers: last, dims: targets, mse: 0, kl: 0}]",
            "'mse' and 'kl' are both 0; give at least one half a factor",
        ),
        "sts compression": (
            losses,
            losses + "\n      alignments: [{kind: compression, layers: last, compress: pca, divide_by_texts: true}]",
            "'divide_by_texts' and temperature 'base' exist for dims targets or list only",
        ),
        "nothing sampled": (
            losses, losses + "\n      alignments: [{kind: score-kl, students: sampled-layer}]",
            "students 'sampled-layer' need a group of losses with sizes 'sampled-layer'; add it",
        ),
        "other task": ("tasks: [retrieval]", "tasks: [sts]", "variant 'one' is for retrieval, which is not in 'tasks'"),
        "no default": (
            "tasks: [retrieval]", "tasks: [retrieval, sts]",
            "the default variant 'one' is not for sts; add task_defaults.sts",
        ),
        "unknown default": ("default_variant: one", "default_variant: two", "default_variant 'two' is not one of: one"),
    }.items():  # fmt: skip
        yield pytest.param(old, new, message, id=name)


@pytest.mark.parametrize(("old", "new", "message"), refusals())
def test_a_wrong_definition_is_one_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "methods.yaml"
    path.write_text(ENTRY)
    assert load_methods(path)["made"].default_for("retrieval") == "one"
    wrong = tmp_path / "wrong.yaml"
    assert old in ENTRY
    wrong.write_text(ENTRY.replace(old, new))
    with pytest.raises(InputError) as error:
        load_methods(wrong)
    assert message in str(error.value) and str(wrong) in str(error.value) and "\n" not in str(error.value)


def test_a_sampled_layer_is_drawn_by_the_generator_evenly_below_the_last() -> None:
    fixed = objective("2dmse", "sampled-layer")
    chosen = RetrievalObjective(variant=fixed.variant, base=fixed.base, depth=L, width=H, sizes=SIZES)
    assert chosen.draws() == [1, 2, 3] and chosen.query_layers() == [1, 2, 3, 4]
    queries, passages = sides()
    losses = {chosen.at(layer)(queries, passages, None, generator())[0].item(): layer for layer in (1, 2, 3)}
    source = generator()
    drawn = [losses[chosen(queries, passages, None, source)[0].item()] for _ in range(300)]
    assert all(80 <= drawn.count(layer) <= 120 for layer in (1, 2, 3))
    cells = {(one.layer, one.dim, one.probability) for one in chosen.coverage() if one.term == "base"}
    dims = [dim for _, dim in SIZES]
    assert cells == {(layer, dim, 1 / 3) for layer in (1, 2, 3) for dim in dims} | {(L, dim, 1.0) for dim in dims}


def test_what_the_plan_asks_of_a_variant() -> None:
    variants = METHODS["2dmse"].variants
    assert variants["released"].needs == {"target_dims"} and variants["released"].uses_lower_layers
    six = METHODS["+dims"].variants["six"]
    assert six.needs == {"dim_lists"} and six.dim_lists == {"six"}
    assert METHODS["srl"].variants["released-retrieval"].needs == {"sizes"}
    sampled = variants["sampled-layer"]
    assert sampled.needs == {"sizes"} and sampled.uses_lower_layers
    assert METHODS["mse"].default_for("retrieval") == "targets" and METHODS["mse"].default_for("sts") == "v1"
    assert METHODS["fix-doc"].variants["released"].documents == "last"
    assert not METHODS["mse"].variants["targets"].uses_lower_layers
    assert METHODS["paired-doc"].variants["released"].losses == variants["released"].losses
