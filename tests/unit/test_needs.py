"""What jobs ask a cluster for: more with every attempt, and a card per process where there are cards."""

from __future__ import annotations

import copy
import re
from functools import cache

import pytest
import yaml

from matryobench.dag import GPU_RULES, Dag
from matryobench.paths import ROOT

RULES = {
    rule: re.findall(r'\*\*request\((.*)\)', block)
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk"))
    for rule, block in re.findall(r"^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)", path.read_text("utf-8"), re.S | re.M)
}  # fmt: skip
RUN = "sts-starbucks-released-v1-s42"
SEARCHED = "retrieval-starbucks-released-retrieval-groups-s42"
KEYS = {
    "train": RUN, "evaluate": RUN, "continue_pretraining": "smae", "significance": "sts", "test_grids": "sts",
    "search": (SEARCHED, "demo-search.corpus"), "fetch_data": "demo-triplets", "tokenise": "demo-triplets",
    "tabulate": "sts-grid", "draw": "sts-panels",
}  # fmt: skip


@cache
def demo(device: str, **limits: int) -> Dag:
    config = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text(encoding="utf-8"))
    config["compute"] = {"device": device, **limits}
    config["sts"]["recipes"] = copy.deepcopy(config["sts"]["recipes"])  # they share one training
    config["sts"]["recipes"]["v1"]["training"]["processes"] = 4
    config["sts"]["runs"] = [run for run in config["sts"]["runs"] if "backends" not in run]  # those have one process
    config["retrieval"]["shard_documents"] = 500
    config["pretraining"]["smae"]["training"]["processes"] = 2
    return Dag(config, ["demo.yaml"])


def test_every_rule_asks_by_its_own_name() -> None:
    assert len(RULES) == 19
    for rule, asked in RULES.items():
        assert len(asked) == 1 and asked[0].split(",")[0] == f'"{rule}"', rule


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"fetch_backbone"}))  # the demo pre-trains its own
def test_memory_and_minutes_grow_with_the_attempt(rule: str) -> None:
    dag, key = demo("cpu"), KEYS.get(rule)
    first, second, third = (dag.need(rule, key, attempt) for attempt in (1, 2, 3))
    assert first["mem_mb"] >= 600 and first["runtime"] >= 10  # Snakemake's own share included
    for name in ("mem_mb", "runtime"):
        assert [second[name], third[name]] == [2 * first[name], 3 * first[name]]
    assert first["gpu"] == third["gpu"] == 0


def test_gpu_jobs_ask_for_a_card_per_process() -> None:
    dag = demo("h100")
    asked = {rule: dag.need(rule, KEYS.get(rule), 2)["gpu"] for rule in RULES if rule != "fetch_backbone"}
    assert {rule: cards for rule, cards in asked.items() if cards} == {
        "train": 4, "continue_pretraining": 2, "pretrain": 1, "evaluate": 1, "search": 1, "measure_cost": 1,
    }  # fmt: skip
    assert set(GPU_RULES) == {rule for rule, cards in asked.items() if cards}


def test_no_attempt_asks_for_more_than_the_cluster_grants() -> None:
    free = demo("cpu").need("train", RUN, 3)
    limits = {"max_minutes": free["runtime"] - 1, "max_memory_mb": free["mem_mb"] - 1}
    limited = demo("cpu", **limits)
    assert limited.need("train", RUN, 3) == {
        "mem_mb": limits["max_memory_mb"],
        "runtime": limits["max_minutes"],
        "gpu": 0,
    }
    assert limited.need("draw", "sts-panels", 1) == demo("cpu").need("draw", "sts-panels", 1)
