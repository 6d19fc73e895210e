"""Masked-language-model pre-training from scratch: packing, the folder it writes, and continuing after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from matryobench.errors import InputError
from matryobench.files import sha256_of
from matryobench.pretraining.blocks import pack
from matryobench.pretraining.mlm import pretrain
from matryobench.pretraining.smae import SizedMaskedLM
from matryobench.pretraining.spec import Architecture, PretrainSeeds, PretrainSpec
from matryobench.pretraining.tokenizer import SPECIAL, train_tokenizer

TEXT = [
    f"The {a} {v} the {b}." for a in ("baker", "king", "smith") for v in ("saw", "met") for b in ("fox", "owl", "hen")
]
SMALL = Architecture(layers=2, hidden=16, heads=2, intermediate=32, max_length=16)


def spec(**more: object) -> PretrainSpec:
    settings = {"steps": 12, "batch_size": 4, "learning_rate": 1e-3, "vocab_size": 120} | more
    return PretrainSpec(architecture=SMALL, **settings)


def weights(folder: Path) -> str:
    return sha256_of(folder / "model.safetensors")


def test_documents_are_packed_whole_where_they_fit_best() -> None:
    # room after [CLS]: 7; a document of n tokens takes n + 1
    blocks = pack([[1] * 4, [2] * 3, [3], [4, 4], []], length=8, first=100, separator=101)
    assert blocks == [
        [100, 1, 1, 1, 1, 101, 3, 101],
        [100, 2, 2, 2, 101, 4, 4, 101],
    ]


def test_a_document_longer_than_a_block_is_cut() -> None:
    assert pack([[1, 2, 3, 4, 5]], length=4, first=0, separator=9) == [[0, 1, 2, 9], [0, 3, 4, 9], [0, 5, 9]]


@given(st.lists(st.lists(st.integers(1, 50), max_size=30), max_size=40), st.integers(4, 12))
@settings(deadline=None)
def test_packing_loses_and_invents_nothing(documents: list[list[int]], length: int) -> None:
    blocks = pack(documents, length, first=100, separator=101)
    assert all(block[0] == 100 and block[-1] == 101 and len(block) <= length for block in blocks)
    packed = sorted(token for block in blocks for token in block if token < 100)
    assert packed == sorted(token for document in documents for token in document)


def test_the_tokenizer_is_berts_and_the_same_each_time(tmp_path: Path) -> None:
    size = train_tokenizer(TEXT, 120, tmp_path / "a", max_length=16)
    assert train_tokenizer(iter(TEXT), 120, tmp_path / "b", max_length=16) == size <= 120
    assert [sha256_of(f) for f in sorted((tmp_path / "a").iterdir())] == [
        sha256_of(f) for f in sorted((tmp_path / "b").iterdir())
    ]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert len(tokenizer) == size and tokenizer.model_max_length == 16
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(SPECIAL)
    assert tokenizer.tokenize("THE Baker") == ["the", "baker"]
    ids = tokenizer("the king", "met")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "the", "king", "[SEP]", "met", "[SEP]"]
    assert tokenizer.decode(tokenizer("zebra", add_special_tokens=False)["input_ids"]).strip()


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [
        ([], 100, "no word in it to learn"),
        (["", "  "], 100, "no word in it"),
        (TEXT, 10, "vocab_size: 10 is too small"),
    ],
)
def test_a_vocabulary_that_cannot_be_made_is_one_sentence(
    texts: list[str], size: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train_tokenizer(texts, size, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pretraining_learns_and_writes_a_bert_folder(tmp_path: Path) -> None:
    told = pretrain(
        TEXT * 4, spec(steps=150, learning_rate=5e-3), tmp_path / "out", tmp_path / "work", "cpu", progress=False
    )
    assert told["steps"] == 150 and told["resumed_at"] == 0 and told["vocab_size"] <= 120
    assert told["final_loss"] < 2.5 < np.log(told["vocab_size"])
    assert told["device"] == "cpu" and told["precision"] == "fp32" and told["seconds"] > 0
    json.dumps(told)
    assert not list((tmp_path / "work").glob("**/checkpoint-*"))
    assert {f.name for f in (tmp_path / "out").iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not [f for f in (tmp_path / "out").iterdir() if f.suffix in (".bin", ".pt", ".pth", ".pkl")]
    model, tokenizer = AutoModel.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    states = model(**tokenizer("the king met the fox", return_tensors="pt"), output_hidden_states=True).hidden_states
    assert len(states) == 3 and states[-1].shape[-1] == 16
    head = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    ids = tokenizer("the king [MASK] the fox.", return_tensors="pt")
    guess = head(**ids).logits[0, 3].argmax().item()
    assert tokenizer.convert_ids_to_tokens(guess) in ("saw", "met")


def test_the_same_spec_gives_the_same_weights_and_another_seed_does_not(tmp_path: Path) -> None:
    def run(name: str, **seeds: int) -> str:
        pretrain(TEXT, spec(seeds=PretrainSeeds(**seeds)), tmp_path / name, tmp_path / "work", "cpu", progress=False)
        return weights(tmp_path / name)

    torch.manual_seed(5)
    first = run("a")
    torch.manual_seed(6)  # the caller's random state does not matter
    assert run("b") == first
    others = [run(f"c-{seed}", **{seed: 9}) for seed in ("init", "data", "masking", "dropout")]
    assert len({first, *others}) == 5


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_mlm import TEXT, pretrain, spec
print(pretrain(TEXT, spec(steps=int(sys.argv[3])), Path(sys.argv[2], "out"), Path(sys.argv[2], "work"), "cpu", False, 5))
"""


