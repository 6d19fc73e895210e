"""The retrieval objectives compute what the published code of the 2D Matryoshka paper and of Starbucks computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_model
import torch
from measure import Case, Tiny, assert_same, changed, named, recording
from torch import Tensor

from matryobench.objectives.recipe import ContrastiveLoss
from matryobench.objectives.registry import load_methods
from matryobench.objectives.retrieval import RetrievalObjective
from matryobench.objectives.scores import contrastive, prefix_scores
from matryobench.objectives.spec import Variant

GROUP = 2  # of tiny_model.retrieval_batch
METHODS = load_methods()


def cases(name: str) -> Iterator[Any]:
    for case in recording(name)["cases"]:
        if "value" in case:
            yield pytest.param(case, id=named(case))


def variant_of(arguments: dict[str, Any]) -> Variant:
    """The variant of this project that the released arguments (apart from the list of widths) name."""
    if "layer_list" in arguments:
        return METHODS["mse"].variants["targets"]
    if arguments.get("embedding_align"):
        return METHODS["fix-doc" if arguments.get("passage_to_last_layer") else "2dmse"].variants["repaired"]
    if arguments.get("score_align"):
        return METHODS["score"].variants["compare-to-last" if arguments.get("compare_to_last_layer") else "released"]
    if arguments.get("sub_layer_full_dim"):
        return METHODS["full-dim"].variants["released"]
    if arguments.get("passage_to_last_layer"):
        return METHODS["fix-doc"].variants["released"]
    return METHODS["2dmse"].variants["released"]


def objective(variant: Variant, case: Case, **settings: Any) -> RetrievalObjective:
    base = ContrastiveLoss(loss="contrastive", temperature=case["arguments"].get("temperature", 1.0))
    return RetrievalObjective(variant=variant, base=base, depth=tiny_model.LAYERS, width=tiny_model.HIDDEN, **settings)


def step(tiny: Tiny, made: RetrievalObjective, case: Case) -> Case:
    queries, passages = (tiny.pooled([side], case["pooling"]) for side in tiny_model.retrieval_batch())
    loss, _ = made(
        {layer: rows[0] for layer, rows in queries.items()},
        {layer: rows[0] for layer, rows in passages.items()},
        None,
        torch.Generator().manual_seed(0),
    )
    loss.backward()
    return {"value": loss.item(), "gradient_norms": tiny_model.gradient_norms(tiny.model.named_parameters())}


@pytest.mark.parametrize("case", cases("dense_2d-c7467c2"))
def test_published_2d_matryoshka_loss(monkeypatch: pytest.MonkeyPatch, tiny: Tiny, case: Case) -> None:
    """Every switch of the released class; its randomised compression targets, without gradient, are the recorded ones."""
    used = []
    places = {
        f"{side}/l{layer}": rows[0].detach()
        for side, batch in zip(("query", "passage"), tiny_model.retrieval_batch(), strict=True)
        for layer, rows in tiny.pooled([batch], case["pooling"]).items()
    }

    def recorded_target(how: str, embeddings: Tensor, width: int, generator: torch.Generator) -> Tensor:
        (place,) = (
            p for p, rows in places.items() if rows.shape == embeddings.shape and torch.allclose(rows, embeddings)
        )
        used.append(place)
        return torch.tensor(case["targets"][place])

    monkeypatch.setattr("matryobench.objectives.retrieval.compress", recorded_target)
    dims = tuple(int(dim) for dim in case["arguments"]["embedding_dim_list"])
    made = objective(variant_of(case["arguments"]), case, target_dims=dims)
    assert_same(case, step(tiny, made, case))
    assert sorted(used) == sorted(case.get("targets", {}))


WIDTHS_ONLY = [
    case
    for case in cases("dense_2d-c7467c2")
    if not set(case.values[0]["arguments"]) - {"embedding_dim_list", "sub_layer_full_dim"}
]


@pytest.mark.parametrize("case", WIDTHS_ONLY)
def test_lists_of_widths_are_target_widths_at_every_layer(tiny: Tiny, case: Case) -> None:
    """+dims and +dims+full-dim: the released code has one argument for the target width and for longer lists."""
    arguments = case["arguments"]
    dims = tuple(int(dim) for dim in arguments["embedding_dim_list"])
    method = METHODS["+dims+full-dim" if arguments.get("sub_layer_full_dim") else "+dims"]
    assert_same(case, step(tiny, objective(method.variants["six"], case, dim_lists={"six": dims}), case))


@pytest.mark.parametrize("case", cases("srl_dense-2a3b24f"))
def test_published_srl_loss(tiny: Tiny, case: Case) -> None:
    def change(settings: dict[str, Any]) -> None:
        weight = case["arguments"]["kl_divergence_weight"]
        settings["alignments"] = [{**term, "weight": weight} for term in settings["alignments"] if weight]

    variant = changed(METHODS["srl"].variants["released-retrieval"], change)
    sizes = tuple(tuple(size) for size in case["sizes"])
    assert_same(case, step(tiny, objective(variant, case, sizes=sizes), case))


def test_the_released_class_cannot_be_built_and_one_combination_cannot_be_trained() -> None:
    """D7, as a fact of the recording."""
    build, both = (case["error"] for case in recording("dense_2d-c7467c2")["cases"] if "error" in case)
    assert build == "AttributeError: 'Matryoshka2dDenseModelArguments' object has no attribute 'embedding_align'"
    assert both == "AttributeError: 'Matryoshka2dDenseModelV2' object has no attribute 'target_embedding_dim'"


# --- Tevatron -----------------------------------------------------------------------------------------------------------


def embeddings() -> tuple[Tensor, Tensor]:
    columns = torch.from_numpy(tiny_model.fixed_embeddings(3, 6, 12))
    return columns[0].clone().requires_grad_(), columns[1:].transpose(0, 1).flatten(0, 1).clone().requires_grad_()


def ours(queries: Tensor, passages: Tensor) -> Tensor:
    width = queries.shape[1]
    return contrastive(prefix_scores(queries, passages, (width,))[width], 1.0)


def assert_same_loss_and_gradients(theirs: Any) -> None:
    """`theirs(queries, passages)` gives our loss and our gradients on fixed embeddings."""
    results = []
    for loss_of in (ours, theirs):
        queries, passages = embeddings()
        loss = loss_of(queries, passages)
        loss.backward()
        results.append((loss.detach(), queries.grad, passages.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_tevatron_simple_contrastive_loss() -> None:
    module = pytest.importorskip("tevatron.loss")
    assert_same_loss_and_gradients(module.SimpleContrastiveLoss(n_target=GROUP))


def test_tevatron_distributed_contrastive_loss(tmp_path: Path) -> None:
    """One process; that several give the loss and gradients of one is tested with our own gathering."""
    module = pytest.importorskip("tevatron.loss")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert_same_loss_and_gradients(module.DistributedContrastiveLoss(n_target=GROUP))
    finally:
        torch.distributed.destroy_process_group()


def test_tevatron_dense_model_trains_bert(tiny: Tiny) -> None:
    """Tevatron 0.1.0's whole model (first token, dot product, shared encoder) against the method bert."""
    module = pytest.importorskip("tevatron.modeling")
    queries, passages = tiny_model.retrieval_batch()
    settings = SimpleNamespace(negatives_x_device=False, per_device_train_batch_size=len(queries["input_ids"]))
    model = module.DenseModel(
        tiny.model, tiny.model, train_args=settings, data_args=SimpleNamespace(train_n_passages=GROUP)
    ).train()
    tiny.model.zero_grad(set_to_none=True)
    loss = model(
        *({name: torch.from_numpy(array) for name, array in side.items()} for side in (queries, passages))
    ).loss
    loss.backward()
    theirs = {"value": loss.item(), "gradient_norms": tiny_model.gradient_norms(tiny.model.named_parameters())}
    case = {"pooling": "cls", "arguments": {}}
    assert_same(theirs, step(tiny, objective(METHODS["bert"].variants["paper"], case), case))
