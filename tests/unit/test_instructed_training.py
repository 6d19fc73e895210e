"""Training with instructions: pooling that leaves tokens out, INSTRUCTOR's loss, batches of one subset."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from instructed_cases import ASK, SAY, instructed_columns

from matryobench.data.instructed_tokens import encode_pairs, tokenise_instructed
from matryobench.data.tokens import Tokens
from matryobench.errors import InputError
from matryobench.models.encoder import Encoder
from matryobench.models.folders import load_encoder, load_tokenizer
from matryobench.objectives.base import base_terms, instructor
from matryobench.objectives.objective import Objective
from matryobench.objectives.recipe import InstructorLoss
from matryobench.objectives.registry import load_methods
from matryobench.training.module import AllLayers
from matryobench.training.sts import StsTraining

# --- pooling ---------------------------------------------------------------------------------------------------------


def sequences() -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    texts = [torch.randint(5, 20, (size,), generator=generator, dtype=torch.int32) for size in (9, 3, 12, 5, 7)]
    return texts, torch.tensor([4, 0, 11, 1, 2], dtype=torch.int32)


def test_the_mean_is_over_what_follows_the_skipped_tokens_which_attention_still_sees(tiny_bert: Path) -> None:
    encoder = load_encoder(tiny_bert, "mean").eval()
    texts, skips = sequences()
    with torch.no_grad():
        pooled = encoder.embed(texts, [0, 2, 4], 20, skips=skips)
        for number, (text, skip) in enumerate(zip(texts, skips.tolist(), strict=True)):
            states = encoder.backbone(input_ids=text[None].long(), output_hidden_states=True).hidden_states
            expected = torch.stack([states[layer][0, skip:].mean(dim=0) for layer in (0, 2, 4)])
            assert (pooled[:, number] - expected).abs().max() < 1e-5


def test_without_skips_and_with_none_left_out_every_bit_is_the_same(tiny_bert: Path) -> None:
    encoder = load_encoder(tiny_bert, "mean").eval()
    texts, _ = sequences()
    padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True).long()
    mask = torch.tensor([[float(at < len(text)) for at in range(padded.shape[1])] for text in texts])
    with torch.no_grad():
        plain = encoder.embed(texts, [1, 4], 1_000)
        assert torch.equal(plain, encoder.embed(texts, [1, 4], 1_000, skips=[0] * 5))
        states = encoder.backbone(input_ids=padded, attention_mask=mask.long(), output_hidden_states=True).hidden_states
        for position, layer in enumerate((1, 4)):  # the pooling as it was before there were skips
            weights = mask.unsqueeze(-1)
            before = (states[layer] * weights).sum(dim=1) / weights.sum(dim=1)
            assert torch.equal(encoder(padded, mask.long(), [layer])[0], before)
            assert (plain[position] - before).abs().max() < 1e-6


def test_pooling_by_the_first_token_does_not_see_the_skips(tiny_bert: Path) -> None:
    encoder = load_encoder(tiny_bert, "cls").eval()
    texts, skips = sequences()
    with torch.no_grad():
        assert torch.equal(encoder.embed(texts, [2, 4], 20, skips=skips), encoder.embed(texts, [2, 4], 20))


def test_a_text_that_is_skipped_to_its_end_is_refused(tiny_bert: Path) -> None:
    encoder, (texts, _) = load_encoder(tiny_bert, "mean"), sequences()
    with pytest.raises(ValueError, match="at least one token must be pooled"):
        encoder.embed(texts, [4], 20, skips=[0, 3, 0, 0, 0])


def test_caching_gradients_changes_none_of_them(tiny_bert: Path) -> None:
    texts, skips = sequences()
    gradients = []
    for cached in (False, True):
        module = AllLayers(load_encoder(tiny_bert, "mean").eval(), 20, cached)
        module(texts, [2, 4], skips).square().sum().backward()
        gradients.append([p.grad.clone() for p in module.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    assert all((a - b).abs().max() < 1e-5 for a, b in zip(*gradients, strict=True))


def test_sentence_transformers_leaves_the_same_tokens_out(minilm: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["The stomata of a leaf open at dawn.", "why is the sky blue?", "42", "Émile Zola's trial; " * 60]
    library = SentenceTransformer(str(minilm), device="cpu")
    library.set_pooling_include_prompt(False)
    library.max_seq_length = 64
    tokenizer, encoder = load_tokenizer(minilm), load_encoder(minilm, "mean").eval()
    for instruction in (
        "Represent the Science sentence for retrieval:",
        "Represent the question for retrieving answers; Input:",
    ):
        ids, skips = encode_pairs([(instruction, text) for text in texts], tokenizer, 64, "here")
        with torch.no_grad():
            ours = encoder.embed([torch.tensor(tokens) for tokens in ids], [6], 4_000, skips=skips)[0]
        ours = torch.nn.functional.normalize(ours, dim=-1).numpy()  # MiniLM's folder ends so
        theirs = library.encode(texts, prompt=f"{instruction} ")
        assert np.abs(ours - theirs).max() < 1e-6
        assert np.abs(ours - library.encode(texts)).max() > 1e-2  # the instruction does matter


# --- loss and training -----------------------------------------------------------------------------------------------


def test_the_instructor_loss_is_the_released_sums() -> None:
    generator = torch.Generator().manual_seed(1)
    columns = [torch.randn(5, 8, generator=generator, dtype=torch.float64) for _ in range(3)]
    query, positive, negative = (column.numpy() for column in columns)

    def similarity(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b)) / 0.07

    forward = reverse = 0.0
    for i in range(5):
        own = similarity(query[i], positive[i])
        against = [own, *(similarity(query[i], negative[j]) for j in range(5))]
        back = [own, *(similarity(positive[i], query[j]) for j in range(5) if j != i)]
        forward += (math.log(sum(map(math.exp, against))) - own) / 5
        reverse += (math.log(sum(map(math.exp, back))) - own) / 5
    terms = base_terms(columns, None, InstructorLoss(loss="instructor", temperature=0.07))
    assert list(terms) == ["instructor", "instructor-reverse"]
    assert float(terms["instructor"]) == pytest.approx(forward, abs=1e-12)
    assert float(terms["instructor-reverse"]) == pytest.approx(reverse, abs=1e-12)
    assert InstructorLoss(loss="instructor").temperature == 0.01


def test_other_queries_positives_are_no_candidates() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    forward, reverse = instructor([eye, eye, -eye], 1.0)
    # own 1; hard negatives -1, 0, 0: log(e + 1/e + 2) - 1; reverse: own 1, others 0
    assert float(forward) == pytest.approx(math.log(math.e + 1 / math.e + 2) - 1)
    assert float(reverse) == pytest.approx(math.log(math.e + 2) - 1)


def training_on(tokens: Tokens, encoder: Encoder, method: str = "bert", **more: Any) -> StsTraining:
    methods = load_methods()
    variant = methods[method].variants[methods[method].default_for("sts")]
    objective = Objective(
        variant, InstructorLoss(loss="instructor"), encoder.depth, encoder.width, nested_dims=(encoder.width, 8)
    )
    return StsTraining(tokens, objective, data_seed=1, **{"batch_size": 4, **more})


@pytest.mark.parametrize("method", ["bert", "mse", "2dmse-v1"])
def test_training_pools_without_the_instructions_in_every_method(tiny_bert: Path, method: str) -> None:
    rows = [
        {"query": ["the dog", f"{it} sees a cat"], "pos": ["a man", f"the {it}"], "neg": ["a man", f"a {it}"], "task_name": ""}
        for it in ("dog", "ball", "house", "woman")
    ]  # fmt: skip
    tokens = tokenise_instructed([instructed_columns(rows)], load_tokenizer(tiny_bert), 16, {}, "here")
    encoder = load_encoder(tiny_bert, "mean").eval()
    work = training_on(tokens, encoder, method)
    numbers = torch.arange(4)
    loss, _ = work.loss_of(AllLayers(encoder, 40), numbers, torch.Generator().manual_seed(0))
    pooled = {}
    for layer in work.layers:
        columns = []
        for column in range(3):
            texts = [tokens.text(int(tokens.rows[row, column])) for row in numbers]
            skips = [int(tokens.skips[tokens.rows[row, column]]) for row in numbers]
            assert min(skips) == 3
            states = [
                encoder(t[None].long(), torch.ones(1, len(t)).long(), [layer], torch.tensor([s]))
                for t, s in zip(texts, skips, strict=True)
            ]
            columns.append(torch.cat(states, dim=1)[0])
        pooled[layer] = torch.stack(columns)
    expected, _ = work.objective(pooled, None, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-4)


def test_batches_of_one_subset(tiny_bert: Path) -> None:
    count = torch.tensor([0] * 11 + [1] * 5 + [2] * 1 + [3] * 8)
    tokens = Tokens(
        torch.zeros(1), torch.arange(2), torch.zeros(25, 3, dtype=torch.int32), None, {"dataset": "x"}, None, count
    )
    encoder = load_encoder(tiny_bert, "mean")
    work = training_on(tokens, encoder, one_subset=True)
    epochs = [work.batches(epoch) for epoch in (0, 1)]
    for batches in epochs:
        assert sorted(len(batch) for batch in batches) == [3, 4, 4, 4, 4, 4]  # 4 4 3, 4 (and one row), none, 4 4
        assert all(len(set(count[batch].tolist())) == 1 for batch in batches)
        rows = torch.cat(batches).tolist()
        assert len(set(rows)) == len(rows)
    assert [b.tolist() for b in epochs[0]] == [b.tolist() for b in work.batches(0)]
    assert [b.tolist() for b in epochs[0]] != [b.tolist() for b in epochs[1]]
    assert [len(batch) for batch in training_on(tokens, encoder).batches(0)] == [
        4
    ] * 6  # mixed, the 25th row is left out
    bare = Tokens(tokens.ids, tokens.offsets, tokens.rows, None, {"dataset": "x"})
    with pytest.raises(InputError, match="^x: its rows name no subset, so batches cannot be of one"):
        training_on(bare, encoder, one_subset=True)


def test_five_steps_on_real_triplets_lower_the_loss(minilm: Path, shared_data: Path) -> None:
    with gzip.open(shared_data / "nli" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        triplets = [json.loads(next(lines)) for _ in range(8)]
    rows = [
        {"query": [ASK, t["anchor"]], "pos": [SAY, t["positive"]], "neg": [SAY, t["negative"]], "task_name": "nli"}
        for t in triplets
    ]
    tokens = tokenise_instructed([instructed_columns(rows)], load_tokenizer(minilm), 40, {}, "here")
    encoder = load_encoder(minilm, "mean").train()
    work, module = training_on(tokens, encoder, batch_size=8), AllLayers(encoder, 1_024)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4)
    losses = []
    torch.manual_seed(0)
    for step in range(4):
        loss, terms = work.loss_of(module, work.batches(0)[0], torch.Generator().manual_seed(step))
        assert set(terms) == {"instructor/l6/d384", "instructor-reverse/l6/d384"}
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
