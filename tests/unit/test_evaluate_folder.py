"""`matryobench evaluate MODEL --task retrieval --data FOLDER` on real data, and what wrong folders say."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_cli import matryobench

DOCUMENTS, QUERIES = 120, 25


@pytest.fixture(scope="module")
def folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 queries of SciFact, their documents and others, as a folder in BEIR's form."""
    source, folder = shared_data / "retrieval" / "scifact", tmp_path_factory.mktemp("data") / "some-scifact"
    (folder / "qrels").mkdir(parents=True)
    with (source / "qrels" / "test.tsv").open() as stream:
        rows = list(csv.reader(stream, delimiter="\t"))
    queries = sorted({row[0] for row in rows[1:]})[:QUERIES]
    kept = [row for row in rows[1:] if row[0] in queries]
    with (folder / "qrels" / "test.tsv").open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t").writerows([rows[0], *kept])
    (folder / "queries.jsonl").write_text((source / "queries.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    judged = {row[1] for row in kept}
    with gzip.open(source / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    chosen = [d for d in documents if d["_id"] in judged] + [d for d in documents if d["_id"] not in judged][:DOCUMENTS]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in chosen), encoding="utf-8")
    return folder


def test_real_data_give_the_numbers_of_sentence_transformers_and_pytrec_eval(
    minilm: Path, folder: Path, tmp_path: Path
) -> None:
    import pytrec_eval
    from sentence_transformers import SentenceTransformer

    arguments = ("--task", "retrieval", "--data", str(folder), "--layers", "6", "--dims", "32,384")
    result = matryobench(
        "evaluate",
        str(minilm),
        *arguments,
        "--max-length",
        "128",
        "--run-files",
        "6:32",
        "--half-precision",
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    frame = pd.read_csv(tmp_path / "cells.csv").set_index(["metric", "dim"])["value"]
    with (folder / "qrels" / "test.tsv").open() as stream:
        qrels: dict[str, dict[str, int]] = {}
        for query, document, grade in list(csv.reader(stream, delimiter="\t"))[1:]:
            qrels.setdefault(query, {})[document] = int(grade)
    read = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = [query for query in asked if query["_id"] in qrels]
    library = SentenceTransformer(str(minilm), device="cpu")
    library.max_seq_length = 128
    documents = library.encode([f"{d['title']} {d['text']}" for d in read])
    queries = library.encode([query["text"] for query in asked])
    for dim in (32, 384):
        left, right = (v[:, :dim] / np.linalg.norm(v[:, :dim], axis=1, keepdims=True) for v in (queries, documents))
        scores = left @ right.T
        names = [d["_id"] for d in read]
        run = {q["_id"]: dict(zip(names, row.tolist(), strict=True)) for q, row in zip(asked, scores, strict=True)}
        found = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100"}).evaluate(run).values()
        assert frame["ndcg@10", dim] == pytest.approx(np.mean([one["ndcg_cut_10"] for one in found]), abs=1e-4)
        assert frame["recall@100", dim] == pytest.approx(np.mean([one["recall_100"] for one in found]), abs=1e-4)
    lines = gzip.decompress((tmp_path / "cells" / "some-scifact.l6.d32.trec.gz").read_bytes()).decode().splitlines()
    assert len(lines) == QUERIES * 100
    assert "some-scifact: float16 documents against the exact search" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--task", "retrieval"),
            "--data: give a BEIR-format folder to search, or names of test collections with --sets.",
        ),
        (("--task", "retrieval", "--data", "nowhere"), "nowhere: there is no such folder"),
        (
            ("--task", "retrieval", "--sets", "scifcat"),
            "--sets: unknown test collection 'scifcat'; did you mean scifact",
        ),
        (("--data", "nowhere"), "--data: folders are searched for the task retrieval; add --task retrieval."),
        (("--task", "retrieval", "--similarity", "l2"), "--similarity: 'l2' is not one of cosine, dot; change it."),
        (("--task", "retrieval", "--run-files", "6-384"), "--run-files: '6-384' is not a list of layer:dim pairs"),
        (("--task", "retrieval", "--top-k", "10"), "--top-k: 10 is below 100, which recall@100 needs; raise it."),
    ],
)
def test_wrong_arguments_are_one_line_and_code_2(
    tiny_bert: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    result = matryobench("evaluate", str(tiny_bert), *arguments, "--offline", cwd=tmp_path)
    assert result.returncode == 2
    assert sentence in result.stderr and result.stderr.count("\n") == 1
