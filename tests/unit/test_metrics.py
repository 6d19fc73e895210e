"""Retrieval metrics: pytrec_eval's numbers on the original scores, ties included; hand-made cases; run files."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matryobench.errors import InputError
from matryobench.evaluation.metrics import per_query, qrels_of, write_trec_run
from matryobench.evaluation.rankings import Rankings
from matryobench.evaluation.search import TileSize, TopK

IDS = ["d9", "d8", "d5", "d4", "d3", "d10", "d1"]  # descending as text: a row's number is its place among ties


def ranked(rows: list[list[int]]) -> np.ndarray:
    return np.array([rows], dtype=np.int64)


def test_metrics_of_a_small_case_computed_by_hand() -> None:
    """q1 finds grade 2 at rank 1 and grade 1 at rank 3; one relevant document is not in the corpus; q2 finds nothing."""
    qrels = {"q1": {"d9": 2, "d5": 1, "gone": 1, "d8": 0}, "q2": {"d1": 1}}
    got = per_query(ranked([[0, 1, 2, 3, 4, 5, -1], [0, 1, 2, 3, 4, 5, -1]]), ["q1", "q2"], IDS, qrels, "set")
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    assert got["ndcg@10"][0] == pytest.approx([(2 + 1 / math.log2(4)) / ideal, 0.0])
    assert got["mrr@10"].tolist() == [[1.0, 0.0]]
    assert got["recall@100"][0] == pytest.approx([2 / 3, 0.0])


def test_reciprocal_ranks_end_at_ten_and_recall_at_a_hundred() -> None:
    ids = sorted((f"d{number}" for number in range(150)), reverse=True)
    order = np.arange(120)[None, None]
    for rank, expected in [(1, (1, 1, 1)), (10, (1 / math.log2(11), 0.1, 1)), (11, (0, 0, 1)), (100, (0, 0, 1)),
                           (101, (0, 0, 0))]:  # fmt: skip
        got = per_query(order, ["q"], ids, {"q": {ids[rank - 1]: 1}}, "set")
        assert tuple(float(got[name][0, 0]) for name in ("ndcg@10", "mrr@10", "recall@100")) == pytest.approx(expected)


def test_judgements_without_anything_relevant_score_zero_as_in_trec_eval() -> None:
    got = per_query(ranked([[0, 1, 2, 3, 4, 5, 6]] * 2), ["a", "b"], IDS, {"a": {"d9": 0}, "b": {"d9": -1}}, "set")
    assert all((values == 0).all() for values in got.values())


@given(st.data())
@settings(max_examples=60)
def test_values_are_pytrec_evals_on_the_original_scores_ties_included(data: st.DataObject) -> None:
    """Scores from few whole numbers: nearly all tied, and cut inside ties at k = 100."""
    count = data.draw(st.integers(1, 130))
    rng = np.random.default_rng(data.draw(st.integers(0, 9999)))
    texts = rng.choice(10_000, count, replace=False)
    ids = sorted(
        (f"d{text}" if text % 3 else f"ä{text}" for text in texts), key=lambda text: text.encode(), reverse=True
    )
    queries = [f"q{number}" for number in range(4)]
    scores = rng.integers(0, data.draw(st.integers(1, 40)), (4, count)).astype(np.float32)
    qrels = {
        query: {ids[at]: int(rng.integers(-1, 4)) for at in rng.choice(count, min(count, 12), replace=False)}
        for query in queries
    }
    qrels["q0"]["nowhere"] = 2
    top = TopK([(1, 1, 4)], {1: torch.eye(4)}, 100, tile=TileSize(8, 64))
    top.add({1: torch.from_numpy(scores.T.copy())}, 0)
    got = per_query(
        top.result().documents.numpy(), queries, pa.chunked_array([ids[:3], ids[3:]], pa.string()), qrels, "s"
    )

    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recip_rank", "recall.100"})
    runs = {query: dict(zip(ids, row.tolist(), strict=True)) for query, row in zip(queries, scores, strict=True)}
    ten = {
        query: dict(sorted(run.items(), key=lambda item: (item[1], item[0].encode()), reverse=True)[:10])
        for query, run in runs.items()
    }
    full, cut = evaluator.evaluate(runs), evaluator.evaluate(ten)
    for number, query in enumerate(queries):
        assert got["ndcg@10"][0, number] == full[query]["ndcg_cut_10"]
        assert got["recall@100"][0, number] == full[query]["recall_100"]
        assert got["mrr@10"][0, number] == cut[query]["recip_rank"]


def test_values_agree_with_beir() -> None:
    evaluation = pytest.importorskip("beir.retrieval.evaluation")
    rng = np.random.default_rng(0)
    ids = sorted((f"d{number}" for number in range(200)), reverse=True)
    queries = [f"q{number}" for number in range(20)]
    scores = rng.standard_normal((20, 200)).astype(np.float32)
    qrels = {
        query: {ids[at]: int(rng.integers(0, 3)) for at in rng.choice(200, 10, replace=False)} for query in queries
    }
    order = np.argsort(-scores, axis=1)[:, :100]
    got = per_query(order[None], queries, ids, qrels, "set")
    results = {
        query: {ids[at]: float(scores[number, at]) for at in order[number]} for number, query in enumerate(queries)
    }
    ndcg, _, recall, _ = evaluation.EvaluateRetrieval.evaluate(qrels, results, [10, 100])
    assert round(float(got["ndcg@10"].mean()), 5) == ndcg["NDCG@10"]
    assert round(float(got["recall@100"].mean()), 5) == recall["Recall@100"]
    mrr = evaluation.EvaluateRetrieval.evaluate_custom(qrels, results, [10], metric="mrr")
    relevant = np.array([any(grade > 0 for grade in qrels[query].values()) for query in queries])
    assert relevant.all() and round(float(got["mrr@10"].mean()), 5) == mrr["MRR@10"]


@pytest.mark.parametrize(
    ("rows", "queries", "ids", "qrels", "sentence"),
    [
        ([[0] * 7], ["q", "r"], IDS, {"q": {"d9": 1}, "r": {"d9": 1}}, "1 queries were ranked and 2 are named"),
        ([[0] * 6], ["q"], IDS, {"q": {"d9": 1}}, "6 documents are ranked per query; recall@100 needs 100"),
        ([[0] * 7], ["q"], IDS, {}, "query 'q' has no judgements"),
        (
            [[0] * 7],
            ["q"],
            IDS,
            {"q": {"d9": 1}, "z": {"d9": 1}},
            "the judgements name query 'z', which was not ranked",
        ),
        ([[0] * 7], ["q"], IDS[::-1], {"q": {"d9": 1}}, "document ids are not in descending order"),
        ([[0] * 2], ["q"], ["d1", "d1"], {"q": {"d9": 1}}, "document ids are not in descending order"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    rows: list, queries: list, ids: list, qrels: dict, sentence: str
) -> None:
    with pytest.raises(InputError, match=f"scifact: {sentence}"):
        per_query(ranked(rows), queries, ids, qrels, "scifact")


def test_qrels_come_from_a_table() -> None:
    table = pa.table({"query_id": ["a", "b", "a"], "doc_id": ["1", "1", "2"], "grade": [1, 0, 2]})
    assert qrels_of(table) == {"a": {"1": 1, "2": 2}, "b": {"1": 0}}


def test_run_files_read_back_to_the_same_scores_and_order(tmp_path: Path) -> None:
    scores = torch.tensor([[[0.1, 0.1, -3e-9]], [[7.0, 2.0, float("-inf")]]])
    rankings = Rankings(((1, 1, 8), (2, 2, 8)), scores, torch.tensor([[[1, 4, 0]], [[6, 2, -1]]]))
    write_trec_run(rankings, (1, 1, 8), ["q1"], IDS, tmp_path / "one.run", "bert")
    write_trec_run(rankings, (2, 2, 8), ["q1"], IDS, tmp_path / "two.run.gz", "bert")
    lines = (tmp_path / "one.run").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "q1 Q0 d8 1 0.1 bert" and lines[2].split()[2:4] == ["d9", "3"]
    read = pytrec_eval.parse_run(lines)
    assert [np.float32(score) for score in read["q1"].values()] == scores[0, 0].tolist()
    with gzip.open(tmp_path / "two.run.gz", "rt", encoding="utf-8") as stream:
        assert stream.read() == "q1 Q0 d1 1 7.0 bert\nq1 Q0 d5 2 2.0 bert\n"
    before = (tmp_path / "two.run.gz").read_bytes()
    write_trec_run(rankings, (2, 2, 8), ["q1"], IDS, tmp_path / "two.run.gz", "bert")
    assert (tmp_path / "two.run.gz").read_bytes() == before
    with pytest.raises(InputError, match="'q 1' is empty or has a space"):
        write_trec_run(rankings, (1, 1, 8), ["q 1"], IDS, tmp_path / "bad.run", "bert")
    with pytest.raises(InputError, match="was not searched"):
        write_trec_run(rankings, (9, 9, 8), ["q1"], IDS, tmp_path / "bad.run", "bert")
    assert not (tmp_path / "bad.run").exists()
