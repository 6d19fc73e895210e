"""Tokens of rows with instructions: which ones pooling leaves out, and how they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from instructed_cases import ASK, MEDI, SAY, SPEC, instructed_columns

from matryobench.data import demo_world
from matryobench.data.instructed_tokens import encode_pairs, tokenise_instructed
from matryobench.data.prepare import tokenise_table
from matryobench.data.records import from_columns, write_table
from matryobench.data.tokens import read_tokens, write_tokens
from matryobench.errors import InputError
from matryobench.models.folders import load_tokenizer

# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["wordpiece", "byte-bpe", "byte-bpe, offsets with spaces"])
def tokenizer(request: pytest.FixtureRequest, minilm: Path) -> Any:
    """MiniLM's WordPiece, and byte-level BPE with RoBERTa's special tokens."""
    if request.param == "wordpiece":
        return load_tokenizer(minilm)
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<pad>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    words.train_from_iterator([f"{ASK} the dog runs after a red ball", f"{SAY} who sees the cat?"] * 5, trainer)
    trim = request.param == "byte-bpe"
    words.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=trim, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>")


@given(
    st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S", "Z")), min_size=1, max_size=25),
    st.sampled_from([ASK, SAY, "Query", "Represent it; Input: ", "  Übersetze das:"]),
)
@settings(max_examples=120)
def test_the_leading_tokens_are_the_instructions_own(tokenizer: Any, text: str, instruction: str) -> None:
    ((ids,), (skip,)) = encode_pairs([(instruction, text)], tokenizer, 512, "here")
    alone = tokenizer(instruction.strip())["input_ids"]
    assert ids == tokenizer(f"{instruction.strip()} {text.strip()}")["input_ids"]
    assert skip == len(alone) - 1 and ids[:skip] == alone[:-1]


def test_truncation_cuts_the_text_only(tokenizer: Any) -> None:
    own = len(tokenizer(SAY)["input_ids"]) - 1
    long = "the red ball " * 40
    for room in (1, 5):
        ((ids,), (skip,)) = encode_pairs([(SAY, long)], tokenizer, own + room + 1, "here")
        assert (len(ids), skip) == (own + room + 1, own)
        assert ids[-1] == tokenizer(SAY)["input_ids"][-1]
    for length in (own + 1, own, 4):
        with pytest.raises(
            InputError, match=rf"^here: an instruction leaves no room for text in {length} tokens \('Repr"
        ):
            encode_pairs([(SAY, long)], tokenizer, length, "here")


def test_without_instruction_nothing_is_left_out_and_an_empty_text_pools_the_closing_token(tokenizer: Any) -> None:
    ids, skips = encode_pairs([("", " a dog"), (SAY, ""), (SAY, " ")], tokenizer, 64, "here")
    assert (
        ids == [tokenizer(text)["input_ids"] for text in (" a dog", SAY, SAY)]
        or ids[0] == tokenizer(" a dog")["input_ids"]
    )
    assert skips[0] == 0
    assert skips[1:] == [len(tokenizer(SAY)["input_ids"]) - 1] * 2


def test_every_distinct_pair_is_stored_once_whatever_the_batches(tmp_path: Path, minilm: Path) -> None:
    rows = [*MEDI, {**MEDI[0], "query": [SAY, "who runs?"]}, MEDI[0]]
    columns, tokenizer = instructed_columns(rows), load_tokenizer(minilm)
    whole = tokenise_instructed([columns], tokenizer, 32, {"dataset": "x"}, "here")
    halves = [{key: values[part] for key, values in columns.items()} for part in (slice(0, 3), slice(3, 4))]
    for tokens in (whole, tokenise_instructed(halves, tokenizer, 32, {"dataset": "x"}, "here")):
        assert tokens.texts == 6  # "who runs?" under two instructions, "the dog runs" and the like once
        assert tokens.rows.tolist() == [[0, 1, 2], [3, 4, 1], [5, 1, 2], [0, 1, 2]]
        assert tokens.subsets is not None and tokens.subsets.tolist() == [0, 1, 0, 0]
        assert tokens.meta == {
            "dataset": "x", "columns": ["query", "positive", "negative"], "max_length": 32, "subsets": ["nq", "qa"],
        }  # fmt: skip
    assert whole.skips is not None
    assert tokenizer.decode(whole.text(5)[whole.skips[5] :]) == "who runs? [SEP]"
    write_tokens(whole, tmp_path / "tokens.safetensors")
    back = read_tokens(tmp_path / "tokens.safetensors")
    for name in ("ids", "offsets", "rows", "skips", "subsets"):
        assert torch.equal(getattr(back, name), getattr(whole, name)), name
    assert back.scores is None and back.meta == whole.meta


def test_a_fetched_table_is_tokenised(tmp_path: Path, minilm: Path) -> None:
    table = from_columns(demo_world.table("instructed"), "demo", SPEC, "demo")
    write_table(table, tmp_path / "demo.parquet", {"kind": "instructed", "dataset": "demo", "rows": table.num_rows})
    count = tokenise_table(tmp_path / "demo.parquet", minilm, 64, tmp_path / "tokens.safetensors")
    tokens = read_tokens(tmp_path / "tokens.safetensors")
    assert tokens.texts == count and tokens.rows.shape == (2_709, 3)
    assert tokens.meta["subsets"] == ["sentences", "questions"]
    assert tokens.skips is not None and set(tokens.skips.tolist()) == {5}  # [CLS] represent the sentence :
    with pytest.raises(InputError, match=r"demo\.parquet: an instruction leaves no room for text in 6 tokens"):
        tokenise_table(tmp_path / "demo.parquet", minilm, 6, tmp_path / "short.safetensors")
    assert not (tmp_path / "short.safetensors").exists()
