"""Whole-grid STS evaluation: agreement with sentence-transformers' evaluator and scipy, refusals, the known number."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from matryobench.data.tokens import Tokens, tokenise
from matryobench.errors import InputError
from matryobench.evaluation.results import cells_frame, write_items
from matryobench.evaluation.standalone import evaluate_pairs, load_model
from matryobench.evaluation.sts import distinct_texts, encode, evaluate_sts, prefix_cosines
from matryobench.models.folders import load_encoder, load_tokenizer, save_encoder

PAIRS = {
    "sentence1": ["the dog sees the cat", "a man runs", "the red house", "the woman sees a ball", "a cat", "a b c"],
    "sentence2": ["the cat sees the dog", "the man runs not", "a small house", "a ball", "the red cat", "c b a dog"],
    "score": [2.0, 1.0, 3.0, 2.5, 4.0, 0.5],
}


def pairs_of(folder: Path, columns: dict[str, list[Any]], length: int = 16) -> Tokens:
    return tokenise(columns, load_tokenizer(folder), length, {"dataset": "pairs"})


@given(st.integers(1, 40), st.sets(st.integers(1, 24), min_size=1, max_size=5), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_prefix_cosines_are_cosines_of_the_cut_vectors(count: int, dims: set[int], seed: int) -> None:
    left, right = np.random.default_rng(seed).standard_normal((2, count, 24)).astype(np.float32)
    got = prefix_cosines(left, right, sorted(dims))
    for row, dim in zip(got, sorted(dims), strict=True):
        first, second = left[:, :dim].astype(np.float64), right[:, :dim].astype(np.float64)
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        assert np.allclose(row, (first * second).sum(axis=1) / norms, atol=1e-12)


def test_every_cell_equals_sentence_transformers_evaluator_on_the_truncated_model(
    tiny_bert: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    cells = [(layer, dim) for layer in (1, 3, 4) for dim in (4, 16, 32)]
    encoder = load_encoder(tiny_bert, "mean")
    (result,) = evaluate_sts(encoder, {"pairs": pairs_of(tiny_bert, PAIRS)}, cells, progress=False)
    for (layer, dim), value in zip(cells, result.spearman, strict=True):
        folder = tmp_path / f"{layer}"
        if not folder.exists():
            save_encoder(load_encoder(tiny_bert, "mean", layer), tiny_bert, folder, max_length=16)
        library = SentenceTransformer(str(folder), device="cpu", truncate_dim=dim)
        evaluator = EmbeddingSimilarityEvaluator(PAIRS["sentence1"], PAIRS["sentence2"], PAIRS["score"])
        assert value == pytest.approx(evaluator(library)["spearman_cosine"], abs=1e-6)


def test_real_encoder_and_data_give_the_evaluators_numbers(minilm: Path, shared_data: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    lines = (shared_data / "sts" / "STSBenchmark" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    columns = {key: [row[key] for row in rows] for key in ("sentence1", "sentence2", "score")}
    model = load_model(minilm, [6], [32, 384], None, None)
    results, encoder = evaluate_pairs(model, {"stsb": columns}), model.encoder
    assert (encoder.depth, encoder.width) == (6, 384)
    full = dict(zip(results[0].cells, results[0].spearman, strict=True))
    assert round(full[(6, 384)], 4) == 0.8203
    library = SentenceTransformer(str(minilm), device="cpu", truncate_dim=32)
    few = {key: value[:300] for key, value in columns.items()}
    (ours,) = evaluate_pairs(load_model(minilm, [6], [32], None, None), {"some": few})
    first, second = (library.encode(few[key]) for key in ("sentence1", "sentence2"))
    theirs = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    assert np.abs(ours.similarities[0] - theirs).max() < 1e-6
    # The libraries batch differently, so similarities differ by 1e-7, and one exchange of two neighbouring ranks among
    # 300 pairs moves the correlation by more than 1e-6.
    evaluator = EmbeddingSimilarityEvaluator(few["sentence1"], few["sentence2"], few["score"])
    assert ours.spearman[0] == pytest.approx(evaluator(library)["spearman_cosine"], abs=1e-5)


def test_ties_rank_as_in_scipy() -> None:
    gold = np.array([1, 1, 2, 2, 3], dtype=np.float64)
    similarities = np.array([[0.1, 0.1, 0.5, 0.2, 0.5], [1.0, 2.0, 3.0, 4.0, 5.0]], dtype=np.float32)
    from matryobench.evaluation.sts import _spearman

    got = _spearman(gold, similarities, "set", [(1, 2), (1, 4)])
    assert got == pytest.approx([spearmanr(gold, row).statistic for row in similarities])


def test_a_text_is_encoded_once_whatever_sets_and_pairs_it_is_in(tiny_bert: Path) -> None:
    sets = {"one": pairs_of(tiny_bert, PAIRS), "two": pairs_of(tiny_bert, PAIRS)}
    texts, pairs = distinct_texts(sets)
    assert len(texts) == len({*PAIRS["sentence1"], *PAIRS["sentence2"]})
    assert np.array_equal(pairs["one"], pairs["two"])


def test_batching_does_not_change_embeddings(tiny_bert: Path) -> None:
    encoder = load_encoder(tiny_bert, "mean").eval()
    texts, _ = distinct_texts({"pairs": pairs_of(tiny_bert, PAIRS)})
    single = np.concatenate([encode(encoder, [text], [1, 4], 100, False) for text in texts], axis=1)
    for budget in (1, 17, 10_000):
        assert np.abs(encode(encoder, texts, [1, 4], budget, False) - single).max() < 1e-5


def test_equal_similarities_and_equal_gold_scores_are_refused(tiny_bert: Path) -> None:
    encoder = load_encoder(tiny_bert, "cls")
    equal = {**PAIRS, "score": [1.0] * 6}
    with pytest.raises(InputError, match="all gold scores are equal"):
        evaluate_sts(encoder, {"equal": pairs_of(tiny_bert, equal)}, [(4, 8)], progress=False)
    # At the embedding output the [CLS] vector is the same for every text: a cell that cannot see them.
    with pytest.raises(InputError, match=r"all similarities are equal at cell \(0, 8\)"):
        evaluate_sts(encoder, {"pairs": pairs_of(tiny_bert, PAIRS)}, [(0, 8)], progress=False)


def test_a_model_with_nan_is_refused(tiny_bert: Path) -> None:
    encoder = load_encoder(tiny_bert, "mean")
    with torch.no_grad():
        next(iter(encoder.backbone.encoder.layer[-1].parameters())).fill_(float("nan"))
    with pytest.raises(InputError, match="is not a number"):
        evaluate_sts(encoder, {"pairs": pairs_of(tiny_bert, PAIRS)}, [(4, 8)], progress=False)


@pytest.mark.parametrize(
    ("layers", "dims", "sentence"),
    [([5], [8], "layer 5 is not in 1..4"), ([1], [64], "dim 64 is not in 1..32"), ([0], [8], "layer 0 is not in")],
)
def test_cells_outside_a_model_name_the_range(tiny_bert: Path, layers: list, dims: list, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load_model(tiny_bert, layers, dims, "mean", 16)


def test_a_plain_folder_must_be_told_how_to_pool(tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="--pooling mean or --pooling cls"):
        load_model(tiny_bert, None, None, None, 16)


def test_tables_hold_every_cell_and_pair(tiny_bert: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    cells = [(1, 4), (4, 4), (4, 32)]
    results = evaluate_sts(
        load_encoder(tiny_bert, "mean"), {"pairs": pairs_of(tiny_bert, PAIRS)}, cells, progress=False
    )
    frame = cells_frame(results, experiment="e", method="bert", variant="paper", recipe="v1", seed=1, run_id="r")
    assert list(zip(frame["layer"], frame["dim"], strict=True)) == cells
    write_items(results, "r", tmp_path / "items.parquet")
    items = pq.read_table(tmp_path / "items.parquet").to_pandas()
    assert len(items) == len(cells) * 6
    for (layer, dim), value in zip(cells, frame["value"], strict=True):
        own = items[(items["layer"] == layer) & (items["dim"] == dim)].sort_values("item")
        assert spearmanr(PAIRS["score"], own["similarity"]).statistic == pytest.approx(value)


def test_truncated_texts_keep_their_special_tokens(minilm: Path, shared_data: Path) -> None:
    tokenizer = load_tokenizer(minilm)
    with gzip.open(shared_data / "nli" / "train.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in itertools.islice(stream, 50)]
    columns = {key: [row[key] for row in rows] for key in ("anchor", "positive", "negative")}
    tokens = tokenise(columns, tokenizer, 12, {})
    for number in range(tokens.texts):
        text = tokens.text(number)
        assert 3 <= len(text) <= 12
        assert text[0] == tokenizer.cls_token_id
        assert text[-1] == tokenizer.sep_token_id
