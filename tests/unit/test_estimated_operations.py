"""Formulas of operations, against torch's own count of the same passes and cases worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from matryobench.estimating import operations
from matryobench.estimating.budgets import training_bytes
from matryobench.estimating.shapes import BERT_BASE, EncoderShape
from matryobench.estimating.texts import Texts

SHAPE = EncoderShape(3, 32, 64, 50, 40)
ROWS, LENGTH = 5, 12
BATCH = Texts(ROWS, ROWS * LENGTH, ROWS * LENGTH**2)


def bert(kind: str, layers: int = SHAPE.layers) -> Any:
    import transformers

    config = transformers.BertConfig(
        vocab_size=SHAPE.vocabulary, hidden_size=SHAPE.hidden, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=SHAPE.intermediate, max_position_embeddings=SHAPE.positions, attn_implementation="eager",
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return getattr(transformers, kind)(config, **({"add_pooling_layer": False} if kind == "BertModel" else {}))


def counted(call: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def ids() -> torch.Tensor:
    return torch.randint(5, SHAPE.vocabulary, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layers", [1, 3])
def test_a_forward_pass_has_the_operations_that_torch_counts(layers: int) -> None:
    model = bert("BertModel", layers).eval()
    assert counted(lambda: model(ids())) == operations.forward(SHAPE, BATCH, layers)


@pytest.mark.parametrize("recomputed", [0, 1])
def test_a_training_step_has_the_operations_that_torch_counts(recomputed: int) -> None:
    model = bert("BertModel").train()
    if recomputed:
        model.activation_checkpointing_enable()
    found = counted(lambda: model(inputs_embeds=embedded(model)).last_hidden_state.sum().backward())
    # Recomputing leaves out what no gradient needs, the last product of a layer.
    assert found == pytest.approx(
        operations.training(SHAPE, BATCH, SHAPE.layers, recomputed), rel=0.1 * recomputed + 1e-9
    )


def embedded(model: Any) -> torch.Tensor:
    vectors: torch.Tensor = model.embeddings.word_embeddings(ids())
    return vectors


@pytest.mark.parametrize("decoder", [False, True])
def test_masked_lm_and_smae_have_the_operations_that_torch_counts(decoder: bool) -> None:
    from matryobench.pretraining.masking import UNPREDICTED
    from matryobench.pretraining.smae import SizedMaskedLM

    pairs = [(1, 8), (2, 16), (3, 32)]
    module = SizedMaskedLM(bert("BertForMaskedLM"), pairs, decoder=decoder).train()
    tokens, generator = ids(), np.random.default_rng(0)

    def labels(share: float) -> torch.Tensor:
        chosen = torch.full((ROWS, LENGTH), UNPREDICTED)
        for row in range(ROWS):  # as many in every row, so that nothing is padded
            places = generator.permutation(np.arange(1, LENGTH))[: round(share * LENGTH)]
            chosen[row, places] = tokens[row, places]
        return chosen

    batch = [tokens, torch.ones_like(tokens), labels(0.25)]
    if decoder:
        batch += [tokens, labels(0.5)]
    found = counted(lambda: module(*batch)[0].backward())
    said = operations.masked_lm(SHAPE, BATCH, pairs, 0.25, 0.5 if decoder else None)
    assert found == pytest.approx(said, rel=0.05)


def test_score_matrices_of_a_batch_forward_and_backward() -> None:
    queries, passages = (torch.randn(rows, 32, requires_grad=True) for rows in (4, 12))

    def loss() -> None:
        sum((queries[:, :dim] @ passages[:, :dim].T).sum() for dim in (8, 32)).backward()

    assert counted(loss) == operations.contrastive(4, 12, [8, 32])


def test_one_token_of_bert_base_by_hand() -> None:
    # 12 x (8 x 768^2 + 4 x 768 x 3072) = 169,869,312, and attention over itself 12 x 4 x 768.
    assert operations.forward(BERT_BASE, Texts(1, 1, 1), 12) == 169_869_312 + 36_864
    # A search at the widths 2 and 3: two blocks of products, 2 x 1 x (2 + 1) in all.
    assert operations.search(1, 1, 3) == 6


def test_parameters_are_those_of_the_model() -> None:
    assert SHAPE.parameters() == sum(one.numel() for one in bert("BertModel").parameters())
    assert SHAPE.parameters(1) == sum(one.numel() for one in bert("BertModel", 1).parameters())
    whole = SHAPE.parameters() + SHAPE.head_parameters()
    assert whole == sum(one.numel() for one in bert("BertForMaskedLM").parameters())
    assert BERT_BASE.parameters() == 108_891_648  # bert-base-uncased without its pooler


def test_activations_that_are_recomputed_are_not_held() -> None:
    held = {keeps: training_bytes(SHAPE, 3, 1000, 10_000, 100, False, keeps) for keeps in ("all", "layers", "pass")}
    assert held["pass"] < held["layers"] < held["all"]
    assert held["all"] - held["pass"] == 9900 * 3 * 190 * 32
    assert held["all"] - held["layers"] == 10_000 * 3 * 32 * (190 - 4) - 100 * 190 * 32
    assert training_bytes(SHAPE, 3, 1000, 10_000, 100, True, "all") < held["all"]
