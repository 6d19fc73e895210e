"""Evaluation through mteb: every cell equals mteb's own evaluation of the cut model, from one encoding, once."""

from __future__ import annotations

import csv
import gzip
import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mteb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sentence_transformers import SentenceTransformer

from matryobench import layout
from matryobench.data.classifications import Classification
from matryobench.data.collections import Collection
from matryobench.data.records import write_table
from matryobench.data.values import passage_text
from matryobench.errors import InputError
from matryobench.evaluation.mteb_adapter import GridEmbeddings
from matryobench.evaluation.mteb_results import MtebResult
from matryobench.evaluation.mteb_runs import MtebSettings, evaluate_mteb, evaluate_mteb_run
from matryobench.evaluation.mteb_tasks import ClassificationTables, RetrievalTables, Tables, table_task
from matryobench.models.folders import load_encoder, load_tokenizer, read_settings, save_encoder

CELLS = ((2, 8), (2, 32), (4, 8), (4, 32))
WORDS = ["dog", "cat", "sees", "the", "red", "ball", "small", "house", "runs", "not", "man", "woman"]


def sentences(count: int, seed: int) -> list[str]:
    """Distinct texts of three to eight words."""
    draws = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(draws.choice(WORDS, size=draws.integers(3, 9)))] = None
    return list(found)


def labelled(texts: list[str]) -> pa.Table:
    """A text's label says whether a dog, else a man, is in it."""
    labels = ["dog" if "dog" in text else "man" if "man" in text.split() else "none" for text in texts]
    return pa.table({"text": texts, "label": labels})


@pytest.fixture(scope="module")
def classes() -> ClassificationTables:
    texts = sentences(120, seed=1)
    return ClassificationTables("animals", labelled(texts[:80]), labelled(texts[80:]))


@pytest.fixture(scope="module")
def search() -> RetrievalTables:
    """Queries are documents without their last word; query q3 has the id of a document that repeats it."""
    texts = sentences(40, seed=2)
    ids = [f"d{number:02}" for number in range(40)][::-1]
    queries = pa.table({
        "query_id": ["q1", "q2", "d07", "q4"], "text": [text.rsplit(" ", 1)[0] for text in texts[:3]] + ["the the"]
    })  # fmt: skip
    texts[ids.index("d07")] = queries["text"][2].as_py()
    passages = pa.table({"doc_id": ids, "title": ["red"] * 20 + [""] * 20, "text": texts})
    judged = [("q1", ids[0], 1), ("q1", ids[1], 2), ("q2", ids[1], 1), ("d07", ids[2], 1)]
    qrels = pa.table({name: [row[at] for row in judged] for at, name in enumerate(("query_id", "doc_id", "grade"))})
    return RetrievalTables("lookup", passages, queries, qrels)


@pytest.fixture(scope="module")
def tiny(tiny_bert: Path) -> tuple[Any, Any]:
    return load_encoder(tiny_bert, "mean"), load_tokenizer(tiny_bert)


def evaluated(tiny: tuple[Any, Any], tables: Tables, out: Path, **changes: Any) -> MtebResult:
    settings = replace(MtebSettings(CELLS, 32, "tiny", "abc123"), **changes)
    (result,) = evaluate_mteb(*tiny, [lambda: tables], settings, out)
    return result


def passage_texts(search: RetrievalTables) -> list[str]:
    columns = (search.passages[name].to_pylist() for name in ("title", "text"))
    return [passage_text(*parts) for parts in zip(*columns, strict=True)]


