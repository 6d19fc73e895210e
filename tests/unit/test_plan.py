"""Configs and plans: what runs come out, and one sentence with file, key and fix for everything that is wrong."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from matryobench.backbones import Shape
from matryobench.config import Experiment
from matryobench.dag import Dag
from matryobench.data.mirror import Mirror, copy_into
from matryobench.errors import InputError
from matryobench.paths import CONFIG, ROOT
from matryobench.plan import Plan
from matryobench.sizes import spread

TRAINING = {"batch_size": 4, "steps": 2}
BASE: dict[str, Any] = {
    "name": "tiny",
    "description": "test",
    "backbone": {
        "source": "pretrain",
        "text": "demo-text",
        "spec": {
            "architecture": {"layers": 4, "hidden": 32, "heads": 4, "intermediate": 64},
            "vocab_size": 300, "steps": 2, "batch_size": 2, "learning_rate": 0.001,
        },
    },
    "seeds": [1, 2],
    "sts": {
        "evaluate": ["demo-sts-roles"],
        "grid": {"layers": [2, 1, 4], "dims": [32, 8]},
        "sizes": {"Demi": [1, 8], "Trenta": [4, 32]},
        "recipes": {
            "v1": {
                "description": "test", "train": "demo-triplets", "pooling": "mean", "base": {"loss": "mnrl"},
                "nested_dims": [8, 32], "target_dim": 8, "training": TRAINING,
            },
        },
        "runs": [{"method": "bert"}],
    },
}  # fmt: skip


def config(**changes: Any) -> dict[str, Any]:
    """BASE with dotted keys replaced; `None` removes the key."""
    whole = copy.deepcopy(BASE)
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        at = whole
        for key in path:
            at = at[key]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return whole


def load(tmp_path: Path, **changes: Any) -> Plan:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config(**changes)), encoding="utf-8")
    return Plan.load(path)


def test_a_method_runs_once_per_seed_and_recipe_and_bert_s_once_per_cell(tmp_path: Path) -> None:
    plan = load(
        tmp_path, sts__runs=[{"method": "bert"}, {"method": "bert-s"}, {"method": "bert-s", "variants": ["released"]}]
    )
    ids = [run.run_id for run in plan.runs if run.seed.name == 1]
    assert ids == [
        "sts-bert-paper-v1-s1",
        *(f"sts-bert-s-paper-v1-l{layer}-d{dim}-s1" for layer in (1, 2, 4) for dim in (8, 32)),
        *(f"sts-bert-s-released-v1-l{layer}-s1" for layer in (1, 2, 4)),
    ]
    assert len(plan.runs) == 2 * len(ids)
    assert plan.run("sts-bert-s-paper-v1-l2-d8-s1").evaluated == ((2, 8),)
    assert plan.run("sts-bert-s-released-v1-l2-s1").evaluated == ((2, 8), (2, 32))
    assert len(plan.run("sts-bert-paper-v1-s1").evaluated) == 6


def test_runs_come_after_the_runs_that_they_start_from(tmp_path: Path) -> None:
    plan = load(tmp_path, sts__runs=[{"method": "ff->mrl"}, {"method": "ff"}])
    ids = [run.run_id for run in plan.runs]
    assert plan.run("sts-ff-to-mrl-paper-v1-s2").starts_from == "sts-ff-paper-v1-s2"
    assert ids.index("sts-ff-paper-v1-s2") < ids.index("sts-ff-to-mrl-paper-v1-s2")


def test_the_order_of_layers_dims_and_nested_dims_does_not_matter(tmp_path: Path) -> None:
    first = load(tmp_path, sts__runs=[{"method": "mse"}])
    second = load(
        tmp_path, sts__runs=[{"method": "mse"}], sts__grid={"layers": [4, 2, 1], "dims": [8, 32]},
        sts__recipes__v1__nested_dims=[32, 8],
    )  # fmt: skip
    assert [first.settings_hash(run) for run in first.runs] == [second.settings_hash(run) for run in second.runs]
    assert first.runs == second.runs


def test_a_change_touches_only_the_runs_that_depend_on_it(tmp_path: Path) -> None:
    runs = [{"method": "mse"}, {"method": "srl"}, {"method": "bert"}]
    before = load(tmp_path, sts__runs=runs)
    changed = load(tmp_path, sts__runs=runs, sts__sizes={"Demi": [1, 8], "Tall": [2, 8], "Trenta": [4, 32]})
    moved = {
        run.method for run in before.runs if before.settings_hash(run) != changed.settings_hash(changed.run(run.run_id))
    }
    assert moved == {"srl"}
    described = load(tmp_path, sts__runs=runs, description="another", sts__recipes__v1__description="another")
    assert [before.settings_hash(run) for run in before.runs] == [
        described.settings_hash(run) for run in described.runs
    ]


V1 = BASE["sts"]["recipes"]["v1"]
SMAE: dict[str, Any] = {"text": "demo-text", "sizes": ["Demi", "Trenta"], "training": TRAINING}
MTEB: dict[str, Any] = {
    "evaluate": {"classification": ["demo-events"], "retrieval": ["demo-search"]},
    "max_length": 64,
    "grid": {"layers": [4], "dims": [8, 32]},
    "recipes": {"v1": {**V1, "train": "demo-instructed", "base": {"loss": "instructor"}}},
    "runs": [{"method": "ff"}, {"method": "ff->mrl"}, {"method": "bert-s", "cells": [[4, 8]]}],
}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"sts__gird": {"layers": [1], "dims": [8]}, "sts__grid": None}, r"unknown key 'sts.gird'.*; did you mean 'grid'\?"),
    ({"colour": "red"}, r"unknown key 'colour'; remove it; valid keys here are: .*backbone"),
    ({"sts__grid": None}, r"key 'sts.grid' is missing; add it"),
    ({"sts__runs": [{"method": "2dmse-v3"}]}, r"sts.runs.0.method: unknown method '2dmse-v3'; did you mean 2dmse-v"),
    ({"sts__runs": [{"method": "bert", "variants": ["papers"]}]}, r"unknown variant of bert 'papers'; did you mean paper\?"),
    ({"sts__runs": [{"method": "bert", "recipes": ["v9"]}]}, r"sts.runs.0.recipes: unknown recipe 'v9'.*valid names are: v1"),
    ({"sts__evaluate": ["demo-sts-role"]}, r"sts.evaluate.0: unknown data set 'demo-sts-role'; did you mean demo-sts-roles"),
    ({"sts__evaluate": ["demo-triplets"]}, r"sts.evaluate.0: 'demo-triplets' has triplets; an STS test set needs scored"),
    ({"sts__evaluate": ["demo-sts-roles"] * 2}, r"'demo-sts-roles' is listed twice; list every test set once"),
    ({"sts__recipes__v1__train": "demo-text"}, r"sts.recipes.v1.train: 'demo-text' has text; name a dataset of"),
    ({"sts__grid": {"layers": [1, 5], "dims": [8]}}, r"sts.grid.layers: layer 5 is not in 1..4, the backbone's layers"),
    ({"sts__grid": {"layers": [1], "dims": [33]}}, r"sts.grid.dims: dim 33 is not in 1..32, the backbone's width"),
    ({"sts__grid": {"layers": [0], "dims": [8]}}, r"'sts.grid.layers': 0 is below 1; layers and dims count from 1"),
    ({"sts__grid": {"layers": [1], "dims": [8, 8]}}, r"'sts.grid.dims': 8 is listed twice; list every value once"),
    ({"sts__grid": {"layers": [], "dims": [8]}}, r"'sts.grid.layers': the grid is empty; list at least one value"),
    ({"sts__recipes__v1__nested_dims": [8, 64]}, r"sts.recipes.v1.nested_dims: dim 64 is not in 1..32"),
    ({"sts__recipes__v1__nested_dims": [8, 8]}, r"a width is listed twice"),
    ({"sts__sizes": {"Demi": [9, 8]}}, r"sts.sizes.Demi: layer 9 is not in 1..4"),
    ({"sts__sizes": {"Demi": [1, 8]}, "sts__runs": [{"method": "srl"}]}, r"the full size \[4, 32\] is missing"),
    ({"sts__sizes": {}, "sts__runs": [{"method": "srl"}]}, r"key 'sts.sizes' is missing, which srl"),
    ({"sts__recipes__v1__nested_dims": [], "sts__runs": [{"method": "mse"}]}, r"key 'nested_dims' is missing, which mse"),
    ({"sts__recipes__v1__target_dim": None, "sts__runs": [{"method": "2dmse-v2"}]}, r"key 'target_dim' is missing"),
    ({"sts__runs": [{"method": "ff->mrl"}]}, r"ff->mrl starts from the run of ff with recipe 'v1', which this config lacks"),
    ({"sts__runs": [{"method": "bert"}, {"method": "bert"}]}, r"run sts-bert-paper-v1-s1 is listed twice"),
    ({"sts__runs": [{"method": "bert", "cells": [[1, 8]]}]}, r"bert trains one model for all cells; remove 'cells'"),
    ({"sts__runs": [{"method": "bert-s", "cells": [[3, 8]]}]}, r"\[3, 8\] is not in sts.grid"),
    ({"sts__recipes__v1__base": {"loss": "cosent"}}, r"cosent needs scored pairs and 'demo-triplets' has triplets"),
    ({"sts__recipes__v1": {**V1, "train": "sick-train"}}, r"mnrl needs triplets and 'sick-train' has scored pairs"),
    ({"sts__recipes__v1": {**V1, "train": "sick-train", "base": {"loss": "angle"}}}, r"contrastive_weight: .*set it to 0"),
    ({"sts__recipes__v1__base": {"loss": "angle"}, "sts__grid": {"layers": [1], "dims": [7]}}, r"even widths and 7 is odd"),
    ({"sts__recipes__v1__training": {"batch_size": 4}}, r"give exactly one of 'epochs' and 'steps'"),
    ({"sts__recipes__v1__training": {"steps": 1, "epochs": 1}}, r"give exactly one of 'epochs' and 'steps'"),
    ({"sts__recipes__v1__training": {"steps": 0}}, r"'sts.recipes.v1.training.steps': input should be greater than 0, found 0"),
    ({"sts": None}, r"the experiment has no task; add a section 'sts'"),
    ({"sts__baselines": ["bert", "brt-s"]}, r"sts.baselines.1: unknown method 'brt-s'; did you mean bert-s"),
    ({"seeds": [1, 1]}, r"'seeds': a seed is listed twice"),
    ({"name": "Tiny Bench"}, r"'name': string should match pattern"),
    ({"backbone": {"source": "hub", "id": "a/b", "revision": "main"}}, r"revision': string should match pattern"),
    ({"backbone": {"source": "package", "package": "no_such_package", "folder": "m"}}, r"no package 'no_such_package'"),
    ({"backbone": {"source": "path", "path": "/nowhere"}}, r"/nowhere/config.json does not exist"),
    ({"sts__runs": [{"method": "starbucks"}]}, r"starts from the pre-training 'smae', which this config lacks; add"),
    ({"pretraining": {"smae": {**SMAE, "sizes": {"Demi": [1, 64]}}}}, r"pretraining.smae.sizes.Demi: dim 64 is not in 1..32"),
    ({"pretraining": {"smae": {**SMAE, "sizes": {"Demi": [5, 8]}}}}, r"pretraining.smae.sizes.Demi: layer 5 is not in 1..4"),
    ({"pretraining": {"smae": {**SMAE, "sizes": list("abcde")}}}, r"smae.sizes: 5 sizes do not fit a backbone of 4 layers"),
    ({"pretraining": {"smae": {**SMAE, "sizes": ["a", "a"]}}}, r"smae.sizes: a name is listed twice"),
    ({"pretraining": {"smae": {**SMAE, "sizes": {}}}}, r"'pretraining.smae': 'sizes' is needed exactly with objective smae"),
    ({"pretraining": {"smae": {**SMAE, "text": "demo-triplets"}}}, r"pretraining.smae.text: 'demo-triplets' has triplets"),
    ({"mteb": {**MTEB, "evaluate": {"classification": ["demo-event"]}}}, r"unknown classification set 'demo-event'; did you"),
    ({"mteb": {**MTEB, "evaluate": {"retrieval": ["demo-events"]}}}, r"mteb.evaluate.retrieval.0: .*'demo-events'"),
    ({"mteb": {**MTEB, "evaluate": {"clustering": ["demo-events"]}}}, r"'mteb.evaluate.clustering"),
    ({"mteb": {**MTEB, "instructions": {"classification": " "}}}, r"instructions.classification: the instruction is empty"),
    ({"mteb": {**MTEB, "instructions": {"retrieval": "a"}}}, r"mteb.instructions: unknown instruction key 'retrieval'"),
    ({"sts__reference": "srl"}, r"sts.reference: unknown method of this task's runs 'srl'.*bert"),
    ({"sts__reference": "bert", "sts__sizes": {}}, r"sts.reference: methods are compared at sizes, which sts has none of"),
    ({"mteb": {**MTEB, "max_length": 999}}, r"mteb.max_length: 999 is more than the backbone's 128 positions; lower it"),
    ({"mteb": {**MTEB, "runs": [{"method": "bert", "backends": ["native", "sentence-transformers"]}]}}, r"s.0.backends: sent"),
    ({"sts__runs": [{"method": "mse", "backends": ["sentence-transformers"]}]}, r"sts.runs: only reference backends are run"),
    ({"mteb": {**MTEB, "runs": [{"method": "2dmse"}]}}, r"mteb.runs.0.method: 2dmse is not defined for mteb"),
]  # fmt: skip


def test_starbucks_is_srl_on_the_continued_pre_training(tmp_path: Path) -> None:
    runs = [{"method": "srl"}, {"method": "starbucks"}]
    plan = load(tmp_path, sts__runs=runs, seeds=[1], pretraining={"smae": SMAE})
    srl, starbucks = plan.runs
    assert (srl.pretraining, starbucks.pretraining) == (None, "smae")
    assert plan.variant(srl) == plan.variant(starbucks)
    assert plan.pretraining_sizes("smae") == {"Demi": (2, 16), "Trenta": (4, 32)}
    assert "demo-text" in plan.dataset_names()
    dag = Dag(config(sts__runs=runs, seeds=[1], pretraining={"smae": SMAE}), [])
    assert dag.start(srl.run_id).endswith("backbone/backbone.json")
    assert dag.start(starbucks.run_id).endswith("pretraining/smae/backbone.json")
    longer = config(pretraining={"smae": {**SMAE, "max_length": 64}})
    assert dag.pretraining_hash("smae") != Dag(longer, []).pretraining_hash("smae")


def test_names_of_sizes_are_spread_over_the_backbone() -> None:
    names = ["Demi", "Short", "Tall", "Grande", "Venti", "Trenta"]
    bert = {
        "Demi": (2, 32),
        "Short": (4, 64),
        "Tall": (6, 128),
        "Grande": (8, 256),
        "Venti": (10, 512),
        "Trenta": (12, 768),
    }
    assert spread(names, Shape(12, 768), "x") == bert
    minilm = [(1, 16), (2, 32), (3, 64), (4, 128), (5, 256), (6, 384)]
    assert list(spread(names, Shape(6, 384), "x").values()) == minilm
    assert list(spread(names[:4], Shape(6, 64), "x").values()) == [(2, 8), (3, 16), (5, 32), (6, 64)]
    assert spread(["full"], Shape(3, 100), "x") == {"full": (3, 100)}
    assert list(spread({"b": (2, 8), "a": (1, 4)}, Shape(2, 8), "x")) == ["a", "b"]
    with pytest.raises(InputError, match="cannot be spread over a backbone that is not fetched yet"):
        spread(names, Shape(None, None), "x")
    with pytest.raises(InputError, match="6 sizes do not fit a backbone of 12 layers and width 16"):
        spread(names, Shape(12, 16), "x")


def test_mteb_runs_are_trained_as_sts_and_read_the_tables_of_their_sets(tmp_path: Path) -> None:
    plan = load(tmp_path, sts=None, seeds=[1], mteb=MTEB)
    ff, bert_s, mrl = (
        plan.run(f"mteb-{name}-s1") for name in ("ff-paper-v1", "bert-s-paper-v1-l4-d8", "ff-to-mrl-paper-v1")
    )
    assert mrl.starts_from == ff.run_id and bert_s.evaluated == ((4, 8),)
    assert {"demo-events.train", "demo-events.test", "demo-search.qrels", "demo-instructed"} <= set(
        plan.dataset_names()
    )
    other = load(tmp_path, sts=None, seeds=[1], mteb={**MTEB, "instructions": {"classification": "tell:"}})
    assert plan.settings_hash(ff) == other.settings_hash(other.run(ff.run_id))
    assert plan.evaluation_hash(ff) != other.evaluation_hash(other.run(ff.run_id))
    half = load(tmp_path, sts=None, seeds=[1], mteb={**MTEB, "encode_precision": "bf16"})
    assert plan.settings_hash(ff) == half.settings_hash(half.run(ff.run_id))
    assert plan.evaluation_hash(ff) != half.evaluation_hash(half.run(ff.run_id))
    before = plan.evaluation_hash(ff)
    plan.collections["demo-search"] = replace(plan.collections["demo-search"], exclude_own_id=True)
    assert plan.evaluation_hash(ff) != before


def test_a_record_has_every_setting_and_the_hash_only_those_that_were_chosen(tmp_path: Path) -> None:
    plan = load(tmp_path)
    run = plan.runs[0]
    whole, chosen = plan.training_settings(run), plan.training_settings(run, defaults=False)
    assert whole["recipe"]["training"]["weight_decay"] == 0 and "weight_decay" not in chosen["recipe"]["training"]
    same = {**V1, "training": {**TRAINING, "weight_decay": 0.0}}
    again = load(tmp_path, sts__recipes__v1=same)
    assert plan.settings_hash(run) == again.settings_hash(again.runs[0])
    other = load(tmp_path, sts__recipes__v1={**V1, "training": {**TRAINING, "weight_decay": 0.1}})
    assert plan.settings_hash(run) != other.settings_hash(other.runs[0])


@pytest.mark.parametrize(("changes", "sentence"), BAD, ids=[sentence[:40] for _, sentence in BAD])
def test_a_bad_config_is_one_sentence_with_file_key_and_fix(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        load(tmp_path, **changes)
    message = str(caught.value)
    assert str(tmp_path / "tiny.yaml") in message or "/nowhere" in message
    assert "\n" not in message
    assert message.endswith((".", "?"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: [1", r"line [12], column \d+: not valid YAML"),
        ("name: a\nname: b\n", r"line 2, column 1: .*key 'name' is given twice"),
        ("- 1\n", "expected a mapping of keys to values, found a list"),
        ("", "expected a mapping of keys to values, found nothing"),
    ],
)
def test_what_is_not_a_config_is_named_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        Plan.load(path)
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(InputError, match="byte 6 is not UTF-8"):
        Plan.load(path)
    with pytest.raises(InputError, match="there is no such file"):
        Plan.load(tmp_path / "absent.yaml")


def test_a_hub_backbone_is_checked_once_the_mirror_has_it(tmp_path: Path, tiny_bert: Path) -> None:
    revision = "0123456789" * 4
    hub = {"source": "hub", "id": "someone/tiny", "revision": revision}
    far = {"layers": [1, 9], "dims": [8]}
    changes: dict[str, Any] = {"backbone": hub, "mirror": str(tmp_path / "mirror"), "sts__grid": far}
    assert load(tmp_path, **changes).shape == Shape(None, None)
    mirror = Mirror(tmp_path / "mirror")
    with mirror.incoming() as gathered:
        copy_into(tiny_bert, gathered, [path.name for path in tiny_bert.iterdir()])
        mirror.add(mirror.entry("models", "someone/tiny", revision), gathered, {"id": "someone/tiny"}, origin="tool")
    with pytest.raises(InputError, match=r"sts.grid.layers: layer 9 is not in 1..4"):
        load(tmp_path, **changes)
    mirror.pin("models", "someone/tiny", revision)
    plan = load(
        tmp_path, **{**changes, "backbone": {**hub, "revision": None}, "sts__grid": {"layers": [1], "dims": [8]}}
    )
    assert plan.shape == Shape(4, 32, 32)
    record = tmp_path / "backbone.json"
    result = matryobench("fetch", str(tmp_path / "tiny.yaml"), "--backbone", "--out", str(record), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(record.read_text())["folder"].endswith(f"models/someone/tiny/{revision}")


def matryobench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "workflow" / "run.py"), *arguments], capture_output=True, text=True, cwd=cwd
    )


def test_the_command_line_ends_with_code_2_and_one_line_on_a_bad_config(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config(sts__runs=[{"method": "brt"}])), encoding="utf-8")
    result = matryobench("plan", str(path), cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"matryobench: {path}: sts.runs.0.method: unknown method 'brt'; did you mean bert")
    assert len(result.stderr.splitlines()) == 1


def test_plan_lists_runs_order_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config(sts__runs=[{"method": "ff->mrl"}, {"method": "ff"}])), encoding="utf-8")
    result = matryobench("plan", str(path), cwd=tmp_path)
    assert result.returncode == 0
    assert "4 training runs: ff 2, ff->mrl 2" in result.stdout
    assert "24 cells evaluated on 1 test sets" in result.stdout
    assert not list(tmp_path.glob("results/**/*"))


EXPERIMENTS = sorted(
    set(CONFIG.glob("*.yaml")) - {CONFIG / f"{name}.yaml" for name in ("methods", "datasets", "default", "claims")}
)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_shipped_configs_are_valid(path: Path) -> None:
    plan = Plan.load(path)
    assert plan.runs
    assert Dag(yaml.safe_load(path.read_text()), [path]).targets()


def test_planning_imports_no_heavy_library() -> None:
    code = (
        "import sys; from pathlib import Path; from matryobench.plan import Plan; from matryobench.dag import Dag;"
        f"Plan.load(Path({str(CONFIG / 'demo.yaml')!r}));"
        "print([name for name in ('torch', 'transformers', 'pandas', 'matplotlib') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "workflow")
    assert result.stdout.strip() == "[]", result.stderr


def test_generated_schemas_and_defaults_are_up_to_date() -> None:
    from matryobench.schemas import documented_defaults, schemas, write_schemas

    assert write_schemas(check=True) == []
    defaults = yaml.safe_load(documented_defaults())
    assert set(defaults) == set(Experiment.model_fields)
    assert defaults["seeds"] is not None
    experiment = schemas()["experiment"]

    def fields(node: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        return [item for part in [node, *node.get("$defs", {}).values()] for item in part.get("properties", {}).items()]

    undescribed = [
        name for name, field in fields(experiment) if "description" not in field and name not in ("source", "loss")
    ]
    assert undescribed == []


def test_json_schema_accepts_the_shipped_configs() -> None:
    from jsonschema import Draft202012Validator

    schema = json.loads((ROOT / "workflow" / "schemas" / "experiment.schema.json").read_text())
    for path in EXPERIMENTS:
        Draft202012Validator(schema).validate(yaml.safe_load(path.read_text()))