def test_killed_in_the_middle_it_continues_to_the_same_weights(tmp_path: Path) -> None:
    steps = 400
    arguments = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(tmp_path), str(steps)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    job = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "work").glob("loop/checkpoint-*/state.json")):
        assert job.poll() is None and time.monotonic() < deadline, "the job ended before it could be killed"
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not (tmp_path / "out").exists()
    told = pretrain(TEXT, spec(steps=steps), tmp_path / "out", tmp_path / "work", "cpu", False, 5)
    assert 0 < told["resumed_at"] < steps
    pretrain(TEXT, spec(steps=steps), tmp_path / "whole", tmp_path / "other", "cpu", False, 1000)
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")


def test_checkpoints_of_another_spec_are_not_continued(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with pytest.raises(InputError):  # leaves checkpoints behind, as a kill does
        pretrain([*TEXT, "x"], spec(steps=400, learning_rate=1e30), tmp_path / "out", work, "cpu", False, 1)
    assert pretrain(TEXT, spec(), tmp_path / "out", work, "cpu", False)["resumed_at"] == 0
    pretrain(TEXT, spec(), tmp_path / "whole", tmp_path / "other", "cpu", False)
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")


def test_a_loss_that_is_not_finite_stops_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pre-training: step \d+: the loss is (nan|inf).*; lower"):
        pretrain(TEXT, spec(steps=60, learning_rate=1e30), tmp_path / "out", tmp_path / "work", "cpu", False)
    assert not (tmp_path / "out").exists()


def test_the_loss_is_the_libraries_loss(tmp_path: Path) -> None:
    pretrain(TEXT, spec(), tmp_path / "out", tmp_path / "work", "cpu", progress=False)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    batch = AutoTokenizer.from_pretrained(tmp_path / "out")(TEXT[:4], return_tensors="pt", padding=True)
    labels = torch.where(torch.rand(batch["input_ids"].shape, generator=torch.Generator().manual_seed(0)) < 0.4,
                         batch["input_ids"], -100)  # fmt: skip
    ours, _ = SizedMaskedLM(model, [(2, 16)], decoder=False)(batch["input_ids"], batch["attention_mask"], labels)
    theirs = model(batch["input_ids"], batch["attention_mask"], labels=labels).loss
    assert torch.allclose(ours, theirs, rtol=1e-6)


def test_a_batch_in_which_nothing_is_predicted_teaches_nothing(tmp_path: Path) -> None:
    pretrain(TEXT, spec(), tmp_path / "out", tmp_path / "work", "cpu", progress=False)
    model = SizedMaskedLM(AutoModelForMaskedLM.from_pretrained(tmp_path / "out"), [(1, 4), (2, 16)], decoder=True)
    ids = torch.tensor([[2, 7, 8, 3]])
    nothing = torch.full_like(ids, -100)
    loss, each = model(ids, torch.ones_like(ids), nothing, ids, nothing)
    assert not each.any()
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
