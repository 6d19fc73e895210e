"""Cut, missing and changed inputs: one sentence that names the file, and exit code 2; never a wrong number."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_experiment import snakemake, write_config
from typer.testing import CliRunner

from matryobench.analysis import cells
from matryobench.cli import app
from matryobench.data.mirror import Mirror, copy_into
from matryobench.data.tokens import tokenise, write_tokens
from matryobench.errors import InputError
from matryobench.models.encoder import Encoder
from matryobench.models.folders import load_encoder, load_tokenizer
from matryobench.paths import ROOT
from matryobench.training import checkpoints
from matryobench.training.checkpoints import Checkpoint

VERB = [sys.executable, str(ROOT / "workflow" / "run.py")]


def refused(*arguments: object) -> str:
    """The error that a verb ends with, which is one sentence for the user."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, InputError), result.exception
    return str(result.exception)


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:count])


@pytest.fixture
def folder(tmp_path: Path, tiny_bert: Path) -> Path:
    """An experiment on the tiny model: demo.yaml, model/, backbone.json and tokens.safetensors of a few triplets."""
    write_config(tmp_path, backbone={"source": "path", "path": str(tmp_path / "model")})
    shutil.copytree(tiny_bert, tmp_path / "model")
    (tmp_path / "backbone.json").write_text(json.dumps({"folder": str(tmp_path / "model")}))
    columns = {name: ["the dog sees", "a cat runs", "the red house"] for name in ("anchor", "positive", "negative")}
    write_tokens(tokenise(columns, load_tokenizer(tiny_bert), 16, {}), tmp_path / "tokens.safetensors")
    return tmp_path


def train(folder: Path) -> list[object]:
    run = "sts-2dmse-v2-released-v1-s42"
    given = ["--tokens", folder / "tokens.safetensors", "--table", folder / "none", "--start", folder / "backbone.json"]
    return ["train", folder / "demo.yaml", run, *given, "--out", folder / "out"]


@pytest.mark.parametrize("kept", [0, 7, 200])
def test_cut_tokens_weights_and_tables_are_named(folder: Path, kept: int) -> None:
    whole = (folder / "tokens.safetensors").read_bytes()
    cut(folder / "tokens.safetensors", kept)
    assert "tokens.safetensors: not a readable token file" in refused(*train(folder))
    (folder / "tokens.safetensors").write_bytes(whole)
    cut(folder / "model" / "model.safetensors", kept)
    assert "model: its weights are damaged" in refused(*train(folder))
    table = folder / "table.parquet"
    fetched = CliRunner().invoke(
        app, ["fetch", str(folder / "demo.yaml"), "--dataset", "demo-sts-roles", "--out", str(table)]
    )
    assert fetched.exit_code == 0
    cut(table, kept)
    said = refused("tokenise", table, 16, "--backbone", folder / "backbone.json", "--out", folder / "t.safetensors")
    assert "table.parquet: this is not a whole parquet file" in said
    with pytest.raises(InputError, match="table.parquet"):
        cells.read(table)
    assert not (folder / "cells.parquet").exists() and not (folder / "t.safetensors").exists()
    assert not (folder / "out" / "run.json").exists()


def test_a_cut_config_of_a_model_and_a_cut_record_are_named(folder: Path) -> None:
    cut(folder / "backbone.json", 5)
    assert "backbone.json: not a backbone record" in refused(*train(folder))
    cut(folder / "model" / "config.json", 20)
    assert "model/config.json is not JSON; give an intact model folder" in refused(*train(folder))
    with pytest.raises(InputError, match=r"model/config.json: it cannot be used"):
        load_encoder(folder / "model", "mean")


def mirrored(folder: Path, model: Path) -> Path:
    """An experiment whose backbone is in a mirror; returns the weights' file there."""
    mirror, revision = Mirror(folder / "mirror"), "ab" * 20
    entry = mirror.entry("models", "someone/tiny", revision)
    with mirror.incoming() as gathered:
        copy_into(model, gathered, [path.name for path in model.iterdir()])
        mirror.add(entry, gathered, {"id": "someone/tiny"}, origin="tool")
    hub = {"source": "hub", "id": "someone/tiny", "revision": revision}
    write_config(folder, backbone=hub, mirror=str(folder / "mirror"))
    return entry / "model.safetensors"


