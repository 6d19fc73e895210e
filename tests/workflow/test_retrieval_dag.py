"""The retrieval half of the workflow on a tiny experiment: mined groups, shards as jobs, tables, figures, backends."""

from __future__ import annotations

import copy
import gzip
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_dag import CONFIG as STS
from test_dag import TRAINING, planned, snakemake, write_config

from matryobench import layout
from matryobench.analysis import cells
from matryobench.evaluation import retrieval
from matryobench.evaluation.runs import evaluate_run, search_shard
from matryobench.plan import Plan

CONFIG: dict[str, Any] = {
    "name": "small",
    "description": "retrieval of two methods, one of them by another library too",
    "offline": True,
    "backbone": STS["backbone"],
    "seeds": [7],
    "retrieval": {
        "evaluate": ["demo-search"],
        "query_max_length": 16,
        "passage_max_length": 32,
        "shard_documents": 1500,
        "bands": [8],
        "run_files": [[1, 8]],
        "grid": {"layers": [1, 2], "dims": [8, 16]},
        "baselines": ["bert"],
        "recipes": {
            "groups": {
                "description": "groups of two", "train": "demo-groups", "pooling": "cls", "query_max_length": 16,
                "passage_max_length": 32, "group_size": 2, "base": {"loss": "contrastive"}, "target_dims": [8],
                "training": {**TRAINING, "batch_size": 4, "steps": 3},
            }
        },
        "runs": [{"method": "bert", "backends": ["native", "tevatron"]}, {"method": "fix-doc"}],
    },
}  # fmt: skip
RUNS = (
    "retrieval-bert-paper-groups-s7",
    "retrieval-bert-paper-groups-tevatron-s7",
    "retrieval-fix-doc-released-groups-s7",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the experiment has run to the end."""
    folder = tmp_path_factory.mktemp("small-retrieval")
    write_config(folder, CONFIG)
    result = snakemake(folder)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    return folder


def test_shards_are_jobs_and_every_cell_is_in_the_table(finished: Path) -> None:
    root = finished / "results" / "small"
    for run in RUNS:
        shards = sorted(path.name for path in (root / "evaluation" / run / "shards").glob("*.safetensors"))
        assert shards == ["demo-search.corpus.0-of-2.safetensors", "demo-search.corpus.1-of-2.safetensors"]
    frame = cells.read(root / "tables" / "cells.parquet")
    single = frame[frame["dataset"] == "demo-search"]
    assert single.groupby(["run_id", "metric"]).size().eq(4).all()
    assert set(single["metric"]) == {"ndcg@10", "mrr@10", "recall@100"}
    fixed = single[single["method"] == "fix-doc"]
    assert set(fixed["query_layer"]) == {1, 2} and set(fixed["layer"]) == {2}
    assert set(single["backend"]) == {"native", "tevatron"}


def test_items_and_run_files_are_the_queries_behind_the_scores(finished: Path) -> None:
    own = finished / "results" / "small" / "evaluation" / RUNS[0]
    items, table = pd.read_parquet(own / "items.parquet"), pd.read_parquet(own / "cells.parquet")
    for metric in ("ndcg@10", "mrr@10", "recall@100"):
        means = items.groupby(["query_layer", "layer", "dim"])[metric].mean()
        rows = table[table["metric"] == metric].set_index(["query_layer", "layer", "dim"])["value"]
        assert (means - rows).abs().max() < 1e-6
    lines = gzip.decompress((own / "run_files" / "demo-search.l1.d8.trec.gz").read_bytes()).decode().splitlines()
    assert len(lines) == 100 * items["query"].nunique()
    assert lines[0].split()[1::2] == ["Q0", "1", RUNS[0]]


def test_the_library_and_the_native_run_agree(finished: Path) -> None:
    frame = cells.read(finished / "results" / "small" / "tables" / "cells.parquet")
    wide = frame[frame["method"] == "bert"].pivot(
        index=["dataset", "metric", "layer", "dim"], columns="backend", values="value"
    )
    assert (wide["native"] - wide["tevatron"]).abs().max() < 0.02
    root = finished / "results" / "small"
    assert (root / "figures" / "retrieval-backends-demo-search.png").stat().st_size > 5000
    assert (root / "tables" / "retrieval-backends-demo-search.md").stat().st_size > 100


def test_one_job_gives_what_shards_give_and_nothing_is_trained_again(finished: Path) -> None:
    assert planned(finished) == {}
    root = finished / "results" / "small"
    before = cells.read(root / "tables" / "cells.parquet")
    config = copy.deepcopy(CONFIG)
    config["retrieval"]["shard_documents"] = 4096
    try:
        write_config(finished, config)
        jobs = planned(finished)
        assert "train" not in jobs and "search" not in jobs and jobs["evaluate"] == len(RUNS)
        assert snakemake(finished).returncode == 0
        after = cells.read(root / "tables" / "cells.parquet")
        # Shards of 1500 encode the texts in other batches, so that a near tie may fall the other way.
        assert (after["value"] - before["value"]).abs().max() < 2e-3
    finally:
        write_config(finished, CONFIG)


def test_shards_that_begin_with_a_piece_give_one_jobs_scores_to_the_last_bit(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two kinds of jobs on the workflow's files, with pieces so small that this corpus has several."""
    monkeypatch.setattr(retrieval, "PIECE", 500)
    files, run_id = tmp_path / "results", RUNS[2]
    shutil.copytree(finished / "results" / "small", files, ignore=shutil.ignore_patterns("evaluation", "figures"))
    model, scores = files / "runs" / run_id / "model", []
    for documents in (4096, 1500):
        config = copy.deepcopy(CONFIG)
        config["retrieval"]["shard_documents"] = documents
        write_config(tmp_path, config)
        plan = Plan.load(tmp_path / "small.yaml")
        run, shards = plan.run(run_id), plan.shards("demo-search.corpus")
        for shard in range(shards) if shards > 1 else ():
            out = files / layout.shard(run_id, "demo-search.corpus", shard, shards)
            search_shard(plan, run, "demo-search.corpus", shard, shards, model, files, out)
        out = files / "evaluation" / run_id
        evaluate_run(plan, run, model, files, out)
        scores.append([pd.read_parquet(out / name) for name in ("cells.parquet", "items.parquet")])
        scores[-1].append((out / "run_files" / "demo-search.l1.d8.trec.gz").read_bytes())
    assert len(list((out / "shards").glob("*.safetensors"))) == 2
    for one, merged in zip(scores[0][:2], scores[1][:2], strict=True):
        pd.testing.assert_frame_equal(merged, one, check_exact=True)
    assert scores[0][2] == scores[1][2]  # the rankings with their scores
