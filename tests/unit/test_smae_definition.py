"""SMAE's loss: the paper's definition, the library's masked language model, its settings."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from matryobench.errors import InputError
from matryobench.paths import ROOT
from matryobench.pretraining.parts import head_of, layers_of, parts_of
from matryobench.pretraining.smae import SizedMaskedLM, attend_with_first
from matryobench.pretraining.spec import ContinueSpec
from matryobench.pretraining.vocabulary_loss import vocabulary_loss

PAIRS = [(1, 4), (2, 8), (2, 12), (3, 16)]
SIZES = {"vocab_size": 23, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}


def model_of(family: str) -> Any:
    torch.manual_seed(4)
    if family == "bert":
        model = BertForMaskedLM(BertConfig(**SIZES, max_position_embeddings=16))
    elif family == "roberta":
        model = RobertaForMaskedLM(RobertaConfig(**SIZES, max_position_embeddings=18, pad_token_id=0, bos_token_id=1))
    else:
        model = DistilBertForMaskedLM(
            DistilBertConfig(vocab_size=23, dim=16, n_layers=3, n_heads=2, hidden_dim=24, max_position_embeddings=16)
        )
    for parameter in model.parameters():  # far from the small first weights, so that nothing hides in a rounding
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def batch_of(seed: int = 0) -> list[Tensor]:
    """Three texts of 7, 9 and 5 tokens: ids, mask, labels, decoder ids, decoder labels; rows predict 2/4, 1/3, 0/2."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 23, (3, 9), generator=generator)
    mask = (torch.arange(9) < torch.tensor([7, 9, 5])[:, None]).long()
    labels, decoder_labels = torch.full((2, 3, 9), -100)
    for row, few, more in ((0, [2, 5], [1, 2, 4, 5]), (1, [3], [3, 6, 7]), (2, [], [1, 2])):
        labels[row, few], decoder_labels[row, more] = ids[row, few], ids[row, more]
    masked, decoder_masked = (torch.where(goal != -100, 4, ids) * mask for goal in (labels, decoder_labels))
    return [masked, mask, labels, decoder_masked, decoder_labels]


def definition(module: SizedMaskedLM, ids: Tensor, mask: Tensor, labels: Tensor, more: Tensor, goals: Tensor) -> Tensor:
    """The loss by its definition: text by text, pair by pair, position by position; the decoder is run as it is."""
    model, pairs = module.model, module.pairs
    head, rows = head_of(model), range(len(ids))
    width = model.config.hidden_size

    def predict(state: Tensor, goal: Tensor) -> Tensor:
        dense = sum(head.dense.weight[:, unit] * state[unit] for unit in range(len(state))) + head.dense.bias
        scores = head.projection.weight @ head.norm(head.activation(dense)) + head.projection.bias
        return -(scores[goal] - torch.log(torch.exp(scores).sum()))

    total = torch.zeros((), dtype=torch.float64)
    for layer, dim in pairs:
        mlm, mae = [], []
        for row in rows:
            length = int(mask[row].sum())
            hidden = model.base_model(ids[row : row + 1, :length], output_hidden_states=True).hidden_states
            states = hidden[layer][0]
            mlm += [predict(states[at, :dim], labels[row, at]) for at in range(length) if labels[row, at] != -100]
            if module.decoder is None:
                continue
            inputs = model.base_model.embeddings(more[row : row + 1, :length])
            cut = torch.nn.functional.linear(states[0, :dim], head.dense.weight[:, :dim], head.dense.bias)
            slot = head.norm(head.activation(cut))
            decoded = module.decoder(torch.cat([slot[None, None], inputs[:, 1:]], dim=1))
            decoded = (decoded[0] if isinstance(decoded, tuple) else decoded).reshape(length, width)
            mae += [predict(decoded[at], goals[row, at]) for at in range(length) if goals[row, at] != -100]
        parts = [torch.stack(side).mean() for side in (mlm, mae) if side]
        total = total + torch.stack(parts).mean()
    return total / len(pairs)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("decoder", [True, False])
def test_loss_and_gradients_are_the_definitions(family: str, decoder: bool) -> None:
    module = SizedMaskedLM(model_of(family), PAIRS, decoder).double().eval()
    if decoder:
        assert module.decoder is not None
        for parameter in module.decoder.parameters():  # no longer the first layer's weights
            parameter.data += 0.1 * torch.randn_like(parameter)
    batch = batch_of()
    loss, each = module(*(batch if decoder else batch[:3]))
    loss.backward()
    ours = {name: parameter.grad for name, parameter in module.named_parameters()}
    module.zero_grad(set_to_none=True)
    expected = definition(module, *batch)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    assert each.mean().item() == pytest.approx(expected.item(), rel=1e-10)
    assert all(gradient is not None for gradient in ours.values())  # several processes could not train it otherwise
    theirs = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert len(theirs) > 40
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_one_full_pair_without_decoder_is_the_librarys_masked_lm(family: str) -> None:
    model = model_of(family).double().eval()
    ids, mask, labels, *_ = batch_of()
    loss, each = SizedMaskedLM(model, [(3, 16)], decoder=False)(ids, mask, labels)
    loss.backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    expected = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10) and each.shape == (1, 1)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-10, atol=1e-10, msg=name)