def test_a_changed_lost_or_unreadable_file_of_the_mirror_is_named(tmp_path: Path, tiny_bert: Path) -> None:
    file = mirrored(tmp_path, tiny_bert)
    record = tmp_path / "backbone.json"
    fetch = ["fetch", str(tmp_path / "demo.yaml"), "--backbone", "--out", str(record)]
    assert CliRunner().invoke(app, fetch).exit_code == 0
    record.unlink()
    if os.geteuid() != 0 or shutil.which("setpriv"):
        file.chmod(0)
        bound = [] if os.geteuid() else ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        result = subprocess.run([*bound, *VERB, *fetch], capture_output=True, text=True)
        assert result.returncode == 2
        assert result.stderr.startswith(f"matryobench: {file}: permission denied; give yourself the right to use it")
        assert len(result.stderr.splitlines()) == 1
        file.chmod(0o600)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "model.safetensors: this file has changed (sha256 " in refused(*fetch)
    result = snakemake(tmp_path, "--until", "fetch_backbone")  # the plan needs the model's shape, so no job starts
    assert result.returncode == 2
    assert "model.safetensors: this file has changed (sha256 " in result.stderr
    assert not (tmp_path / "results").exists()
    file.unlink()
    assert "model.safetensors: the mirror's manifest lists this file and it is gone" in refused(*fetch)
    assert not record.exists()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A checkpoint of the run `run` at step 3, with its telemetry."""
    (tmp_path / "telemetry.jsonl").write_text("".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in range(5)))
    state = Checkpoint(3, {"w": torch.ones(40)}, {0: {"exp_avg": torch.zeros(40)}}, None)
    checkpoints.write(tmp_path, "run", state)
    return tmp_path


@pytest.mark.parametrize("file", ["state.json", "model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("kept", [None, 0, 12])
def test_a_damaged_checkpoint_is_an_error_that_says_how_to_start_again(work: Path, file: str, kept: int | None) -> None:
    path = work / "checkpoint-000000003" / file
    path.unlink() if kept is None else cut(path, kept)
    with pytest.raises(
        InputError, match=rf"checkpoint-000000003: damaged checkpoint .*remove the folder {work} to start"
    ):
        checkpoints.read(work, "run")


@pytest.mark.parametrize("content", ["", '{"step": 0}\n{"step": 1}\n{"st', '{"step": 1}\n{"step": 2}\n{"step": 3}\n'])
def test_lost_telemetry_of_steps_before_the_checkpoint_is_an_error(work: Path, content: str) -> None:
    (work / "telemetry.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"telemetry.jsonl: it lacks steps before 3"):
        checkpoints.read(work, "run")


def test_telemetry_after_the_checkpoint_may_be_cut_and_is_dropped(work: Path) -> None:
    path = work / "telemetry.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines) + '{"step": 5, "lo')
    found = checkpoints.read(work, "run")
    assert found is not None and found.step == 3 and torch.equal(found.weights["w"], torch.ones(40))
    checkpoints.cut_telemetry(work, found.step)
    assert path.read_text() == "".join(lines[:3])
    assert checkpoints.read(work, "another run") is None


def test_no_memory_for_a_training_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process an allocation that really fails; in a job the message is what the command line makes of it."""
    from matryobench import cli
    from matryobench.training.module import AllLayers

    def greedy(self: AllLayers, *arguments: object, **named: object) -> torch.Tensor:
        return torch.empty(1 << 50)

    monkeypatch.setattr(Encoder, "forward", greedy)
    monkeypatch.setattr(Encoder, "embed", greedy)
    monkeypatch.setattr(sys, "argv", ["matryobench", *map(str, train(folder))])
    said: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *parts, **named: said.append(" ".join(map(str, parts))))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert said[-1].startswith("matryobench: train: the memory is used up (")
    assert "training.tokens_per_forward" in said[-1]
    assert not (folder / "out" / "run.json").exists()


def test_a_missing_experiment_file_is_named(tmp_path: Path) -> None:
    assert "nothing.yaml" in refused("plan", tmp_path / "nothing.yaml")
