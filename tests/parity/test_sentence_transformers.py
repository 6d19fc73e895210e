"""The objectives compute what sentence-transformers computes: recorded regimes, and the installed library live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_model
import torch
from measure import Case, Tiny, assert_same, assert_same_on_fixed, base_sum, changed, named, objective, recording

from matryobench.objectives.recipe import AngleLoss, BaseLoss, CoSENTLoss, MNRLoss
from matryobench.objectives.registry import load_methods
from matryobench.objectives.spec import Variant

RECORDED = ("3.2.1", "5.1.2", "5.6.1", "6.2.0")
VARIANTS = {"2.5-5.1": "released", "5.2-5.6": "st-5.2", "5.7-": "st-5.7"}  # of 2dmse-v1, by regime
BASES: dict[str, BaseLoss] = {
    "MultipleNegativesRankingLoss": MNRLoss(loss="mnrl"),
    "CoSENTLoss": CoSENTLoss(loss="cosent"),
    "AnglELoss": AngleLoss(loss="angle", contrastive_weight=0, angle_weight=1),
}


def expressible(case: Case) -> bool:
    """All but n_layers_per_step = -1, which no variant of a method uses."""
    return "n_layers_per_step" not in case.get("arguments", {})


def recorded() -> list[Any]:
    cases = ((version, case) for version in RECORDED for case in recording(f"sentence_transformers-{version}")["cases"])
    return [pytest.param(version, case, id=f"{version}-{named(case)}") for version, case in cases if expressible(case)]


def two_dimensional(case: Case, regime: str) -> Variant:
    """The registered variant of the regime, with the case's arguments where they are not the defaults."""

    def change(settings: dict[str, Any]) -> None:
        arguments = case["arguments"]
        if case["loss"] == "AdaptiveLayerLoss" or arguments.get("n_dims_per_step") == -1:
            for group in settings["losses"]:
                group["dims"] = "full" if case["loss"] == "AdaptiveLayerLoss" else "nested"
        if arguments.get("kl_temperature") == 0:
            settings["alignments"] = []
        if "layer_weighting" in arguments:
            settings["losses"][1]["weights"] = arguments["layer_weighting"]

    return changed(load_methods()["2dmse-v1"].variants[VARIANTS[regime]], change)


def check(tiny: Tiny, case: Case, regime: str) -> None:
    if case["data"] == "fixed":
        scores = torch.from_numpy(tiny_model.pair_columns()[1]) if case["shape"][0] == 2 else None
        assert_same_on_fixed(case, lambda columns: base_sum(columns, scores, BASES[case["base"]]))
        return
    layer: int | None = None
    dims: list[int] = []
    base = BASES[case["base"]]
    if case["loss"] in ("AdaptiveLayerLoss", "Matryoshka2dLoss"):
        variant = two_dimensional(case, regime)
        (layer,) = case["layers"]
        if case["loss"] == "Matryoshka2dLoss" and "n_dims_per_step" not in case["arguments"]:
            dims = [*case["last_dims"], *case["sub_dims"]]
    elif case["loss"] == "MatryoshkaLoss":
        variant = load_methods()["mse"].variants["v1"]
        if len(case["dims"]) == 1:
            variant = changed(variant, lambda settings: settings["losses"][0].update(dims="one-nested"))
            dims = case["dims"]
    else:
        variant = load_methods()["bert"].variants["paper"]
    assert_same(case, tiny.step(objective(variant, base, nested_dims=tiny_model.DIMS), case, layer, dims))


@pytest.mark.parametrize(("version", "case"), recorded())
def test_recorded_regime(tiny: Tiny, version: str, case: Case) -> None:
    check(tiny, case, recording(f"sentence_transformers-{version}")["regime"])


def test_released_with_all_dims_is_the_registered_variant() -> None:
    case = {"loss": "Matryoshka2dLoss", "arguments": {"n_dims_per_step": -1}}
    ours = load_methods()["2dmse-v1"].variants["released-all-dims"]
    derived = two_dimensional(case, "2.5-5.1")
    assert (derived.losses, derived.alignments, derived.sample_from) == (ours.losses, ours.alignments, ours.sample_from)


def test_installed_library(tiny: Tiny, tiny_folder: Path) -> None:
    """The same cases, computed by the installed library in this process."""
    import record_sentence_transformers as recorder
    from sentence_transformers import __version__ as version

    live = recorder.all_cases(tiny_folder)
    for case in filter(expressible, live):
        check(tiny, case, recorder.regime(version))
    if version in RECORDED:
        for now, then in zip(live, recording(f"sentence_transformers-{version}")["cases"], strict=True):
            assert named(now) == named(then)
            assert now["value"] == pytest.approx(then["value"], rel=1e-6)


@pytest.mark.parametrize("order", [tiny_model.DIMS, tiny_model.DIMS[::-1], (8, 32, 4, 16)])
def test_order_of_dims_does_not_matter(tiny: Tiny, order: tuple[int, ...]) -> None:
    (case,) = (
        case
        for case in recording("sentence_transformers-6.2.0")["cases"]
        if (case["loss"], case["base"]) == ("MatryoshkaLoss", "MultipleNegativesRankingLoss")
        and case["dims"] == list(tiny_model.DIMS)
    )
    variant = load_methods()["mse"].variants["v1"]
    assert_same(case, tiny.step(objective(variant, BASES["MultipleNegativesRankingLoss"], nested_dims=order), case))
