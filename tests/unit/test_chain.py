"""What products are made from stands in and beside them; hashes of settings; threads of jobs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_plan import config

from matryobench import layout
from matryobench.chain.links import Files, comparison, read_record, weights_sha256
from matryobench.chain.sources import Sources, inputs_sha256
from matryobench.config import Experiment
from matryobench.data.prepare import backbone_folder, write_backbone
from matryobench.errors import InputError
from matryobench.files import folder_sha256, sha256_of
from matryobench.paths import ROOT
from matryobench.plan import Plan
from matryobench.provenance import config_hash, environment
from matryobench.report.embedding import markdown


@pytest.fixture
def plan() -> Plan:
    return Plan(Experiment.model_validate(config()), "try.yaml")


def test_every_form_carries_the_one_hash_of_its_inputs_and_the_record_all_of_them(plan: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    cells, outside = folder / "cells.parquet", tmp_path.parent / "claims.yaml"
    pq.write_table(pa.table({"x": [1.5]}), cells)
    outside.write_text("claims")
    sources = Sources.of(plan, tmp_path, [outside, cells])
    lines = f"{sha256_of(outside)}  claims.yaml\n{sha256_of(cells)}  tables/cells.parquet\n"
    combined = hashlib.sha256(lines.encode()).hexdigest()
    outputs = [folder / f"grid.{ending}" for ending in ("csv", "md", "tex", "html")]
    for path in outputs:
        path.write_text("| a |\n")
    table = folder / "grid.parquet"
    pq.write_table(pa.table({"y": [0.1]}), table)
    record = sources.sign("tables/grid", [*outputs, table])
    assert record == tmp_path / layout.record("tables/grid.md")
    note = {"experiment": plan.experiment.name, "product": "tables/grid", "inputs_sha256": combined}
    text = json.dumps(note, sort_keys=True)
    assert [path.read_text() for path in outputs] == [
        "| a |\n",
        f"| a |\n\n[//]: # (matryobench {text})\n",
        f"| a |\n% matryobench {text}\n",
        f"| a |\n<!-- matryobench {text} -->\n",
    ]
    assert json.loads(pq.read_schema(table).metadata[b"matryobench"]) == note
    assert pq.read_table(table).to_pylist() == [{"y": 0.1}]
    found = json.loads(record.read_text())
    assert found["inputs"] == {"claims.yaml": sha256_of(outside), "tables/cells.parquet": sha256_of(cells)}
    assert found["outputs"] == {path.name: sha256_of(path) for path in [*outputs, table]}
    assert found["config_hash"] == config_hash(plan.experiment) and found["inputs_sha256"] == combined
    assert "matryobench" not in markdown(outputs[1].read_text(), "grid")  # it shows nowhere


def test_names_of_records_cannot_be_names_of_tables() -> None:
    assert layout.record("tables/sts-grid.csv") == "tables/sts-grid.made.json"
    assert layout.record("tables/deployment.parquet") == "tables/deployment.json"
    assert layout.record("report.html") == "report.made.json"


def test_the_combined_hash_does_not_depend_on_order() -> None:
    assert inputs_sha256({"a": "1", "b": "2"}) == inputs_sha256({"b": "2", "a": "1"}) != inputs_sha256({"a": "1"})


def test_where_an_experiment_runs_is_no_part_of_its_hash() -> None:
    settings: dict[str, Any] = config()
    whole = config_hash(Experiment.model_validate(settings))
    moved = settings | {"results": "elsewhere", "mirror": "other", "offline": True, "compute": {"device": "h100"}}
    assert config_hash(Experiment.model_validate(moved)) == whole
    assert config_hash(Experiment.model_validate(settings | {"threads": 2})) != whole
    assert config_hash(Experiment.model_validate(settings | {"seeds": [1]})) != whole


def test_the_environment_names_no_user_host_or_path() -> None:
    text = json.dumps(environment())
    for secret in (str(Path.home()), os.uname().nodename, str(ROOT)):
        assert secret not in text
    assert set(environment()) == {
        "date", "version", "git_commit", "python", "libraries", "platform", "processor", "cores",
    }  # fmt: skip


def test_a_comparison_says_what_holds(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    files, right = Files(tmp_path), hashlib.sha256(b"x").hexdigest()
    statuses = [
        comparison("runs", "r", recorded, name, files, "train again").status
        for recorded, name in ((right, "a"), ("0", "a"), (None, "a"), (right, "b"))
    ]
    assert statuses == ["ok", "wrong", "lacking", "not there"]
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="bad.json: is not a readable record"):
        files.record("bad.json")
    assert files.record("none.json") is None
    with pytest.raises(InputError, match="there is no such record; run the job that writes it again"):
        read_record(tmp_path / "none.json")


def test_the_hash_of_a_start_is_that_of_its_weights(tiny_bert: Path) -> None:
    from matryobench.training.runs import _weights_hash

    assert weights_sha256(folder_sha256(tiny_bert)) == _weights_hash(tiny_bert)


def test_a_backbone_beside_its_record_moves_with_it(tiny_bert: Path, tmp_path: Path) -> None:
    own = tmp_path / "backbone"
    own.mkdir()
    (own / "model").symlink_to(tiny_bert)
    write_backbone(own / "model", own / "backbone.json")
    own.rename(tmp_path / "moved")
    assert backbone_folder(tmp_path / "moved" / "backbone.json") == tmp_path / "moved" / "model"
    write_backbone(tiny_bert, tmp_path / "backbone.json")
    assert backbone_folder(tmp_path / "backbone.json") == tiny_bert


def test_jobs_compute_with_the_threads_of_the_experiment_whatever_they_are_given() -> None:
    code = (
        "import torch, threadpoolctl\n"
        "from matryobench.threads import threads\n"
        "with threads(2):\n"
        "    own = {one['num_threads'] for one in threadpoolctl.threadpool_info()}\n"
        "    print(torch.get_num_threads(), *own)\n"
        "print(torch.get_num_threads())"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "workflow"),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert outcome.stdout.split("\n")[:2] == ["2 2", "1"]
