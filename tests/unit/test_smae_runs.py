"""Continued pre-training: what a run leaves, that it repeats, continues after a kill, and runs on several processes."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate.state import AcceleratorState
from processes_cases import two_processes
from smae_cases import LINES, run, shared_step, spec, weights
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
)

from matryobench.errors import InputError
from matryobench.models.folders import load_encoder
from matryobench.pretraining.batches import MaskedTexts
from matryobench.pretraining.masking import Masker, vocabulary_of
from matryobench.pretraining.smae import SizedMaskedLM
from matryobench.pretraining.start import load_masked_lm
from matryobench.pretraining.text import TextTable


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "text.parquet"
    pq.write_table(pa.table({"text": LINES}), path, row_group_size=20)
    return path


def same(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_encoder_without_head_gets_one_and_becomes_a_folder_that_methods_start_from(
    table: Path, tiny_bert: Path
) -> None:
    told = run(table, tiny_bert, "out", spec(steps=30))
    json.dumps(told)
    out = table.parent / "out" / "model"
    assert told["new_head"] and told["steps"] == 30 and told["texts"] == 72 and told["passes"] == 5.0
    assert told["device"] == "cpu" and told["precision"] == "fp32" and told["processes"] == 1
    assert list(told["losses"]) == [f"{s}/{p}" for s in ("mlm", "mae") for p in ("l1/d4", "l2/d8", "l4/d32")]
    lines = [json.loads(line) for line in (out.parent / "telemetry.jsonl").read_text().splitlines()]
    assert len(lines) == 30 and lines[-1]["loss"] == pytest.approx(np.mean(list(told["losses"].values())), rel=1e-5)
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.3
    # 12 texts per step; tokens include [CLS] and [SEP]
    assert told["tokens_seen"] == round(sum(line["tokens"] * 2 for line in lines)) > 30 * 12 * 10
    assert {f.name for f in out.parent.iterdir()} == {"model", "telemetry.jsonl"}
    encoder = load_encoder(out, "cls")
    assert encoder.depth == 4 and encoder.width == 32
    model, new = load_masked_lm(out, 0)
    assert not new and model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert not run(table, out, "again", spec(steps=1))["new_head"]
    assert set(weights(out)) == set(weights(table.parent / "again"))
    assert not any("decoder_layer" in name or name.startswith("decoder") for name in weights(out))


def test_plain_mlm_is_the_same_code_with_the_full_size_alone(table: Path, tiny_bert: Path) -> None:
    told = run(table, tiny_bert, "out", spec("mlm"))
    assert told["pairs"] == [[4, 32]] and list(told["losses"]) == ["mlm/l4/d32"]


def test_equal_seeds_give_equal_weights_and_another_seed_does_not(table: Path, tiny_bert: Path) -> None:
    torch.manual_seed(1)
    run(table, tiny_bert, "first")
    torch.manual_seed(2)
    run(table, tiny_bert, "second")
    assert same(table.parent / "first", table.parent / "second")
    for seed in ("init", "data", "masking", "dropout"):
        run(table, tiny_bert, seed, spec(seeds={seed: 9}))
        assert not same(table.parent / "first", table.parent / seed), seed


def test_bf16_trains_on_a_cpu_and_fp16_is_one_sentence(table: Path, tiny_bert: Path) -> None:
    told = []
    for precision in ("fp32", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)  # one process of this program has one precision
        told.append(run(table, tiny_bert, precision, spec(precision=precision)))
    AcceleratorState._reset_state(reset_partial_state=True)
    exact, rough = told
    assert rough["precision"] == "bf16" and rough["losses"] != exact["losses"]
    assert rough["losses"] == pytest.approx(exact["losses"], rel=0.03)
    with pytest.raises(InputError, match="fp16 needs a GPU and this job has none; set it to auto"):
        run(table, tiny_bert, "half", spec(precision="fp16"))
    assert not (table.parent / "half" / "model").exists()


def test_gradient_checkpointing_changes_nothing(table: Path, tiny_bert: Path) -> None:
    run(table, tiny_bert, "plain")
    run(table, tiny_bert, "checkpointed", spec(gradient_checkpointing=True))
    ours, theirs = (weights(table.parent / name) for name in ("plain", "checkpointed"))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from smae_cases import run, spec
run(Path(sys.argv[2]), Path(sys.argv[3]), "out", spec(steps=60, checkpoint_every=2))
"""


def test_killed_in_the_middle_it_continues_to_the_same_weights(table: Path, tiny_bert: Path) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(table), str(tiny_bert)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    job = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((table.parent / "out" / "work").glob("loop/checkpoint-*/state.json")):
        assert job.poll() is None and time.monotonic() < deadline, "the job ended before it could be killed"
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not (table.parent / "out" / "model").exists()
    told = run(table, tiny_bert, "out", spec(steps=60, checkpoint_every=2))
    assert 0 < told["resumed_at"] < 60
    whole = run(table, tiny_bert, "whole", spec(steps=60, checkpoint_every=2))
    assert same(table.parent / "out", table.parent / "whole")
    assert told["tokens_seen"] == whole["tokens_seen"] and told["losses"] == whole["losses"]


