"""The inputs of the recordings are what they say, and the recordings show the behaviours that they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_model
from measure import Tiny, assert_same, named, recording

from matryobench.objectives.registry import load_methods


def test_tokenizer_of_the_tiny_model_gives_the_fixed_batches(tiny_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    for column, encoded in zip(zip(*tiny_model.TRIPLETS, strict=True), tiny_model.triplet_columns(), strict=True):
        batch = tokenizer(list(column), padding=True, return_tensors="np")
        np.testing.assert_array_equal(batch["input_ids"], encoded["input_ids"])
        np.testing.assert_array_equal(batch["attention_mask"], encoded["attention_mask"])


def test_tiny_model_has_exactly_the_given_weights(tiny: Tiny) -> None:
    loaded = {name: parameter.detach().numpy() for name, parameter in tiny.model.named_parameters()}
    given = tiny_model.weights()
    assert loaded.keys() == given.keys()
    for name, array in given.items():
        np.testing.assert_array_equal(loaded[name], array)


def test_releases_of_one_regime_agree() -> None:
    old, new = (recording(f"sentence_transformers-{version}")["cases"] for version in ("3.2.1", "5.1.2"))
    for before, after in zip(old, new, strict=True):
        assert named(before) == named(after)
        if "gradient_norms" in before:
            assert_same(before, after)


def test_the_three_regimes_train_differently() -> None:
    """The same layer, all dims: three different objectives (D1)."""
    values = {}
    for version in ("5.1.2", "5.6.1", "6.2.0"):
        record = recording(f"sentence_transformers-{version}")
        (case,) = (
            case
            for case in record["cases"]
            if case["loss"] == "AdaptiveLayerLoss" and case["layers"] == [2] and not case["arguments"]
        )
        values[record["regime"]] = case["value"], case["gradient_norms"]["layers"][-1]
    (old, old_last), (middle, middle_last), (new, new_last) = values.values()
    assert middle < old < new  # weight of layer 2: 1/3, 1/2, 1
    assert old_last == pytest.approx(middle_last, rel=1e-5) and new_last < old_last  # only the new teacher is detached


def test_only_older_regimes_leave_out_the_embedding_output() -> None:
    for version, lowest in (("3.2.1", 1), ("5.1.2", 1), ("5.6.1", 0), ("6.2.0", 0)):
        cases = recording(f"sentence_transformers-{version}")["cases"]
        assert min(case["layers"][0] for case in cases if "layers" in case) == lowest


def test_every_variant_of_the_2d_method_is_recorded() -> None:
    from test_sentence_transformers import VARIANTS

    assert set(VARIANTS.values()) | {"paper", "released-all-dims"} == set(load_methods()["2dmse-v1"].variants)
