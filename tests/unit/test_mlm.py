"""Masked-LM pre-training: blocks, masking, determinism, resume, the folder that comes out, bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from matryobench.errors import InputError
from matryobench.paths import ROOT
from matryobench.pretraining.blocks import pack
from matryobench.pretraining.mlm import pretrain
from matryobench.pretraining.spec import PretrainSpec

TEXT = [f"the {colour} {animal} sees the {thing}" for colour in ("red", "blue", "old") for animal in ("dog", "cat", "man")
        for thing in ("ball", "house", "tree", "car")]  # fmt: skip


def spec(**changes: object) -> PretrainSpec:
    whole = {
        "architecture": {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 32, "max_length": 24},
        "vocab_size": 120, "steps": 10, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 2,
    }  # fmt: skip
    return PretrainSpec.model_validate({**whole, **changes})


@given(st.lists(st.lists(st.integers(5, 50), max_size=40), max_size=20), st.integers(3, 16))
def test_packing_keeps_every_token_within_the_length(documents: list[list[int]], length: int) -> None:
    blocks = pack(documents, length, first=2, separator=3)
    assert all(len(block) <= length and block[0] == 2 and block[-1] == 3 for block in blocks)
    kept = sorted(token for block in blocks for token in block if token > 4)
    assert kept == sorted(token for document in documents for token in document)


def test_documents_that_fit_are_not_cut() -> None:
    assert pack([[7, 8, 9], [10], [11, 12]], 7, first=2, separator=3) == [[2, 7, 8, 9, 3, 10, 3], [2, 11, 12, 3]]


def test_every_process_learns_the_same_vocabulary(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from matryobench.pretraining.tokenizer import train_tokenizer;"
        "from matryobench.data.demo_world import table; train_tokenizer(table('text')['text'][:2000], 600, Path(sys.argv[1]))"
    )
    for name in ("first", "second", "third"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True, cwd=ROOT / "workflow")
    assert len({(tmp_path / name / "tokenizer.json").read_bytes() for name in ("first", "second", "third")}) == 1


def test_the_folder_loads_as_encoder_masked_lm_and_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

    numbers = pretrain(TEXT, spec(), tmp_path / "model", tmp_path / "work", progress=False)
    assert numbers["steps"] == 10
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.mask_token == "[MASK]"
    assert tokenizer("THE Dog")["input_ids"] == tokenizer("the dog")["input_ids"]
    encoder = AutoModel.from_pretrained(tmp_path / "model", add_pooling_layer=False)
    assert (encoder.config.num_hidden_layers, encoder.config.hidden_size) == (2, 16)
    head = AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    assert torch.equal(head.bert.embeddings.word_embeddings.weight, encoder.embeddings.word_embeddings.weight)
    assert not list((tmp_path / "model").glob("*.bin"))


def test_the_same_spec_gives_the_same_weights_and_each_seed_counts(tmp_path: Path) -> None:
    def weights(name: str, **seeds: int) -> dict[str, torch.Tensor]:
        pretrain(TEXT, spec(seeds=seeds), tmp_path / name, tmp_path / f"{name}-work", progress=False)
        return load_file(tmp_path / name / "model.safetensors")

    first, second = weights("first"), weights("second")
    assert all(torch.equal(first[name], second[name]) for name in first)
    for seed in ("init", "data", "masking", "dropout"):
        other = weights(seed, **{seed: 9})
        assert any(not torch.equal(first[name], other[name]) for name in first), seed


def test_the_loss_falls(tmp_path: Path) -> None:
    few = pretrain(TEXT, spec(steps=2), tmp_path / "few", tmp_path / "a", progress=False)
    many = pretrain(TEXT, spec(steps=200, learning_rate=5e-3), tmp_path / "many", tmp_path / "b", progress=False)
    assert many["final_loss"] < 0.75 * few["final_loss"]


def test_a_killed_pre_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    settings = spec(steps=60)
    pretrain(TEXT, settings, tmp_path / "whole", tmp_path / "whole-work", progress=False)
    code = (
        "import json, sys; from pathlib import Path; from matryobench.pretraining.mlm import pretrain;"
        "from matryobench.pretraining.spec import PretrainSpec; text, spec, out = json.loads(sys.argv[1]);"
        "pretrain(text, PretrainSpec.model_validate(spec), Path(out), Path(out + '-work'), checkpoint_every=5)"
    )
    arguments = json.dumps([TEXT, settings.model_dump(mode="json"), str(tmp_path / "killed")])
    command = [sys.executable, "-c", code, arguments]
    process = subprocess.Popen(command, cwd=ROOT / "workflow", stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed-work" / "loop" / "checkpoint-000000005"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed").exists(), "it was killed too late to test anything"
    subprocess.run(command, check=True, cwd=ROOT / "workflow", stderr=subprocess.DEVNULL)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("text", "changes", "sentence"),
    [
        (["  ", ""], {}, "there is no word in it to learn a vocabulary from"),
        (TEXT, {"vocab_size": 8}, "vocab_size: 8 is too small"),
        (TEXT, {"learning_rate": 1e30, "warmup_steps": 0}, "pre-training: step .*lower training.learning_rate"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, text: list[str], changes: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        pretrain(text, spec(**changes), tmp_path / "model", tmp_path / "work", progress=False)
    assert not (tmp_path / "model").exists()