@pytest.mark.parametrize("change", ["text", "sizes", "masks", "start"])
def test_checkpoints_of_another_pre_training_are_not_continued(change: str, table: Path, tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="the loss is"):  # leaves checkpoints behind, as a kill does
        run(table, tiny_bert, "out", spec(steps=40, learning_rate=1e30, checkpoint_every=1))
    settings, pairs, start = spec(), None, tiny_bert
    if change == "text":
        pq.write_table(pa.table({"text": LINES[1:]}), table)
    elif change == "sizes":
        pairs = [(4, 32)]
    elif change == "start":
        run(table, tiny_bert, "start", spec(steps=1))
        start = table.parent / "start" / "model"
    else:
        settings = settings.model_copy(update={"encoder_mask": 0.3})
    assert run(table, start, "out", settings, pairs)["resumed_at"] == 0


# --- several processes -----------------------------------------------------------------------------------------------

# Started as torchrun does: a whole run, then one step of which the gradients are compared.
WORKER = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
sys.path.insert(0, sys.argv[1])
from smae_cases import run, shared_step, spec
run(Path(sys.argv[2]), Path(sys.argv[3]), "two", spec(steps=4, checkpoint_every=3))
told = shared_step(Path(sys.argv[3]), DistributedDataParallel)
if dist.get_rank() == 0:
    Path(sys.argv[2]).with_name("two.json").write_text(json.dumps(told))
dist.destroy_process_group()
"""


@pytest.fixture
def undropped(table: Path, tiny_bert: Path) -> Path:
    """The tiny model without dropout, which every process draws for its own rows."""
    start = table.parent / "start"
    AutoModel.from_pretrained(
        tiny_bert, add_pooling_layer=False, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    ).save_pretrained(start)
    for file in tiny_bert.glob("*token*"):
        (start / file.name).write_bytes(file.read_bytes())
    return start


def test_two_gloo_processes_give_what_one_gives(table: Path, undropped: Path) -> None:
    two_processes(WORKER, Path(__file__).parent, table, undropped)
    # One step: loss and gradients.
    two = json.loads((table.parent / "two.json").read_text())
    one = shared_step(undropped, lambda module: module)
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-10)
    assert two["terms"] == pytest.approx(one["terms"], abs=1e-10) and one["terms"]["tokens"] > 60
    for name, gradient in one["gradients"].items():
        ours, theirs = (torch.tensor(value, dtype=torch.double) for value in (two["gradients"][name], gradient))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10, msg=name)
    # A whole run: losses, weights, and the first process alone writes.
    told = run(table, undropped, "one", spec(steps=4))
    lines = [json.loads(line) for line in (table.parent / "two" / "telemetry.jsonl").read_text().splitlines()]
    assert len(lines) == told["steps"] == 4 and sum(line["tokens"] for line in lines) * 2 == told["tokens_seen"]
    assert lines[-1]["loss"] == pytest.approx(told["final_loss"], rel=1e-4)
    for name, value in weights(table.parent / "one").items():
        torch.testing.assert_close(weights(table.parent / "two")[name], value, rtol=1e-3, atol=2e-4, msg=name)


def test_reading_ahead_changes_nothing(table: Path, tiny_bert: Path) -> None:
    """Batches that are asked for in another order are the same."""
    from matryobench.models.folders import load_tokenizer

    tokenizer = load_tokenizer(tiny_bert)
    vocabulary = vocabulary_of(tokenizer, "test")

    def texts() -> MaskedTexts:
        source = TextTable(table, tokenizer, vocabulary, 16, 7)
        return MaskedTexts(source, Masker(vocabulary, True, 0.2, 0.4), [(1, 4)], 6, 2)

    forward, backward = texts(), texts()
    spans = [span for epoch in (0, 1) for span in forward.batches(epoch)]
    assert len(spans) == 24
    ahead = {span: forward.masked(span, 1) for span in spans}
    for span in reversed(spans):
        for ours, theirs in zip(ahead[span], backward.masked(span, 1), strict=True):
            assert torch.equal(ours, theirs)
    forward.close(), backward.close()


def test_the_models_folder_predicts_through_the_library(table: Path, tiny_bert: Path) -> None:
    run(table, tiny_bert, "out")
    theirs = AutoModelForMaskedLM.from_pretrained(table.parent / "out" / "model").double().eval()
    module = SizedMaskedLM(copy.deepcopy(theirs), [(4, 32)], decoder=False)
    ids = torch.tensor([[2, 7, 4, 9, 3]])
    labels = torch.tensor([[-100, -100, 8, -100, -100]])
    mask = torch.ones_like(ids)
    loss, _ = module(ids, mask, labels)
    assert loss.item() == pytest.approx(theirs(ids, mask, labels=labels).loss.item(), rel=1e-9)
