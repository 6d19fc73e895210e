"""Words, nested masks, replacement, and the order and cutting of streamed texts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer, DataCollatorForLanguageModeling, PreTrainedTokenizerFast, RobertaTokenizer

from matryobench.errors import InputError
from matryobench.models.folders import load_tokenizer
from matryobench.pretraining.masking import (
    UNPREDICTED,
    Masker,
    Vocabulary,
    budget,
    draw_tokens,
    draw_words,
    replace,
    vocabulary_of,
    words_of,
)
from matryobench.pretraining.text import Blocks, Spans, TextTable

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "##ed", "dog", "a"]


def bert_tokenizer(folder: Path) -> Any:
    (folder / "vocab.txt").write_text("\n".join(BERT) + "\n", encoding="utf-8")
    return BertTokenizer(vocab=str(folder / "vocab.txt"))


def roberta_tokenizer() -> Any:
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "p", "l", "a", "y", "s", "Ġ", "Ċ", "la", "pla", "Ġpla"]
    merges = [("l", "a"), ("p", "la"), ("Ġ", "pla")]
    return RobertaTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)


@pytest.fixture
def bert(tmp_path: Path) -> Vocabulary:
    return vocabulary_of(bert_tokenizer(tmp_path), "test")


def tokens_of(tokens: list[str], names: list[str]) -> np.ndarray:
    return np.array([names.index(token) for token in tokens])


def as_lists(words: list[np.ndarray]) -> list[list[int]]:
    return [word.tolist() for word in words]


def test_a_bert_word_is_a_token_and_the_pieces_that_continue_it(bert: Vocabulary) -> None:
    ids = tokens_of(["[CLS]", "play", "##ing", "dog", "[UNK]", "a", "play", "##ed", "##ing", "[SEP]"], BERT)
    assert as_lists(words_of(ids, bert)) == [[1, 2], [3], [5], [6, 7, 8]]


def test_a_piece_where_a_text_was_cut_is_a_word_of_its_own(bert: Vocabulary) -> None:
    ids = tokens_of(["[CLS]", "##ing", "##ed", "dog", "[SEP]", "##ed", "a"], BERT)  # also after a special token
    assert as_lists(words_of(ids, bert)) == [[1, 2], [3], [5], [6]]
    assert words_of(tokens_of(["[CLS]", "[SEP]"], BERT), bert) == []


def test_a_roberta_word_begins_with_a_space_or_with_the_text() -> None:
    tokenizer = roberta_tokenizer()
    vocabulary = vocabulary_of(tokenizer, "test")
    ids = np.array(tokenizer("plays plas\nla p")["input_ids"])
    tokens = tokenizer.convert_ids_to_tokens(ids.tolist())
    assert tokens == ["<s>", "pla", "y", "s", "Ġpla", "s", "Ċ", "la", "Ġ", "p", "</s>"]
    assert as_lists(words_of(ids, vocabulary)) == [[1, 2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_sentencepiece_word_begins_with_its_mark() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("<pad>", 0.0), ("<mask>", 0.0), ("▁dog", -1.0), ("s", -2.0)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", cls_token="<s>", sep_token="</s>", pad_token="<pad>",
        mask_token="<mask>",
    )  # fmt: skip
    ids = np.array([1, *tokenizer("dogs dog", add_special_tokens=False)["input_ids"], 2])
    assert as_lists(words_of(ids, vocabulary_of(tokenizer, "test"))) == [[1, 2], [3]]


def test_a_tokenizer_that_cannot_be_masked_is_one_sentence(tmp_path: Path) -> None:
    tokenizer = bert_tokenizer(tmp_path)
    tokenizer.mask_token = None
    with pytest.raises(InputError, match=r"^here: its tokenizer has no mask token, .*; start from an encoder"):
        vocabulary_of(tokenizer, "here")
    from tokenizers import Tokenizer, models

    backend = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    words = PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token="a", sep_token="a", pad_token="a", mask_token="a"
    )
    with pytest.raises(InputError, match=r"the words of its tokenizer \(WordLevel\) cannot be told"):
        vocabulary_of(words, "here")


def test_the_released_rule_by_hand(bert: Vocabulary) -> None:
    """10 tokens: budgets 2 and 4. Whatever the order, the words taken are what going through it by hand takes."""
    ids = tokens_of(["[CLS]", "play", "##ing", "##ed", "dog", "a", "play", "##ed", "a", "[SEP]"], BERT)
    words = [[1, 2, 3], [4], [5], [6, 7], [8]]
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(5).tolist()
        encoder, decoder = set[int](), set[int]()
        for word in (words[number] for number in order):
            if len(decoder) + len(word) <= 4:
                decoder |= set(word)
                if len(encoder) + len(word) <= 2:
                    encoder |= set(word)
        drawn = draw_words(ids, bert, 0.2, 0.4, np.random.default_rng(seed))
        assert [set(np.flatnonzero(flags)) for flags in drawn] == [encoder, decoder]


texts = st.lists(st.sampled_from([*BERT[5:], "[UNK]"]), max_size=60).map(lambda tokens: ["[CLS]", *tokens, "[SEP]"])
shares = st.tuples(st.floats(0.01, 0.98), st.floats(0.01, 0.98)).map(sorted)


@given(texts, shares, st.integers(0, 2**32))
def test_masks_are_nested_whole_words_within_budget(tokens: list[str], share: list[float], seed: int) -> None:
    vocabulary = Vocabulary(
        np.arange(10) < 5, np.array([not token.startswith("##") for token in BERT]), np.arange(5, 10), 4, 2, 3, 0
    )
    ids = tokens_of(tokens, BERT)
    encoder, decoder = draw_words(ids, vocabulary, *share, np.random.default_rng(seed))
    words = words_of(ids, vocabulary)
    assert not (encoder & ~decoder).any() and not decoder[vocabulary.special[ids]].any()
    for flags, part in ((encoder, share[0]), (decoder, share[1])):
        assert flags.sum() <= budget(len(ids), part) == max(1, round(len(ids) * part))
        assert all(len(set(flags[word])) == 1 for word in words)
    # Nothing is left out that would have fitted.
    room = budget(len(ids), share[1]) - decoder.sum()
    assert all(decoder[word].all() or len(word) > room for word in words)
    again = draw_words(ids, vocabulary, *share, np.random.default_rng(seed))
    assert all((one == two).all() for one, two in zip((encoder, decoder), again, strict=True))
    alone = draw_words(ids, vocabulary, share[0], None, np.random.default_rng(seed))
    assert (alone[0] == alone[1]).all()


def test_token_masks_are_nested_and_have_the_rates_of_the_library(tmp_path: Path) -> None:
    tokenizer = bert_tokenizer(tmp_path)
    vocabulary = vocabulary_of(tokenizer, "test")
    ids = np.array([2, *([5, 6, 8, 9] * 500), 3])
    generator = np.random.default_rng(1)
    encoder, decoder = draw_tokens(ids, vocabulary, 0.2, 0.4, generator)
    assert not (encoder & ~decoder).any() and not decoder[[0, -1]].any()
    assert encoder.mean() == pytest.approx(0.2, abs=0.03) and decoder.mean() == pytest.approx(0.4, abs=0.03)

    masker = Masker(vocabulary, whole_words=False, encoder=0.2, decoder=None)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.2, seed=3)
    batch = collator([{"input_ids": ids.tolist()}] * 20)
    sides = [masker(ids, np.random.default_rng(seed)) for seed in range(20)]
    ours = torch.from_numpy(np.array(sides))  # (20, 2, tokens)
    for inputs, labels in ((ours[:, 0], ours[:, 1]), (batch["input_ids"], batch["labels"])):
        predicted = labels != UNPREDICTED
        assert predicted.float().mean() == pytest.approx(0.2, abs=0.01)
        shown = inputs[predicted]
        assert (shown == 4).float().mean() == pytest.approx(0.8, abs=0.02)
        assert (shown == labels[predicted]).float().mean() == pytest.approx(0.11, abs=0.02)
        assert (inputs[~predicted] == torch.from_numpy(ids).expand(20, -1)[~predicted]).all()


def test_replacement_is_80_10_10_and_never_special(bert: Vocabulary) -> None:
    ids = np.full(20_000, 8)
    chosen = np.arange(len(ids)) % 2 == 0
    inputs, labels = replace(ids, chosen, bert, np.random.default_rng(0))
    assert (labels[chosen] == 8).all() and (labels[~chosen] == UNPREDICTED).all() and (inputs[~chosen] == 8).all()
    counts = np.bincount(inputs[chosen], minlength=10) / chosen.sum()
    assert counts[4] == pytest.approx(0.8, abs=0.02) and counts[8] == pytest.approx(0.1 + 0.02, abs=0.01)
    assert counts[[5, 6, 7, 9]] == pytest.approx(0.02, abs=0.01) and not counts[:4].any()


def test_the_two_sides_are_replaced_separately(bert: Vocabulary) -> None:
    ids = np.array([2, *([8, 9] * 500), 3])
    masker = Masker(bert, whole_words=True, encoder=0.2, decoder=0.4)
    inputs, labels, more, goals = masker(ids, np.random.default_rng(0))
    both = labels != UNPREDICTED
    assert both.sum() == 200 and (goals != UNPREDICTED).sum() == 401 and (goals[both] == labels[both]).all()
    agree = ((inputs == 4) & (more == 4))[both].mean()
    assert agree == pytest.approx(0.64, abs=0.08)
    again = masker(ids, np.random.default_rng(0))
    assert all((one == two).all() for one, two in zip((inputs, labels, more, goals), again, strict=True))


# --- streamed texts --------------------------------------------------------------------------------------------------


def text_table(folder: Path, texts: list[str], rows: int = 4) -> Path:
    pq.write_table(
        pa.table({"text": texts, "other": list(range(len(texts)))}), folder / "t.parquet", row_group_size=rows
    )
    return folder / "t.parquet"


def opened(folder: Path, texts: list[str], max_length: int = 8, seed: int = 1) -> TextTable:
    tokenizer = bert_tokenizer(folder)
    return TextTable(text_table(folder, texts), tokenizer, vocabulary_of(tokenizer, "test"), max_length, seed)


def test_an_epoch_has_every_text_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    texts = [" ".join(["a"] * number) for number in range(1, 19)]  # a text's length is its number; 5 row groups
    table = opened(tmp_path, texts)
    assert len(table) == 18

    def order(source: TextTable, epoch: int) -> list[int]:
        return [len(ids) for ids in source.tokens(epoch, range(18))]

    first, second = order(table, 0), order(table, 1)
    assert sorted(first) == sorted(second) == list(range(1, 19)) and first != second != sorted(first)
    assert order(table, 0) == order(opened(tmp_path, texts), 0) == first
    assert order(opened(tmp_path, texts, seed=2), 0) != first
    # In any order of asking, and row group by row group.
    assert [len(table.tokens(0, [position])[0]) for position in reversed(range(18))] == first[::-1]
    groups = [(number - 1) // 4 for number in first]
    assert len([1 for one, two in pairwise(groups) if one != two]) == 4


def test_only_the_row_groups_that_are_asked_for_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = opened(tmp_path, ["a dog"] * 40)
    read: list[int] = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, number, **more: read.append(number) or original(self, number, **more)
    )  # fmt: skip
    for start in range(0, 12, 3):
        table.tokens(0, range(start, start + 3))
    assert len(read) == 3 and len(set(read)) == 3
    assert table._group.cache_info().currsize == 2


def test_long_texts_are_cut_at_a_random_place_and_short_ones_are_whole(tmp_path: Path) -> None:
    table = opened(tmp_path, ["a dog", "a dog play"])
    generator = np.random.default_rng(0)
    assert table.finish([9, 8], generator).tolist() == [2, 9, 8, 3]
    assert table.finish([9] * 6, generator).tolist() == [2, *[9] * 6, 3]  # just fits
    long = list(range(5, 10)) * 2
    cuts = [table.finish(long, np.random.default_rng(seed))[1:-1].tolist() for seed in range(400)]
    counts = [sum(cut == long[start : start + 6] for cut in cuts) for start in range(5)]
    assert sum(counts) == 400 and min(counts) > 50
    assert (
        table.finish(long, np.random.default_rng(3)).tolist() == table.finish(long, np.random.default_rng(3)).tolist()
    )


@pytest.mark.parametrize("texts", [[], ["", "  "], ["@ @", "§"]])
def test_no_usable_text_is_one_sentence(texts: list[str], tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), tmp_path / "t.parquet")
    tokenizer = bert_tokenizer(tmp_path)
    with pytest.raises(InputError, match=r"t.parquet: no text in it has a word to mask; give a data set"):
        TextTable(tmp_path / "t.parquet", tokenizer, vocabulary_of(tokenizer, "test"), 8, 1)


def test_a_table_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    tokenizer = bert_tokenizer(tmp_path)
    vocabulary = vocabulary_of(tokenizer, "test")
    with pytest.raises(InputError, match="there is no such table of texts; run the fetch step first"):
        TextTable(tmp_path / "missing.parquet", tokenizer, vocabulary, 8, 1)
    (tmp_path / "bad.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match="bad.parquet: not a readable parquet table"):
        TextTable(tmp_path / "bad.parquet", tokenizer, vocabulary, 8, 1)
    pq.write_table(pa.table({"sentence": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="other.parquet: the table has no column 'text'"):
        TextTable(tmp_path / "other.parquet", tokenizer, vocabulary, 8, 1)


def test_another_table_has_another_fingerprint(tmp_path: Path) -> None:
    one = opened(tmp_path, ["a dog", "a play"]).fingerprint()
    assert one == opened(tmp_path, ["a dog", "a play"]).fingerprint()
    assert one != opened(tmp_path, ["a dog", "a plays"]).fingerprint()


def test_blocks_are_permuted_anew_every_epoch() -> None:
    source = Blocks([[number] for number in range(20)], seed=3)
    first, second = ([ids[0] for ids in source.tokens(epoch, range(20))] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(20)) and first != second
    assert source.finish([1, 2], np.random.default_rng(0)).tolist() == [1, 2]


def test_an_epoch_of_micro_batches_takes_no_memory() -> None:
    spans = Spans(epoch=2, count=10**9, size=32)
    assert len(spans) == 10**9 and spans[3].first == 96 and spans[-1].first == 32 * (10**9 - 1)
    assert [span.first for span in spans[10**9 - 2 :]] == [32 * (10**9 - 2), 32 * (10**9 - 1)]
    with pytest.raises(IndexError):
        spans[10**9]


def test_the_tiny_models_tokenizer_is_understood(tiny_bert: Path) -> None:
    vocabulary = vocabulary_of(load_tokenizer(tiny_bert), "test")
    assert vocabulary.mask == 4 and vocabulary.special.sum() == 5 and vocabulary.starts.all()
