"""Retrieval configs: what runs, searches and shards come out, and one sentence for everything that is wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_plan import BASE as STS
from test_plan import TRAINING

from matryobench.dag import Dag
from matryobench.errors import InputError
from matryobench.plan import Plan, slug

BASE: dict[str, Any] = {
    "name": "tiny",
    "description": "test",
    "backbone": STS["backbone"],
    "seeds": [1],
    "retrieval": {
        "evaluate": ["demo-search"],
        "grid": {"layers": [1, 2, 4], "dims": [8, 32]},
        "sizes": {"Demi": [1, 8], "Trenta": [4, 32]},
        "recipes": {
            "groups": {
                "description": "test", "train": "demo-groups", "pooling": "cls", "group_size": 3,
                "base": {"loss": "contrastive"}, "target_dims": [8], "dim_lists": {"six": [8, 16]},
                "training": TRAINING,
            },
        },
        "runs": [{"method": "bert"}],
    },
}  # fmt: skip


def load(tmp_path: Path, **changes: Any) -> Plan:
    whole = copy.deepcopy(BASE)
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        at = whole
        for key in path:
            at = at[key]
        at[last] = value
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return Plan.load(path)


def test_methods_get_their_retrieval_variants_and_names_that_files_can_have(tmp_path: Path) -> None:
    runs = [
        {"method": "bert-s"}, {"method": "+dims+full-dim", "variants": ["six"]}, {"method": "fix-doc"},
        {"method": "bert", "backends": ["native", "tevatron"]},
    ]  # fmt: skip
    plan = load(tmp_path, retrieval__runs=runs)
    ids = [run.run_id for run in plan.runs]
    assert ids == [
        *(f"retrieval-bert-s-paper-groups-l{layer}-d{dim}-s1" for layer in (1, 2, 4) for dim in (8, 32)),
        "retrieval-dims-plus-full-dim-six-groups-s1",
        "retrieval-fix-doc-released-groups-s1",
        "retrieval-bert-paper-groups-s1",
        "retrieval-bert-paper-groups-tevatron-s1",
    ]
    assert slug("+dims") == "dims" and slug("ff->mrl") == "ff-to-mrl"


def test_the_datasets_of_an_experiment_include_what_its_groups_are_mined_from(tmp_path: Path) -> None:
    names = load(tmp_path).dataset_names()
    assert {"demo-text", "demo-groups", "demo-search.corpus", "demo-search.queries", "demo-search.qrels"} <= set(names)
    assert "demo-search.train-qrels" in names


def test_a_dim_list_and_the_sizes_retrain_only_who_reads_them(tmp_path: Path) -> None:
    runs = [{"method": "bert"}, {"method": "srl"}, {"method": "+dims", "variants": ["six"]}]
    before = load(tmp_path, retrieval__runs=runs)
    lists = load(tmp_path, retrieval__runs=runs, retrieval__recipes__groups__dim_lists={"six": [8, 24]})
    sizes = load(tmp_path, retrieval__runs=runs, retrieval__sizes={"Demi": [2, 8], "Trenta": [4, 32]})

    def moved(changed: Plan) -> set[str]:
        return {
            run.method
            for run in before.runs
            if before.settings_hash(run) != changed.settings_hash(changed.run(run.run_id))
        }

    assert moved(lists) == {"+dims"}
    assert moved(sizes) == {"srl"}


def test_a_large_corpus_is_searched_in_shards_that_the_evaluation_waits_for(tmp_path: Path) -> None:
    whole = copy.deepcopy(BASE)
    dag = Dag(whole, ["tiny.yaml"])
    run = dag.plan.runs[0].run_id
    assert dag.plan.shards("demo-search.corpus") == 1
    assert not any("shards" in file for file in dag.evaluation_files(run))
    whole["retrieval"]["shard_documents"] = 700
    dag = Dag(whole, ["tiny.yaml"])
    documents = dag.plan.collections["demo-search"].documents
    assert documents is not None
    count = -(-documents // 700)
    shards = [file for file in dag.evaluation_files(run) if "/shards/" in file]
    assert len(shards) == count > 1
    assert shards[-1] == f"results/tiny/evaluation/{run}/shards/demo-search.corpus.{count - 1}-of-{count}.safetensors"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"evaluate": ["demo-serch"]}, r"retrieval.evaluate.0: unknown test collection 'demo-serch'; did you mean demo-search"),
        ({"evaluate": ["demo-sts-roles"]}, r"retrieval.evaluate.0: unknown test collection 'demo-sts-roles'"),
        ({"evaluate": ["demo-search", "demo-search"]}, r"retrieval.evaluate.0: 'demo-search' is listed twice"),
        ({"average": ["scifact"]}, r"retrieval.average.0: unknown evaluated set 'scifact'"),
        ({"run_files": [[3, 8]]}, r"retrieval.run_files: \[3, 8\] is not in retrieval.grid; change it."),
        ({"bands": [32, 32]}, r"'retrieval.bands': a width is listed twice"),
        ({"panels": {"main": ["brt"]}}, r"retrieval.panels.main: unknown method 'brt'; did you mean bert"),
        ({"recipes__groups__train": "demo-triplets"}, r"groups.train: 'demo-triplets' has triplets; name a dataset of groups"),
        ({"recipes__groups__group_size": 0}, r"groups.group_size': input should be greater than or equal to 1, found 0"),
        ({"recipes__groups__target_dims": [64]}, r"recipes.groups.target_dims: dim 64 is not in 1..32"),
        ({"recipes__groups__dim_lists": {"six": [8, 99]}}, r"recipes.groups.dim_lists.six: dim 99 is not in 1..32"),
        ({"recipes__groups__base": {"loss": "mnrl"}}, r"'retrieval.recipes.groups.base.loss': input should be 'contrastive'"),
        ({"runs": [{"method": "2dmse-v1"}]}, r"retrieval.runs.0.method: 2dmse-v1 is not defined for retrieval but for sts"),
        ({"runs": [{"method": "srl", "variants": ["released"]}], "sizes": {}}, r"retrieval"),
        ({"runs": [{"method": "+dims", "variants": ["two"]}]}, r"key 'dim_lists.two' is missing, which \+dims \(two\) trains"),
        ({"runs": [{"method": "mse", "variants": ["v1"]}]}, r"retrieval.runs.0.variants: mse \(v1\) is defined for sts"),
        ({"runs": [{"method": "2dmse"}], "recipes__groups__target_dims": []}, r"recipes.groups: key 'target_dims' is missing"),
        ({"runs": [{"method": "mse", "backends": ["tevatron"]}]}, r"backends: tevatron cannot train mse .* it trains bert"),
        ({"runs": [{"method": "bert", "backends": ["sentence-transformers"]}]},
         r"backends: sentence-transformers cannot train bert \(paper\); it trains nothing of retrieval"),
        ({"runs": [{"method": "bert", "backends": ["tevatron"]}], "recipes__groups__pooling": "mean"},
         r"tevatron pools the first token only"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as error:
        load(tmp_path, **{f"retrieval__{key}": value for key, value in changes.items()})
    assert "tiny.yaml: " in str(error.value) and "\n" not in str(error.value)
