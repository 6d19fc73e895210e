"""The training loop: resume after kill -9, determinism, accumulation, schedule, telemetry, non-finite losses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from matryobench.data.tokens import read_tokens, tokenise, write_tokens
from matryobench.errors import InputError
from matryobench.models.folders import load_tokenizer
from matryobench.plan import Plan
from matryobench.tasks import Training
from matryobench.training.loop import Loop, epoch_order, learning_rate, mixed_seed, precision_of
from matryobench.training.runs import train

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {
    "anchor": ["the dog sees the cat", "a man runs", "the red house", "the woman sees a ball", "a cat runs"] * 4,
    "positive": ["a dog sees a cat", "the man runs", "a red house", "a woman sees the ball", "the cat runs"] * 4,
    "negative": ["the cat sees the dog", "a man runs not", "the small house", "the ball", "the dog"] * 4,
}
NO_TABLE = Path("no-table.parquet")  # only reference backends read the training table


@pytest.fixture
def experiment(tmp_path: Path, tiny_bert: Path) -> Path:
    """An experiment file on the tiny model; its training data are in tokens.safetensors beside it."""
    config = {
        "name": "tiny",
        "description": "test",
        "backbone": {"source": "path", "path": str(tiny_bert)},
        "seeds": [3],
        "sts": {
            "evaluate": ["demo-sts-roles"],
            "grid": {"layers": [1, 2, 4], "dims": [4, 32]},
            "recipes": {
                "v1": {
                    "description": "test",
                    "train": "demo-triplets",
                    "pooling": "mean",
                    "max_length": 16,
                    "base": {"loss": "mnrl"},
                    "nested_dims": [32, 8, 4],
                    "target_dim": 8,
                    "training": {
                        "batch_size": 4, "accumulation": 2, "steps": 12, "learning_rate": 1e-3, "checkpoint_every": 3,
                        "tokens_per_forward": 64,
                    },
                }
            },
            "runs": [{"method": "2dmse-v1"}, {"method": "bert-s", "cells": [[2, 4]]}, {"method": "2dmse-v2"}],
        },
    }  # fmt: skip
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    write_tokens(tokenise(COLUMNS, load_tokenizer(tiny_bert), 16, {}), tmp_path / "tokens.safetensors")
    return path


def trained(experiment: Path, tiny_bert: Path, name: str, run_id: str = "sts-2dmse-v1-released-v1-s3") -> Path:
    plan = Plan.load(experiment)
    out = experiment.parent / name
    train(plan, plan.run(run_id), experiment.parent / "tokens.safetensors", NO_TABLE, tiny_bert, out, "cpu")
    return out


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("run_id", ["sts-2dmse-v1-released-v1-s3", "sts-2dmse-v2-released-v1-s3"])
def test_the_same_seeds_give_the_same_weights_bit_for_bit(experiment: Path, tiny_bert: Path, run_id: str) -> None:
    first = trained(experiment, tiny_bert, "first", run_id)
    assert same(weights(first), weights(trained(experiment, tiny_bert, "second", run_id)))
    assert not same(weights(first), load_file(tiny_bert / "model.safetensors"))


def test_each_seed_is_separate(experiment: Path, tiny_bert: Path) -> None:
    plain = weights(trained(experiment, tiny_bert, "plain"))
    config = yaml.safe_load(experiment.read_text())
    for part in ("data", "dropout", "cells"):
        seeds = {"name": 3, "init": 3, "data": 3, "dropout": 3, "cells": 3, part: 4}
        experiment.write_text(yaml.safe_dump({**config, "seeds": [seeds]}), encoding="utf-8")
        assert not same(plain, weights(trained(experiment, tiny_bert, f"other-{part}"))), part


@pytest.mark.parametrize("at", ["early", "late"])
def test_a_run_killed_with_signal_9_resumes_to_the_same_weights(experiment: Path, tiny_bert: Path, at: str) -> None:
    whole = trained(experiment, tiny_bert, "whole")
    backbone = experiment.parent / "backbone.json"
    backbone.write_text(json.dumps({"folder": str(tiny_bert)}), encoding="utf-8")
    out = experiment.parent / "killed"
    command = [
        sys.executable, str(ROOT / "workflow" / "run.py"), "train", str(experiment), "sts-2dmse-v1-released-v1-s3",
        "--tokens", str(experiment.parent / "tokens.safetensors"), "--table", str(NO_TABLE),
        "--start", str(backbone), "--out", str(out),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wanted = out / "checkpoints" / ("checkpoint-000000003" if at == "early" else "checkpoint-000000009")
    deadline = time.monotonic() + 60
    while not wanted.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "run.json").exists(), "it was killed too late to test anything"
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert same(weights(whole), weights(out))
    record = json.loads((out / "run.json").read_text())
    assert record["resumed_at"] > 0
    steps = [json.loads(line)["step"] for line in (out / "telemetry.jsonl").read_text().splitlines()]
    assert steps == list(range(12))
    assert not (out / "checkpoints").exists()


def test_a_checkpoint_of_other_settings_is_not_continued(experiment: Path, tiny_bert: Path) -> None:
    work = experiment.parent / "run" / "checkpoints" / "checkpoint-000000006"
    work.mkdir(parents=True)
    (work / "state.json").write_text('{"step": 6, "identity": "something else", "scaler": null}', encoding="utf-8")
    out = trained(experiment, tiny_bert, "run")
    assert json.loads((out / "run.json").read_text())["resumed_at"] == 0


def test_run_json_and_telemetry_say_what_happened(experiment: Path, tiny_bert: Path) -> None:
    out = trained(experiment, tiny_bert, "run")
    record = json.loads((out / "run.json").read_text())
    for key in ("settings_hash", "git_commit", "libraries", "processor", "precision", "wall_seconds", "peak_memory_mb"):
        assert key in record
    assert record["precision"] == "fp32"
    tokens = read_tokens(experiment.parent / "tokens.safetensors")
    per_row = sum(len(tokens.text(int(n))) for n in tokens.rows.flatten())
    # 20 rows are 5 micro-batches of 4 and 3 steps of at most 2 of them an epoch, so 12 steps are 4 epochs.
    assert record["tokens_seen"] == 4 * per_row
    lines = [json.loads(line) for line in (out / "telemetry.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    for line in lines:
        terms = [value for name, value in line.items() if "/" in name]
        assert sum(terms) == pytest.approx(line["loss"], rel=1e-4)


def test_bert_s_trains_a_truncated_encoder(experiment: Path, tiny_bert: Path) -> None:
    out = trained(experiment, tiny_bert, "cell", "sts-bert-s-paper-v1-l2-d4-s3")
    assert json.loads((out / "model" / "config.json").read_text())["num_hidden_layers"] == 2
    record = json.loads((out / "run.json").read_text())
    assert [(cell["layer"], cell["dim"]) for cell in record["trained_cells"]] == [(2, 4)]


def loop(tmp_path: Path, loss_of: object, steps: int = 4, **settings: object) -> Loop:
    torch.manual_seed(0)
    return Loop(
        module=torch.nn.Linear(3, 1, bias=False), loss_of=loss_of, batches=lambda epoch: [0, 1, 2, 3],
        training=Training(steps=steps, **settings), dropout_seed=1, draw_seed=1, identity="x",
        work=tmp_path / "work", device=torch.device("cpu"), label="a run", progress=False,
    )  # fmt: skip


def squared(module: torch.nn.Module, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, dict]:
    loss = (module(torch.eye(4, 3)[[batch]]) - 1).pow(2).sum()
    return loss, {"square": loss.detach()}


def test_accumulation_averages_the_micro_batches(tmp_path: Path) -> None:
    def all_at_once(module: torch.nn.Module, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, dict]:
        losses = [squared(module, part, generator)[0] for part in range(4)]
        return torch.stack(losses).mean(), {}

    apart = loop(tmp_path / "a", squared, accumulation=4)
    together = loop(tmp_path / "b", all_at_once)
    apart.run(), together.run()
    assert torch.allclose(apart.module.weight, together.module.weight, atol=1e-7)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_the_step_and_a_fix(tmp_path: Path, value: float) -> None:
    def bad(module: torch.nn.Module, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, dict]:
        loss = module.weight.sum() * (value if batch == 2 else 1.0)
        return loss, {"mnrl/l1/d4": loss.detach()}

    with pytest.raises(InputError, match=r"a run: step 2: the loss is .* \(from mnrl/l1/d4\); lower .*learning_rate"):
        loop(tmp_path, bad).run()


def test_learning_rate_warms_up_then_decays_to_nothing() -> None:
    linear = Training(steps=10, warmup=2, learning_rate=1.0)
    rates = [learning_rate(linear, step, 10) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[3:] == pytest.approx([7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    share = Training(steps=10, warmup=0.2, learning_rate=1.0)
    assert [learning_rate(share, step, 10) for step in range(10)] == rates
    cosine = Training(steps=10, warmup=0, learning_rate=1.0, schedule="cosine")
    assert learning_rate(cosine, 5, 10) == pytest.approx(0.5)


def test_epoch_orders_are_permutations_that_depend_on_seed_and_epoch() -> None:
    assert sorted(epoch_order(50, 1, 0)) == list(range(50))
    assert list(epoch_order(50, 1, 0)) == list(epoch_order(50, 1, 0))
    assert list(epoch_order(50, 1, 0)) != list(epoch_order(50, 1, 1))
    assert list(epoch_order(50, 1, 0)) != list(epoch_order(50, 2, 0))


def test_seeds_of_neighbouring_steps_differ_and_are_fixed() -> None:
    seeds = {mixed_seed(7, step, micro) for step in range(50) for micro in range(4)}
    assert len(seeds) == 200
    assert mixed_seed(7, 0, 0) == 8460147692890830636


def test_precision_follows_the_device() -> None:
    assert precision_of("auto", torch.device("cpu")) == "fp32"
    assert precision_of("bf16", torch.device("cpu")) == "bf16"
    with pytest.raises(InputError, match="fp16 needs a GPU"):
        precision_of("fp16", torch.device("cpu"))


def test_bf16_trains_in_mixed_precision_and_saves_float32(experiment: Path, tiny_bert: Path) -> None:
    full = weights(trained(experiment, tiny_bert, "full"))
    config = yaml.safe_load(experiment.read_text())
    config["sts"]["recipes"]["v1"]["training"]["precision"] = "bf16"
    experiment.write_text(yaml.safe_dump(config), encoding="utf-8")
    AcceleratorState._reset_state(True)  # accelerate keeps one precision per process, and a job is a process
    mixed = weights(trained(experiment, tiny_bert, "mixed"))
    AcceleratorState._reset_state(True)
    assert {value.dtype for value in mixed.values()} == {torch.float32}
    assert not same(full, mixed)
    assert max(float((full[name] - mixed[name]).abs().max()) for name in full) < 0.05


def test_gradient_checkpointing_does_not_change_the_weights(experiment: Path, tiny_bert: Path) -> None:
    full = weights(trained(experiment, tiny_bert, "full"))
    config = yaml.safe_load(experiment.read_text())
    config["sts"]["recipes"]["v1"]["training"]["gradient_checkpointing"] = True
    experiment.write_text(yaml.safe_dump(config), encoding="utf-8")
    again = weights(trained(experiment, tiny_bert, "again"))
    assert max(float((full[name] - again[name]).abs().max()) for name in full) < 1e-5


def test_a_damaged_checkpoint_is_named(experiment: Path, tiny_bert: Path) -> None:
    plan = Plan.load(experiment)
    out = experiment.parent / "run"
    config = yaml.safe_load(experiment.read_text())
    config["sts"]["recipes"]["v1"]["training"]["learning_rate"] = 1e-3
    run = plan.run("sts-2dmse-v1-released-v1-s3")
    from matryobench.files import sha256_of
    from matryobench.plan import digest
    from matryobench.training.runs import _weights_hash

    identity = digest(
        [plan.settings_hash(run), sha256_of(experiment.parent / "tokens.safetensors"), _weights_hash(tiny_bert)]
    )
    work = out / "checkpoints" / "checkpoint-000000006"
    work.mkdir(parents=True)
    (work / "state.json").write_text(json.dumps({"step": 6, "identity": identity, "scaler": None}), encoding="utf-8")
    (work / "model.safetensors").write_bytes(os.urandom(100))
    with pytest.raises(InputError, match="damaged checkpoint"):
        trained(experiment, tiny_bert, "run")
