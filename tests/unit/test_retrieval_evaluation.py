"""Whole-grid retrieval evaluation: against single searches, after a kill, in shards, and as tables."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from matryobench.analysis import cells as cells_table
from matryobench.data.tokens import Tokens, tokenise_passages
from matryobench.errors import InputError
from matryobench.evaluation import retrieval
from matryobench.evaluation.half_precision import fp16_rankings, metric_differences, rank_agreement, rank_fp16
from matryobench.evaluation.rankings import Rankings, merge
from matryobench.evaluation.results import cells_frame, write_retrieval_items
from matryobench.evaluation.retrieval import evaluate_rankings, search_corpus
from matryobench.evaluation.retrieval_runs import SearchSettings
from matryobench.evaluation.search import TopK
from matryobench.evaluation.searches import Search
from matryobench.models.encoder import Encoder
from matryobench.models.folders import load_encoder, load_tokenizer

GRID = [(layer, layer, dim) for layer in (1, 2, 4) for dim in (4, 16, 32)]
FIXED = [(layer, 4, dim) for layer in (1, 2, 4) for dim in (4, 16, 32)]
COUNT = 130


def texts(count: int, longest: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    words = ["a", "b", "c", "dog", "cat", "sees", "the", "red", "ball", "small", "house", "runs", "not"]  # of tiny_bert
    return [" ".join(rng.choices(words, k=rng.randint(1, longest))) for _ in range(count)]


@pytest.fixture(scope="module")
def world(tiny_bert: Path) -> tuple[Encoder, list[torch.Tensor], Tokens]:
    """An encoder, 9 queries and 130 documents, the last two of them empty."""
    tokenizer = load_tokenizer(tiny_bert)
    corpus = tokenise_passages([[*texts(COUNT - 2, 20, 1), "", ""]], tokenizer, 24, {})
    queries = tokenise_passages([texts(9, 6, 2)], tokenizer, 16, {})
    return load_encoder(tiny_bert, "mean"), [queries.text(number) for number in range(9)], corpus


def search(world: tuple, cells: list, k: int = 20, **options: Any) -> Rankings:
    encoder, queries, corpus = world
    return search_corpus(encoder, queries, corpus, cells, k, options.pop("similarity", "dot"), **options)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("cells", [GRID, FIXED, [(2, 2, 16)]], ids=["grid", "fixed-documents", "one-cell"])
def test_every_cell_equals_a_search_of_its_own(world: tuple, cells: list, similarity: str) -> None:
    encoder, queries, corpus = world
    got = search(world, cells, similarity=similarity)
    assert got.cells == tuple(cells)
    documents = [corpus.text(number) for number in range(COUNT)]
    with torch.no_grad():
        for number, (query_layer, layer, dim) in enumerate(cells):
            left = torch.cat([encoder.embed([text], [query_layer], 64)[0] for text in queries])[:, :dim].double()
            right = torch.cat([encoder.embed([text], [layer], 64)[0] for text in documents])[:, :dim].double()
            if similarity == "cosine":
                left, right = (torch.nn.functional.normalize(side, dim=1) for side in (left, right))
            expected = (left @ right.T).sort(dim=1, descending=True).values[:, :20]
            assert torch.allclose(got.scores[number].double(), expected, atol=2e-5)


def test_a_killed_search_goes_on_to_the_same_rankings(
    world: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"documents_per_step": 40, "identity": "run 1", "checkpoint": tmp_path / "state.safetensors"}
    whole = search(world, GRID, **{**settings, "checkpoint": None})
    add, seen = TopK.add, []

    def dies_at_80(self: TopK, documents: Any, first: int) -> None:
        if first >= 80:
            raise KeyboardInterrupt
        add(self, documents, first)

    def records(self: TopK, documents: Any, first: int) -> None:
        seen.append(first)
        add(self, documents, first)

    monkeypatch.setattr(TopK, "add", dies_at_80)
    with pytest.raises(KeyboardInterrupt):
        search(world, GRID, **settings)
    monkeypatch.setattr(TopK, "add", records)
    resumed = search(world, GRID, **settings)
    assert seen == [80, 120]
    assert torch.equal(resumed.scores, whole.scores) and torch.equal(resumed.documents, whole.documents)

    # A finished state answers without encoding; any other setting, and a damaged file, start anew.
    seen.clear()
    assert torch.equal(search(world, GRID, **settings).documents, whole.documents) and seen == []
    search(world, GRID, **{**settings, "identity": "run 2"})
    assert seen == [0, 40, 80, 120]
    seen.clear()
    settings["checkpoint"].write_bytes(b"torn")
    assert torch.equal(search(world, GRID, **settings).documents, whole.documents) and seen == [0, 40, 80, 120]


def test_shards_merge_to_the_rankings_of_one_pass(world: tuple) -> None:
    excluded = torch.arange(9) * 11
    one = search(world, GRID, excluded=excluded, documents_per_step=50)
    shards = [
        search(world, GRID, excluded=excluded, documents_per_step=50, start=start, stop=stop)
        for start, stop in [(100, 130), (0, 50), (50, 100)]
    ]
    both = merge(shards)
    # Shards that begin where steps begin are encoded in the same batches, and so agree in every bit.
    assert torch.equal(one.documents, both.documents) and torch.equal(one.scores, both.scores)
    assert not (one.documents == excluded[None, :, None]).any()


def test_the_corpus_is_encoded_once_for_all_cells(world: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, queries, corpus = world
    encoded: list[int] = []
    embed = Encoder.embed

    def counting(self: Encoder, texts: Any, *rest: Any) -> torch.Tensor:
        encoded.append(len(texts))
        return embed(self, texts, *rest)

    monkeypatch.setattr(Encoder, "embed", counting)
    monkeypatch.setattr(retrieval, "PIECE", 64)
    search_corpus(encoder, queries, corpus, GRID, 5, "dot")
    assert encoded == [9, 64, 64, 2]


def test_a_list_is_as_long_as_the_corpus_and_an_empty_range_is_refused(world: tuple) -> None:
    got = search(world, [(4, 4, 32)], k=COUNT + 5)
    assert (got.documents[0, :, :COUNT].sort(dim=1).values == torch.arange(COUNT)).all()
    assert (got.documents[0, :, COUNT:] == -1).all()
    for start, stop in [(5, 5), (0, 131), (-1, 4)]:
        with pytest.raises(InputError, match="leave nothing to search"):
            search(world, GRID, start=start, stop=stop)


def test_a_model_with_nan_is_refused_by_the_set_and_cell(tiny_bert: Path, world: tuple) -> None:
    damaged = load_encoder(tiny_bert, "mean")
    with torch.no_grad():
        damaged.backbone.encoder.layer[-1].output.dense.bias[20] = float("nan")
    with pytest.raises(InputError, match=r"cranfield: there is a score .* query layer 4, layer 4, dim 4"):
        search_corpus(damaged, world[1], world[2], [(1, 1, 4), (4, 4, 4)], 5, "dot", place="cranfield")


def test_scores_and_tables_hold_every_set_metric_cell_and_query(world: tuple, tmp_path: Path) -> None:
    rankings = search(world, FIXED, k=100)
    queries = [f"q{number}" for number in range(9)]
    ids = sorted((f"d{number}" for number in range(COUNT)), reverse=True)
    qrels = {query: {ids[5 * number]: 1, ids[3]: 2} for number, query in enumerate(queries)}
    result = evaluate_rankings(rankings, queries, ids, qrels, "scifact")
    assert {metric: values.shape for metric, values in result.values.items()} == dict.fromkeys(
        ("ndcg@10", "mrr@10", "recall@100"), (9, 9)
    )
    few = evaluate_rankings(rankings.of(slice(2, 6)), queries[2:6], ids, {q: qrels[q] for q in queries[2:6]}, "few")
    assert np.array_equal(few.values["ndcg@10"], result.values["ndcg@10"][:, 2:6])

    names = {"experiment": "e", "method": "fix-doc", "variant": "released", "recipe": "r", "seed": 1, "run_id": "run"}
    frame = cells_frame([result], backend="tevatron", **names)
    checked = cells_table.check(frame)
    assert len(checked) == 3 * len(FIXED) and set(checked["task"]) == {"retrieval"}
    one = checked[(checked["metric"] == "mrr@10") & (checked["query_layer"] == 2) & (checked["dim"] == 16)]
    assert one[["layer", "n_items", "backend"]].values.tolist() == [[4, 9, "tevatron"]]
    assert one["value"].item() == result.values["mrr@10"][FIXED.index((2, 4, 16))].mean()

    write_retrieval_items([result, few], "run", tmp_path / "items.parquet")
    table = pq.read_table(tmp_path / "items.parquet")
    assert [field.name for field in table.schema] == [
        "run_id", "dataset", "query", "query_layer", "layer", "dim", "ndcg@10", "mrr@10", "recall@100",
    ]  # fmt: skip
    items = table.to_pandas()
    assert len(items) == 9 * 9 + 9 * 4 and items["ndcg@10"].dtype == np.float32
    own = items[
        (items["dataset"] == "few") & (items["query"] == "q3") & (items["query_layer"] == 1) & (items["dim"] == 4)
    ]
    assert own["recall@100"].item() == np.float32(result.values["recall@100"][0, 3])


def test_half_precision_is_measured_against_the_exact_search(world: tuple) -> None:
    pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(0)
    queries, documents = torch.randn(30, 16, generator=generator), torch.randn(400, 16, generator=generator)
    queries[:, 0], documents[:, 0] = 1, 300  # scores near 300, where float16 documents are 0.25 apart
    top = TopK([(1, 1, 8)], {1: queries}, 100)
    top.add({1: documents}, 0)
    exact, half = top.result(), fp16_rankings(queries, documents, (1, 1, 8), 100)
    same = rank_agreement(exact, exact)
    assert same.equal_lists.tolist() == [1.0] and same.overlap.tolist() == [1.0]
    agreement = rank_agreement(exact, half)
    assert agreement.equal_lists[0] <= 1.0 and 0.9 < agreement.overlap[0] <= 1.0
    assert (exact.scores - half.scores).abs().max() < 0.1
    ids = sorted((f"d{number}" for number in range(400)), reverse=True)
    names = [f"q{number}" for number in range(30)]
    qrels = {name: {ids[number]: 1} for number, name in enumerate(names)}
    before, after = (evaluate_rankings(one, names, ids, qrels, "set") for one in (exact, half))
    assert {metric: values.shape for metric, values in metric_differences(before, after).items()} == dict.fromkeys(
        before.values, (1,)
    )
    assert metric_differences(before, before)["ndcg@10"].tolist() == [0.0]


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_half_precision_search_is_the_exact_search_of_rounded_documents(world: tuple, similarity: str) -> None:
    pytest.importorskip("faiss")
    encoder, queries, corpus = world
    excluded = torch.tensor([3, -1, 5, -1, -1, -1, -1, -1, -1])
    asked = Search("set", "", corpus, pa.chunked_array([[str(n) for n in range(COUNT)]]), (), queries, excluded)
    half = rank_fp16(encoder, asked, SearchSettings(tuple(FIXED), similarity, 20, ""))
    assert half.cells == tuple(FIXED)
    with torch.no_grad():
        for number, (query_layer, layer, dim) in enumerate(FIXED):
            left = encoder.embed(queries, [query_layer], 64)[0, :, :dim]
            right = encoder.embed([corpus.text(n) for n in range(COUNT)], [layer], 64)[0, :, :dim]
            if similarity == "cosine":
                left, right = (torch.nn.functional.normalize(side, dim=1) for side in (left, right))
            scores = left.double() @ right.half().double().T
            scores[0, 3] = scores[2, 5] = -torch.inf
            assert torch.allclose(half.scores[number].double(), scores.topk(20).values, atol=2e-5)
