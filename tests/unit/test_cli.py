"""The command line outside the workflow: evaluate and export on a model folder, and what wrong arguments say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from matryobench.data.mirror import Mirror, copy_into
from matryobench.models.folders import load_encoder, save_encoder
from matryobench.paths import ROOT


def matryobench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "workflow" / "run.py"), *arguments], capture_output=True, text=True, cwd=cwd
    )


def test_evaluate_prints_and_writes_the_grid_of_a_folder_and_of_a_mirrored_hub_id(
    tiny_bert: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    save_encoder(load_encoder(tiny_bert, "mean"), tiny_bert, model, max_length=16)
    cells = ("--sets", "demo-sts-roles,demo-sts-topics", "--layers", "4,1", "--dims", "8,32", "--offline")
    result = matryobench("evaluate", str(model), *cells, "--out", "a.parquet", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "average: spearman_cosine" in result.stdout
    assert "12 rows -> a.parquet and a.csv" in result.stdout
    frame = pd.read_csv(tmp_path / "a.csv")
    assert set(frame["dataset"]) == {"demo-sts-roles", "demo-sts-topics", "average"}
    assert set(zip(frame["layer"], frame["dim"], strict=True)) == {(1, 8), (1, 32), (4, 8), (4, 32)}
    mirror, revision = Mirror(tmp_path / "mirror"), "ab" * 20
    with mirror.incoming() as gathered:
        names = [path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()]
        copy_into(model, gathered, names)
        mirror.add(mirror.entry("models", "someone/tiny", revision), gathered, {"id": "someone/tiny"}, origin="tool")
    result = matryobench("evaluate", "someone/tiny", "--revision", revision, *cells, "--out", "b.parquet", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    again = pd.read_csv(tmp_path / "b.csv")
    assert list(again["value"]) == list(frame["value"])
    result = matryobench("export", str(model), "cell", "--layer", "2", "--dim", "8", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "cell" / "matryobench.json").read_text())["dim"] == 8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--sets", "demo-sts-role"), "--sets: unknown data set 'demo-sts-role'; did you mean demo-sts-roles"),
        (("--sets", "demo-triplets"), "--sets: 'demo-triplets' has triplets; an STS test set needs scored pairs."),
        (("--task", "stss"), "--task: unknown task 'stss'; did you mean sts? valid names are: mteb, retrieval, sts."),
        (("--pooling", "max"), "--pooling: 'max' is not one of mean, cls; change it."),
        (("--dims", "8;16"), "--dims: '8;16' is not a comma-separated list of whole numbers; e.g. 2,4,6."),
        (("--out", "cells.csv"), "--out: cells.csv does not end in .parquet"),
        (("--sets", "demo-sts-roles"), "does not say how it pools; give --pooling mean or --pooling cls."),
    ],
)
def test_wrong_arguments_are_one_line_and_code_2(
    tiny_bert: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    result = matryobench("evaluate", str(tiny_bert), "--offline", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("matryobench: ")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