def peers_score(model: SentenceTransformer, tables: Tables) -> float:
    """mteb's score of a sentence-transformers model, as mteb evaluates any."""
    task = table_task(tables)
    found = mteb.evaluate(model, task.task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    return float(found.scores[task.split][0]["main_score"])


@pytest.mark.filterwarnings("ignore")
def test_every_cell_is_what_mteb_says_of_the_cut_model(
    tiny: tuple[Any, Any], tiny_bert: Path, classes: ClassificationTables, search: RetrievalTables, tmp_path: Path
) -> None:
    results = [evaluated(tiny, tables, tmp_path) for tables in (classes, search)]
    for layer in (2, 4):
        folder = tmp_path / f"cut{layer}"
        save_encoder(load_encoder(tiny_bert, "mean", layer), tiny_bert, folder, max_length=32)
        for dim in (8, 32):
            peer = SentenceTransformer(str(folder), device="cpu", truncate_dim=dim)
            for result, tables in zip(results, (classes, search), strict=True):
                value = result.values[result.cells.index((layer, dim))]
                assert value == pytest.approx(peers_score(peer, tables), abs=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_real_model_on_real_data_gives_mtebs_numbers(minilm: Path, shared_data: Path, tmp_path: Path) -> None:
    emotion = shared_data / "classification" / "Emotion"
    with gzip.open(emotion / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        train = [json.loads(next(lines)) for _ in range(80)]
    test = [json.loads(line) for line in (emotion / "test.jsonl").read_text(encoding="utf-8").splitlines()[:50]]
    tables = (pa.table({key: [str(row[key]) for row in rows] for key in ("text", "label")}) for rows in (train, test))
    sets: list[Tables] = [ClassificationTables("emotion", *tables, "EmotionClassification"), scifact(shared_data)]
    settings = MtebSettings(((3, 64), (6, 64), (6, 384)), 32, "minilm", "x", normalise=read_settings(minilm).normalised)
    encoder, tokenizer = load_encoder(minilm, "mean"), load_tokenizer(minilm)
    results = evaluate_mteb(encoder, tokenizer, [lambda: sets[0], lambda: sets[1]], settings, tmp_path)
    assert settings.normalise and [result.metric for result in results] == ["accuracy", "ndcg@10"]
    assert results[0].facts["samples_per_label"] == 16  # mteb's setting of that task; its default is 8
    for number, dim in ((1, 64), (2, 384)):
        peer = SentenceTransformer(str(minilm), device="cpu", truncate_dim=dim)
        peer.max_seq_length = 32
        for result, one in zip(results, sets, strict=True):
            assert result.values[number] == pytest.approx(peers_score(peer, one), abs=1e-4)


def scifact(shared_data: Path) -> RetrievalTables:
    """20 test queries of SciFact, their documents and forty more."""
    folder = shared_data / "retrieval" / "scifact"
    with (folder / "qrels" / "test.tsv").open() as stream:
        judged = list(csv.reader(stream, delimiter="\t"))[1:21]
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    wanted, relevant = {row[0] for row in judged}, {row[1] for row in judged}
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    kept = [d for d in documents if d["_id"] in relevant] + [d for d in documents if d["_id"] not in relevant][:40]
    kept.sort(key=lambda document: document["_id"], reverse=True)
    asked = [query for query in queries if query["_id"] in wanted]
    return RetrievalTables(
        "scifact",
        pa.table({"doc_id": [d["_id"] for d in kept], **{key: [d[key] for d in kept] for key in ("title", "text")}}),
        pa.table({"query_id": [query["_id"] for query in asked], "text": [query["text"] for query in asked]}),
        pa.table({
            "query_id": [row[0] for row in judged], "doc_id": [row[1] for row in judged],
            "grade": pa.array([int(row[2]) for row in judged], pa.int32()),
        }),
        mteb_task="SciFact",
    )  # fmt: skip


def test_all_cells_cost_one_encoding_of_each_distinct_text(
    tiny: tuple[Any, Any], classes: ClassificationTables, search: RetrievalTables, tmp_path: Path
) -> None:
    passed: list[int] = []
    hook = tiny[0].backbone.register_forward_pre_hook(
        lambda module, positional, named: passed.append(len(named["input_ids"])), with_kwargs=True
    )
    try:
        one, other = (evaluated(tiny, tables, tmp_path) for tables in (classes, search))
    finally:
        hook.remove()
    drawn = table_task(classes).task
    selected: set[int] = set()
    order = None
    for number in range(drawn.n_experiments):
        _, order, chosen = drawn._undersample_data(drawn.dataset["train"], number, order)
        selected |= set(chosen)
    documents = set(passage_texts(search))
    asked = set(search.queries["text"].to_pylist()[:3])  # the fourth has no judgement
    assert one.facts["texts_encoded"] == len(selected) + 40
    assert other.facts["texts_encoded"] == len(documents | asked)
    assert sum(passed) == one.facts["texts_encoded"] + other.facts["texts_encoded"]


def test_items_are_the_experiments_and_the_queries_behind_a_score(
    tiny: tuple[Any, Any], classes: ClassificationTables, search: RetrievalTables, tmp_path: Path
) -> None:
    one, other = (evaluated(tiny, tables, tmp_path) for tables in (classes, search))
    assert one.items == tuple("0123456789") and one.n_items == 40
    assert other.items == ("d07", "q1", "q2") and other.n_items == 3
    for result in (one, other):
        assert result.item_values.shape == (4, len(result.items))
        assert result.item_values.mean(axis=1) == pytest.approx(result.values, abs=1e-5)  # mteb rounds retrieval to 5
        rows = list(result.scores())
        assert [row[:4] for row in rows] == [(result.metric, layer, layer, dim) for layer, dim in CELLS]
        assert [row[4] for row in rows] == list(result.values)


def test_a_named_task_has_the_values_per_query_of_a_plain_one(
    tiny: tuple[Any, Any], search: RetrievalTables, tmp_path: Path
) -> None:
    plain, named = (
        evaluated(tiny, replace(search, mteb_task=name), tmp_path / str(name)) for name in (None, "SciFact")
    )
    assert named.facts["mteb_task"] == "SciFact" and named.items == plain.items == ("d07", "q1", "q2")
    assert np.array_equal(named.item_values, plain.item_values)


def test_retrieval_gives_the_values_per_query_of_this_programs_own_search(
    tiny: tuple[Any, Any], search: RetrievalTables, tmp_path: Path
) -> None:
    from matryobench.data.tokens import pieces, tokenise_passages
    from matryobench.evaluation.retrieval_runs import SearchSettings, evaluate_sets
    from matryobench.evaluation.searches import build_search

    encoder, tokenizer = tiny
    asked = search.queries["text"].to_pylist()
    for own in (False, True):
        tokens = [tokenise_passages(pieces(part), tokenizer, 32, {}) for part in (passage_texts(search), asked)]
        native = build_search(
            "lookup", search.passages, tokens[0], [("lookup", own, search.queries, tokens[1], search.qrels)]
        )
        cells = tuple((layer, layer, dim) for layer, dim in CELLS)
        (scores,) = evaluate_sets(encoder, native, SearchSettings(cells, "cosine", 100, ""))
        result = evaluated(tiny, replace(search, exclude_own_id=own), tmp_path / str(own))
        order = [scores.query_ids.index(query) for query in result.items]
        assert result.item_values == pytest.approx(scores.values["ndcg@10"][:, order], abs=1e-6)
        assert result.facts["own_id_excluded"] is own
    assert not np.array_equal(result.item_values[:, 0], evaluated(tiny, search, tmp_path / "False").item_values[:, 0])


def test_embeddings_that_do_not_fit_the_memory_are_mapped_and_equal(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    texts = sentences(30, seed=5)
    held, mapped = (
        GridEmbeddings(*tiny, (2, 4), 32, tmp_path / "maps", name="set", normalise=True, in_memory=size)
        for size in (10**9, 2 * 10 * 32 * 4)
    )
    for some in (texts[:10], texts[5:], texts[::-1], texts[:3] * 2):
        for cell in ((2, 8), (4, 32)):
            assert np.array_equal(held.of(some, None, *cell), mapped.of(some, None, *cell))
    assert held.texts == mapped.texts == 30
    assert [path.stat().st_size for path in (tmp_path / "maps").iterdir()] == [
        2 * 20 * 32 * 4
    ]  # the second block alone
    whole = held.of(texts, None, 4, 32)
    assert np.linalg.norm(whole, axis=1) == pytest.approx(np.ones(30), abs=1e-6)
    assert np.array_equal(held.of(texts, None, 4, 8), whole[:, :8])  # cut after it was normalised


def test_an_instruction_is_seen_and_left_out_of_the_pooling(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    encoder, tokenizer = tiny
    embeddings = GridEmbeddings(
        encoder, tokenizer, (4,), 32, tmp_path, name="set", instructions={"query": "the red house"}
    )
    told = embeddings.of(["dog runs"], "query", 4, 32)
    ids = torch.tensor([tokenizer("the red house dog runs")["input_ids"]])
    with torch.inference_mode():
        states = encoder.backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    assert told[0] == pytest.approx(states[4:].mean(dim=0).numpy(), abs=1e-6)  # [CLS] the red house | dog runs [SEP]
    assert not np.allclose(told, embeddings.of(["dog runs"], "passage", 4, 32))
    assert embeddings.texts == 2


def test_instructions_reach_each_side_of_a_set(tiny: tuple[Any, Any], search: RetrievalTables, tmp_path: Path) -> None:
    plain = evaluated(tiny, search, tmp_path / "plain")
    told = {"retrieval-query": "the cat sees", "lookup-passage": "not the ball", "classification": "unused here"}
    result = evaluated(tiny, search, tmp_path / "told", instructions=told)
    assert result.facts["instructions"] == {"query": "the cat sees", "passage": "not the ball"}
    assert plain.facts["instructions"] == {} and not np.array_equal(plain.item_values, result.item_values)


def test_two_evaluations_are_equal_and_leave_the_callers_generators_alone(
    tiny: tuple[Any, Any], classes: ClassificationTables, tmp_path: Path
) -> None:
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    first = evaluated(tiny, classes, tmp_path / "one")
    after = random.random(), np.random.random(), torch.rand(1).item()
    second = evaluated(tiny, classes, tmp_path / "two")
    assert np.array_equal(first.item_values, second.item_values)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    assert after == (random.random(), np.random.random(), torch.rand(1).item())


def test_a_finished_set_is_taken_up_until_something_changes(
    tiny: tuple[Any, Any], classes: ClassificationTables, tmp_path: Path
) -> None:
    first = evaluated(tiny, classes, tmp_path)
    nothing = (SimpleNamespace(), None)  # no encoder: what is finished needs none
    again = evaluated(nothing, classes, tmp_path)
    assert np.array_equal(again.item_values, first.item_values) and again.facts == first.facts
    assert (again.items, again.cells, again.n_items, again.metric) == (first.items, list(CELLS), 40, "accuracy")
    other = replace(classes, test=labelled(sentences(30, seed=9)))
    changes: list[dict[str, Any]] = [
        {"identity": "other"}, {"cells": CELLS[:2]}, {"max_length": 16}, {"normalise": True},
        {"instructions": {"animals": "the"}}, {"tables": other},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(AttributeError):
            evaluated(nothing, change.pop("tables", classes), tmp_path, **change)
    (tmp_path / "mteb" / "sets" / "animals.safetensors").write_bytes(b"damaged")
    assert np.array_equal(evaluated(tiny, classes, tmp_path).item_values, first.item_values)


def test_mteb_reads_its_own_results_of_every_cell(
    tiny: tuple[Any, Any], classes: ClassificationTables, search: RetrievalTables, tmp_path: Path
) -> None:
    results = {tables.name: evaluated(tiny, tables, tmp_path) for tables in (classes, search)}
    read = mteb.ResultCache(tmp_path / "mteb").load_results(include_remote=False)
    assert {model.model_name for model in read.model_results} == {f"matryobench/tiny.l{la}.d{d}" for la, d in CELLS}
    for model in read.model_results:
        assert model.model_revision == "abc123"
        layer, dim = (int(part[1:]) for part in model.model_name.split(".")[1:])
        for found in model.task_results:
            result = results[found.task_name]
            assert found.dataset_revision == result.facts["tables_sha256"]
            value = found.scores["test"][0]["main_score"]
            assert value == pytest.approx(result.values[result.cells.index((layer, dim))], abs=1e-6)
    path = tmp_path / "mteb" / "results" / "matryobench__tiny.l4.d8" / "abc123" / "animals.json"
    assert len(mteb.TaskResult.from_disk(path).scores["test"][0]["scores_per_experiment"]) == 10


def test_a_run_of_a_plan_is_evaluated_from_its_tables(
    tiny: tuple[Any, Any], tiny_bert: Path, classes: ClassificationTables, search: RetrievalTables, tmp_path: Path
) -> None:
    names = {"animals.train": classes.train, "animals.test": classes.test, "lookup.corpus": search.passages,
             "lookup.queries": search.queries, "lookup.qrels": search.qrels}  # fmt: skip
    for name, table in names.items():
        write_table(table, tmp_path / layout.table(name), {"dataset": name})
    model = tmp_path / "run" / "model"
    save_encoder(tiny[0], tiny_bert, model, max_length=32)
    (tmp_path / "run" / "run.json").write_text("{}", encoding="utf-8")
    plan: Any = SimpleNamespace(
        mteb=SimpleNamespace(
            evaluate={"retrieval": ["lookup"], "classification": ["animals"]}, instructions={}, max_length=32,
            encode_precision="fp32",
        ),
        classifications={"animals": Classification("animals", "animals.train", "animals.test", None, "")},
collections={"lookup": Collection("lookup", *list(names)[2:], None, False, "ndcg@10", 40, "")},
    )  # fmt: skip
    run: Any = SimpleNamespace(run_id="mteb-ff-paper-r-s0", evaluated=CELLS)
    results, facts = evaluate_mteb_run(plan, run, tiny[0], model, tmp_path, tmp_path / "out")
    assert [result.dataset for result in results] == ["lookup", "animals"] == list(facts)
    assert np.array_equal(results[1].values, evaluated(tiny, classes, tmp_path / "direct").values)
    items = pd.read_parquet(tmp_path / "out" / "items.parquet")
    assert list(items.columns) == ["run_id", "dataset", "metric", "item", "layer", "dim", "value"]
    assert len(items) == 4 * (3 + 10) and set(items["run_id"]) == {"mteb-ff-paper-r-s0"}
    mine = items[(items["dataset"] == "lookup") & (items["layer"] == 4) & (items["dim"] == 8)]
    assert mine["item"].tolist() == ["d07", "q1", "q2"]
    assert mine["value"].to_numpy() == pytest.approx(results[0].item_values[2], abs=1e-7)


def test_texts_that_do_not_fit_the_encoder_are_one_sentence(
    tiny: tuple[Any, Any], classes: ClassificationTables, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match="^animals: texts of 64 tokens do not fit the encoder's 32 positions; lower max_length"
    ):
        evaluated(tiny, classes, tmp_path, max_length=64)
    long = " ".join(WORDS * 3)
    with pytest.raises(InputError, match="^animals: an instruction leaves no room for text in 32 tokens"):
        evaluated(tiny, classes, tmp_path, instructions={"animals": long})
    assert not list((tmp_path / "mteb").glob(".*"))


def test_the_command_evaluates_sets_of_the_registry(tiny_bert: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from matryobench.cli import app

    arguments = ["--task", "mteb", "--sets", "demo-events", "--pooling", "mean", "--max-length", "16", "--layers", "1,4",
                 "--dims", "8", "--offline", "--instruction", "classification=the man sees", "--mirror", str(tmp_path),
                 "--out", str(tmp_path / "cells.parquet")]  # fmt: skip
    ran = CliRunner().invoke(app, ["evaluate", str(tiny_bert), *arguments])
    assert ran.exit_code == 0, ran.output
    frame = pd.read_parquet(tmp_path / "cells.parquet")
    assert frame[["task", "dataset", "metric", "layer", "dim", "n_items"]].to_numpy().tolist() == [
        ["mteb", "demo-events", "accuracy", layer, 8, 400] for layer in (1, 4)
    ]
    items = pd.read_parquet(tmp_path / "cells" / "items.parquet")
    assert items.groupby("layer")["value"].mean().to_numpy() == pytest.approx(frame["value"].to_numpy(), abs=1e-6)
    read = mteb.ResultCache(tmp_path / "cells" / "mteb").load_results(include_remote=False)
    assert len(read.model_results) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "--sets: name what to evaluate through mteb; there are "),
        (
            ("--sets", "demo-event"),
            "--sets: unknown classification set or test collection 'demo-event'; did you mean demo-events",
        ),
        (("--sets", "demo-events", "--instruction", "x=y"), "--instruction: unknown instruction key 'x'"),
        (
            ("--task", "sts", "--instruction", "x=y"),
            "--instruction: instructions are for the task mteb; add --task mteb.",
        ),
    ],
)
def test_wrong_arguments_of_the_command(tiny_bert: Path, arguments: tuple[str, ...], sentence: str) -> None:
    from typer.testing import CliRunner

    from matryobench.cli import app

    ran = CliRunner().invoke(app, ["evaluate", str(tiny_bert), "--task", "mteb", *arguments])
    assert isinstance(ran.exception, InputError) and sentence in str(ran.exception)
