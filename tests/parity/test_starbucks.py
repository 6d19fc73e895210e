"""The srl objective computes what the published STS loss of Starbucks computes."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_model
from measure import Case, Tiny, assert_same, changed, named, objective, recording

from matryobench.objectives.recipe import BaseLoss, CoSENTLoss, MNRLoss
from matryobench.objectives.registry import load_methods

BASES: dict[str, BaseLoss] = {
    "MultipleNegativesRankingLoss": MNRLoss(loss="mnrl"),
    "CoSENTLoss": CoSENTLoss(loss="cosent"),
}


def sizes_trained(case: Case) -> tuple[tuple[int, int], ...]:
    """The (layer, dim) sizes that the published code really trains.

    A draw of n layers (D11) gives them the first n widths of the list, whichever layers they are; the draw is of
    layer indices that start at 0.
    """
    sizes = [tuple(size) for size in case["sizes"]]
    if not case["picks"]:
        return tuple(sizes)
    drawn = zip(case["picks"][0], sizes, strict=False)
    return (*((layer + 1, dim) for layer, (_, dim) in drawn), sizes[-1])


@pytest.mark.parametrize("case", [pytest.param(c, id=named(c)) for c in recording("starbucks-2a3b24f")["cases"]])
def test_published_loss(tiny: Tiny, case: Case) -> None:
    def change(settings: dict[str, Any]) -> None:
        temperature = case["arguments"].get("kl_temperature", 0.3)
        if temperature == 0:
            settings["alignments"] = []
        for alignment in settings["alignments"]:
            # The published "temperature" multiplies the KL and is in no softmax (D11).
            alignment["weight"] = temperature * case["arguments"].get("kl_div_weight", 1)

    variant = changed(load_methods()["srl"].variants["released"], change)
    made = objective(variant, BASES[case["base"]], sizes=sizes_trained(case))
    assert_same(case, tiny.step(made, case))


def test_the_drawn_layer_gets_the_wrong_width() -> None:
    """D11, as a fact of the recording: layer 3, whose size is (3, 16), trains at width 4."""
    (case,) = (case for case in recording("starbucks-2a3b24f")["cases"] if case["picks"])
    assert sizes_trained(case) == ((3, 4), tiny_model.SIZES[-1])
