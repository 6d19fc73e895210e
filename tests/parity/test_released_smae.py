"""SMAE pre-training against what the published code of Starbucks gives: losses, gradient norms and masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import record_smae
import tiny_model
import torch
from measure import GRADIENT_TOLERANCE, LOSS_TOLERANCE, named, recording

from matryobench.pretraining.masking import Vocabulary, draw_words
from matryobench.pretraining.smae import SizedMaskedLM
from matryobench.pretraining.start import load_masked_lm

CASES = recording("smae-2a3b24f")["cases"]
STEPS = [case for case in CASES if "sizes" in case]
MASKS = [case for case in CASES if "text" in case]


@pytest.mark.parametrize("case", STEPS, ids=named)
def test_losses_and_gradients_are_the_published_codes(case: dict[str, Any], tmp_path: Path) -> None:
    model, new_head = load_masked_lm(record_smae.build(tmp_path / "tiny"), 0)
    assert not new_head
    decoder = case["loss"] == "BertFor2DMaekMatryoshkaMaskedLM"
    module = SizedMaskedLM(model, [tuple(pair) for pair in case["sizes"]], decoder).train()
    batch = [torch.from_numpy(part) for part in record_smae.masked_batch()]
    loss, _ = module(*(batch if decoder else batch[:3]))
    loss.backward()
    assert loss.item() == pytest.approx(case["value"], rel=LOSS_TOLERANCE)
    names = {name.removeprefix("model."): value for name, value in module.named_parameters()}
    published = {
        name.replace("decoder.", "decoder.bert.encoder.layer.0.", 1) if name.startswith("decoder.") else name: value
        for name, value in names.items()
    }
    ours = record_smae.norms(published.items())
    assert ours.keys() == case["gradient_norms"].keys() and (ours["decoder"] is not None) == decoder
    for name, norm in case["gradient_norms"].items():
        if norm is not None:
            assert ours[name] == pytest.approx(norm, rel=GRADIENT_TOLERANCE), name


@pytest.mark.parametrize("case", MASKS, ids=lambda case: f"{len(case['text'])}-tokens-{case['seed']}")
def test_masks_are_the_published_codes(case: dict[str, Any]) -> None:
    pieces = record_smae.PIECES
    vocabulary = Vocabulary(
        special=np.arange(len(pieces)) < 5,
        starts=np.array([not piece.startswith("##") for piece in pieces]),
        replacements=np.arange(5, len(pieces)),
        mask=4, first=2, separator=3, padding=0,
    )  # fmt: skip
    drawn = draw_words(np.array(case["text"]), vocabulary, 0.2, 0.4, np.random.default_rng(case["seed"]))
    assert [flags.astype(int).tolist() for flags in drawn] == [case["encoder"], case["decoder"]]


def test_the_recording_masks_something_and_pads() -> None:
    _, mask, labels, _, goals = record_smae.masked_batch()
    assert (mask == 0).any() and 0 < (labels != -100).sum() < (goals != -100).sum()
    assert any(sum(case["encoder"]) < sum(case["decoder"]) for case in MASKS) and len(MASKS) == 20
    assert tiny_model.SIZES[-1] == (tiny_model.LAYERS, tiny_model.HIDDEN)