def test_every_pairs_own_losses_are_reported() -> None:
    module = SizedMaskedLM(model_of("bert"), PAIRS, decoder=True).double().eval()
    _, each = module(*batch_of())
    assert each.shape == (2, len(PAIRS))
    for number, pair in enumerate(PAIRS):
        alone = SizedMaskedLM(module.model, [pair], decoder=True).double().eval()
        alone.decoder = module.decoder
        torch.testing.assert_close(alone(*batch_of())[1][:, 0], each[:, number])


def test_the_decoder_starts_as_the_first_layer_and_is_its_own() -> None:
    module = SizedMaskedLM(model_of("bert"), PAIRS, decoder=True)
    first = layers_of(module.model)[0]
    assert module.decoder is not None
    for ours, theirs in zip(module.decoder.parameters(), first.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr()


def test_dropout_of_the_shared_attention_is_attentions() -> None:
    """What attention gives is linear in its dropout mask, so its mean over masks is what it gives without."""
    model = model_of("bert").double()
    parts = parts_of(layers_of(model)[0], model.config)
    generator = torch.Generator().manual_seed(0)
    inputs, firsts = (torch.randn(*size, 16, generator=generator, dtype=torch.double) for size in ((3, 9), (2, 3)))
    mask = batch_of()[1]
    given = (parts, inputs[:, 1:4], inputs, mask, firsts)
    expected = attend_with_first(*given, training=False)
    torch.manual_seed(0)
    drawn = torch.stack([attend_with_first(*given, training=True) for _ in range(1000)])
    assert (drawn.std(dim=0) > 0.05).double().mean() > 0.9
    error = (drawn.mean(dim=0) - expected) / (drawn.std(dim=0) / 1000**0.5)
    assert error.abs().max() < 5 and error.std() < 1.5


def test_the_vocabulary_loss_is_torchs_in_pieces_and_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(sys.modules[vocabulary_loss.__module__])["_PIECE"], "cpu", 200)
    generator = torch.Generator().manual_seed(0)
    states, weight, bias = (torch.randn(size, generator=generator) for size in ((37, 8), (50, 8), (50,)))
    targets = torch.randint(0, 50, (37,), generator=generator)
    shares = torch.rand(37, generator=generator) * 1e-6
    inputs = [value.requires_grad_() for value in (states, weight, bias)]
    logits = torch.nn.functional.linear(states, weight, bias)
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    expected = torch.autograd.grad((each * shares).sum(), inputs)
    loss, rows = vocabulary_loss(*inputs, targets, shares)
    torch.testing.assert_close(rows, each.detach())
    for ours, theirs in zip(torch.autograd.grad(loss * 3, inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs * 3)
    with torch.autocast("cpu", torch.bfloat16):
        loss, rows = vocabulary_loss(*inputs, targets, shares)
    assert loss.dtype == rows.dtype == torch.float32
    for ours, theirs in zip(torch.autograd.grad(loss, inputs), expected, strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_no_row_to_predict_gives_zero_and_a_gradient_everywhere() -> None:
    module = SizedMaskedLM(model_of("bert"), PAIRS, decoder=True)
    ids, mask, *_ = batch_of()
    nothing = torch.full_like(ids, -100)
    loss, each = module(ids, mask, nothing, ids, nothing)
    loss.backward()
    assert loss.item() == 0 and not each.any()
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "there are no sizes to pre-train"),
        ([(4, 8)], r"the size \(4, 8\) does not fit the backbone, whose layers are 1\.\.3 and dims 1\.\.16; choose"),
        ([(2, 17)], r"the size \(2, 17\) does not fit"),
        ([(0, 8)], r"the size \(0, 8\) does not fit"),
        ([(2, 8), (2, 8)], r"the size \(2, 8\) is listed twice"),
    ],
)
def test_sizes_that_the_backbone_lacks_are_one_sentence(pairs: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SizedMaskedLM(model_of("bert"), pairs, decoder=True)


def test_a_decoder_that_masks_less_than_the_encoder_is_refused() -> None:
    settings = {"text": "x", "sizes": {"Demi": (2, 32)}, "decoder_mask": 0.1, "training": {"steps": 1}}
    with pytest.raises(ValidationError, match=r"'decoder_mask' \(0.1\) is below 'encoder_mask'"):
        ContinueSpec.model_validate(settings)


def test_the_cost_of_a_step_can_be_measured() -> None:
    import importlib.util

    found = importlib.util.spec_from_file_location("measure_smae", ROOT / "tools" / "measure_smae.py")
    assert found is not None and found.loader is not None
    tool = importlib.util.module_from_spec(found)
    found.loader.exec_module(tool)
    told = tool.measure("tiny", batch=2, tokens=24, repeats=1, device=torch.device("cpu"), vocabulary=60)
    assert told["smae_over_mlm"] > 0 and set(told["seconds"]) == {"library", "mlm", "smae", "direct"}
    module = SizedMaskedLM(tool.model_of("tiny", 60), [(1, 8), (2, 16)], decoder=True).double().eval()
    batch = tool.masked_batch(2, 24, 60)
    assert tool.direct(module, *batch).item() == pytest.approx(module(*batch)[0].item(), rel=1e-6)
