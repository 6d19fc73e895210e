"""SMAE: loss and gradients against a slow evaluation of the definition, families, processes, resume, the folder."""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate.state import AcceleratorState
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from matryobench.backbones import usable_positions
from matryobench.errors import InputError
from matryobench.models.folders import load_encoder
from matryobench.paths import ROOT
from matryobench.pretraining.batches import MaskedTexts
from matryobench.pretraining.continued import continue_pretraining
from matryobench.pretraining.masking import Masker, vocabulary_of
from matryobench.pretraining.parts import head_of, layers_of, parts_of
from matryobench.pretraining.smae import SizedMaskedLM, attend_with_first
from matryobench.pretraining.spec import ContinueSpec
from matryobench.pretraining.start import load_masked_lm
from matryobench.pretraining.text import Blocks, TextTable
from matryobench.pretraining.vocabulary_loss import vocabulary_loss

PAIRS = [(1, 4), (2, 8), (2, 12), (3, 16)]
SIZES = {"vocab_size": 23, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}


def model_of(family: str) -> Any:
    torch.manual_seed(4)
    if family == "bert":
        model = BertForMaskedLM(BertConfig(**SIZES, max_position_embeddings=16))
    elif family == "roberta":
        model = RobertaForMaskedLM(RobertaConfig(**SIZES, max_position_embeddings=18, pad_token_id=0, bos_token_id=1))
    else:
        model = DistilBertForMaskedLM(
            DistilBertConfig(vocab_size=23, dim=16, n_layers=3, n_heads=2, hidden_dim=24, max_position_embeddings=16)
        )
    for parameter in model.parameters():  # far from the small first weights, so that nothing hides in a rounding
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def batch_of(seed: int = 0) -> list[Tensor]:
    """Three texts of 7, 9 and 5 tokens: ids, mask, labels, decoder ids, decoder labels; rows predict 2/4, 1/3, 0/2."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 23, (3, 9), generator=generator)
    mask = (torch.arange(9) < torch.tensor([7, 9, 5])[:, None]).long()
    labels, decoder_labels = torch.full((2, 3, 9), -100)
    for row, few, more in ((0, [2, 5], [1, 2, 4, 5]), (1, [3], [3, 6, 7]), (2, [], [1, 2])):
        labels[row, few], decoder_labels[row, more] = ids[row, few], ids[row, more]
    masked, decoder_masked = (torch.where(goal != -100, 4, ids) * mask for goal in (labels, decoder_labels))
    return [masked, mask, labels, decoder_masked, decoder_labels]


def definition(module: SizedMaskedLM, ids: Tensor, mask: Tensor, labels: Tensor, more: Tensor, goals: Tensor) -> Tensor:
    """The loss by its definition: text by text, pair by pair, position by position; the decoder is run as it is."""
    model, pairs = module.model, module.pairs
    head, rows = head_of(model), range(len(ids))
    width = model.config.hidden_size

    def predict(state: Tensor, goal: Tensor) -> Tensor:
        dense = sum(head.dense.weight[:, unit] * state[unit] for unit in range(len(state))) + head.dense.bias
        scores = head.projection.weight @ head.norm(head.activation(dense)) + head.projection.bias
        return -(scores[goal] - torch.log(torch.exp(scores).sum()))

    total = torch.zeros((), dtype=torch.float64)
    for layer, dim in pairs:
        mlm, mae = [], []
        for row in rows:
            length = int(mask[row].sum())
            hidden = model.base_model(ids[row : row + 1, :length], output_hidden_states=True).hidden_states
            states = hidden[layer][0]
            mlm += [predict(states[at, :dim], labels[row, at]) for at in range(length) if labels[row, at] != -100]
            if module.decoder is None:
                continue
            inputs = model.base_model.embeddings(more[row : row + 1, :length])
            cut = torch.nn.functional.linear(states[0, :dim], head.dense.weight[:, :dim], head.dense.bias)
            slot = head.norm(head.activation(cut))
            decoded = module.decoder(torch.cat([slot[None, None], inputs[:, 1:]], dim=1))
            decoded = (decoded[0] if isinstance(decoded, tuple) else decoded).reshape(length, width)
            mae += [predict(decoded[at], goals[row, at]) for at in range(length) if goals[row, at] != -100]
        parts = [torch.stack(side).mean() for side in (mlm, mae) if side]
        total = total + torch.stack(parts).mean()
    return total / len(pairs)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("decoder", [True, False])
def test_loss_and_gradients_are_the_definitions(family: str, decoder: bool) -> None:
    module = SizedMaskedLM(model_of(family), PAIRS, decoder).double().eval()
    if decoder:
        assert module.decoder is not None
        for parameter in module.decoder.parameters():  # no longer the first layer's weights
            parameter.data += 0.1 * torch.randn_like(parameter)
    batch = batch_of()
    loss, each = module(*(batch if decoder else batch[:3]))
    loss.backward()
    ours = {name: parameter.grad for name, parameter in module.named_parameters()}
    module.zero_grad(set_to_none=True)
    expected = definition(module, *batch)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    assert each.mean().item() == pytest.approx(expected.item(), rel=1e-10)
    assert all(gradient is not None for gradient in ours.values())  # several processes could not train it otherwise
    theirs = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert len(theirs) > 40
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_one_full_pair_without_decoder_is_the_librarys_masked_lm(family: str) -> None:
    model = model_of(family).double().eval()
    ids, mask, labels, *_ = batch_of()
    loss, each = SizedMaskedLM(model, [(3, 16)], decoder=False)(ids, mask, labels)
    loss.backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    expected = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10) and each.shape == (1, 1)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-10, atol=1e-10, msg=name)


def test_every_pairs_own_losses_are_reported() -> None:
    module = SizedMaskedLM(model_of("bert"), PAIRS, decoder=True).double().eval()
    _, each = module(*batch_of())
    assert each.shape == (2, len(PAIRS))
    for number, pair in enumerate(PAIRS):
        alone = SizedMaskedLM(module.model, [pair], decoder=True).double().eval()
        alone.decoder = module.decoder
        torch.testing.assert_close(alone(*batch_of())[1][:, 0], each[:, number])


def test_the_decoder_starts_as_the_first_layer_and_is_its_own() -> None:
    module = SizedMaskedLM(model_of("bert"), PAIRS, decoder=True)
    first = layers_of(module.model)[0]
    assert module.decoder is not None
    for ours, theirs in zip(module.decoder.parameters(), first.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr()


def test_dropout_of_the_shared_attention_is_attentions() -> None:
    """What attention gives is linear in its dropout mask, so its mean over masks is what it gives without."""
    model = model_of("bert").double()
    parts = parts_of(layers_of(model)[0], model.config)
    generator = torch.Generator().manual_seed(0)
    inputs, firsts = (torch.randn(*size, 16, generator=generator, dtype=torch.double) for size in ((3, 9), (2, 3)))
    mask = batch_of()[1]
    given = (parts, inputs[:, 1:4], inputs, mask, firsts)
    expected = attend_with_first(*given, training=False)
    torch.manual_seed(0)
    drawn = torch.stack([attend_with_first(*given, training=True) for _ in range(1000)])
    assert (drawn.std(dim=0) > 0.05).double().mean() > 0.9
    error = (drawn.mean(dim=0) - expected) / (drawn.std(dim=0) / 1000**0.5)
    assert error.abs().max() < 5 and error.std() < 1.5


def test_the_vocabulary_loss_is_torchs_in_pieces_and_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(sys.modules[vocabulary_loss.__module__])["_PIECE"], "cpu", 200)
    generator = torch.Generator().manual_seed(0)
    states, weight, bias = (torch.randn(size, generator=generator) for size in ((37, 8), (50, 8), (50,)))
    targets = torch.randint(0, 50, (37,), generator=generator)
    shares = torch.rand(37, generator=generator) * 1e-6
    inputs = [value.requires_grad_() for value in (states, weight, bias)]
    logits = torch.nn.functional.linear(states, weight, bias)
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    expected = torch.autograd.grad((each * shares).sum(), inputs)
    loss, rows = vocabulary_loss(*inputs, targets, shares)
    torch.testing.assert_close(rows, each.detach())
    for ours, theirs in zip(torch.autograd.grad(loss * 3, inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs * 3)
    with torch.autocast("cpu", torch.bfloat16):
        loss, rows = vocabulary_loss(*inputs, targets, shares)
    assert loss.dtype == rows.dtype == torch.float32
    for ours, theirs in zip(torch.autograd.grad(loss, inputs), expected, strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_no_row_to_predict_gives_zero_and_a_gradient_everywhere() -> None:
    module = SizedMaskedLM(model_of("bert"), PAIRS, decoder=True)
    ids, mask, *_ = batch_of()
    nothing = torch.full_like(ids, -100)
    loss, each = module(ids, mask, nothing, ids, nothing)
    loss.backward()
    assert loss.item() == 0 and not each.any()
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "there are no sizes to pre-train"),
        ([(4, 8)], r"the size \(4, 8\) does not fit the backbone, whose layers are 1\.\.3 and dims 1\.\.16; choose"),
        ([(2, 17)], r"the size \(2, 17\) does not fit"),
        ([(0, 8)], r"the size \(0, 8\) does not fit"),
        ([(2, 8), (2, 8)], r"the size \(2, 8\) is listed twice"),
    ],
)
def test_sizes_that_the_backbone_lacks_are_one_sentence(pairs: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SizedMaskedLM(model_of("bert"), pairs, decoder=True)


# --- whole runs ------------------------------------------------------------------------------------------------------

LINES = [
    f"{a} {b} sees the {c} {d} {e} not the house runs"
    for a in ("the", "a") for b in ("dog", "cat", "man") for c in ("red", "small") for d in ("ball", "house", "dog")
    for e in ("the woman runs", "a man sees the red red small small ball ball dog dog cat cat cat runs runs runs runs")
]  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "text.parquet"
    pq.write_table(pa.table({"text": LINES}), path, row_group_size=20)
    return path


def spec(objective: str = "smae", seeds: dict[str, int] | None = None, **training: Any) -> ContinueSpec:
    loop = {"batch_size": 6, "accumulation": 2, "steps": 8, "learning_rate": 2e-3, "schedule": "cosine"} | training
    sizes = {"Full": (4, 32)} if objective == "smae" else {}  # of the config; a run gets the pairs resolved
    return ContinueSpec.model_validate(
        {
            "objective": objective,
            "text": "lines",
            "sizes": sizes,
            "max_length": 16,
            "training": loop,
            "seeds": seeds or {},
        }
    )


def run(table: Path, start: Path, name: str, settings: ContinueSpec | None = None, pairs: Any = None) -> dict[str, Any]:
    sizes = pairs or [(1, 4), (2, 8), (4, 32)]
    folder = table.parent
    return continue_pretraining(
        table, settings or spec(), sizes, start, folder / name / "model", folder / name / "work", "cpu", progress=False
    )


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file((folder / "model" if (folder / "model").exists() else folder) / "model.safetensors")


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
from test_smae import run, spec
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
from test_smae import run, shared_step, spec
run(Path(sys.argv[2]), Path(sys.argv[3]), "two", spec(steps=4, checkpoint_every=3))
told = shared_step(Path(sys.argv[3]), DistributedDataParallel)
if dist.get_rank() == 0:
    Path(sys.argv[2]).with_name("two.json").write_text(json.dumps(told))
dist.destroy_process_group()
"""


def shared_step(folder: Path, wrap: Any) -> dict[str, Any]:
    """Loss, terms and gradients of one micro-batch of 7 texts of which the processes have 4 and 3."""
    from matryobench.models.folders import load_tokenizer

    tokenizer = load_tokenizer(folder)
    vocabulary = vocabulary_of(tokenizer, "test")
    blocks = [[2, *ids[:10], 3] for ids in tokenizer(LINES[::5], add_special_tokens=False)["input_ids"]]
    texts = MaskedTexts(Blocks(blocks, 1), Masker(vocabulary, True, 0.2, 0.4), [(1, 4), (4, 32)], 7, 1)
    module = SizedMaskedLM(load_masked_lm(folder, 3)[0], texts.pairs, decoder=True).double().eval()
    wrapped = wrap(module)  # kept until the backward pass has run
    loss, terms = texts.loss_of(wrapped, texts.batches(0)[1], torch.Generator().manual_seed(5))
    loss.backward()
    texts.close()
    gradients = {name: value.grad.tolist() for name, value in module.named_parameters()}
    return {"loss": loss.item(), "terms": {n: v.item() for n, v in terms.items()}, "gradients": gradients}


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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
              "PYTHONPATH": str(ROOT / "workflow"), "OMP_NUM_THREADS": "1"}  # fmt: skip
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(Path(__file__).parent), str(table), str(undropped)],
            stderr=subprocess.PIPE, text=True, env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
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


# --- starts and bad input --------------------------------------------------------------------------------------------


def test_a_new_head_depends_on_the_seed_alone(tiny_bert: Path) -> None:
    heads = []
    for seed, other in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(other)
        heads.append(head_of(load_masked_lm(tiny_bert, seed)[0]).dense.weight)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_the_real_minilm_can_be_a_start(minilm: Path) -> None:
    model, new = load_masked_lm(minilm, 1)
    assert new and model.config.num_hidden_layers == 6 and usable_positions(model.config.to_dict()) == 512
    stored = load_file(minilm / "model.safetensors")["encoder.layer.5.output.dense.weight"]
    assert torch.equal(layers_of(model)[5].output.dense.weight, stored)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_a_start_that_lacks_weights_or_is_of_another_type_is_one_sentence(tiny_bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model, _ = load_masked_lm(tiny_bert, 1)
    model.save_pretrained(tmp_path / "whole")
    stored = weights(tmp_path / "whole")
    for name, message in (
        ("bert.encoder.layer.1.output.dense.weight", "the weights lack 1 parameters, first bert.encoder.layer.1"),
        ("cls.predictions.transform.dense.weight", "the masked-LM head lacks cls.predictions.transform.dense.weight"),
    ):
        save_file({n: v for n, v in stored.items() if n != name}, tmp_path / "whole" / "model.safetensors",
                  metadata={"format": "pt"})  # fmt: skip
        with pytest.raises(InputError, match=message):
            load_masked_lm(tmp_path / "whole", 1)
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    (tmp_path / "whole" / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    with pytest.raises(
        InputError, match="model type 'gpt2' cannot be pre-trained here; start from one of bert, roberta"
    ):
        load_masked_lm(tmp_path / "whole", 1)


def test_too_long_texts_for_the_model_are_one_sentence(table: Path, tiny_bert: Path) -> None:
    settings = spec().model_copy(update={"max_length": 33})
    with pytest.raises(InputError, match="it has 32 positions and max_length is 33; lower max_length"):
        run(table, tiny_bert, "out", settings)


def test_a_size_beyond_the_backbone_is_one_sentence_before_anything_is_trained(table: Path, tiny_bert: Path) -> None:
    with pytest.raises(InputError, match=r"the size \(12, 768\) does not fit the backbone, whose layers are 1\.\.4"):
        run(table, tiny_bert, "out", pairs=[(2, 8), (12, 768)])
    assert not (table.parent / "out").exists()


def test_a_tokenizer_without_mask_token_is_one_sentence(table: Path, tiny_bert: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()
    for file in tiny_bert.iterdir():
        (start / file.name).write_bytes(file.read_bytes())
    settings = json.loads((start / "tokenizer_config.json").read_text())
    (start / "tokenizer_config.json").write_text(json.dumps({**settings, "mask_token": None}))
    with pytest.raises(InputError, match="its tokenizer has no mask token, which masked-language modelling needs"):
        run(table, start, "out")


def test_a_decoder_that_masks_less_than_the_encoder_is_refused() -> None:
    settings = {"text": "x", "sizes": {"Demi": (2, 32)}, "decoder_mask": 0.1, "training": {"steps": 1}}
    with pytest.raises(ValidationError, match=r"'decoder_mask' \(0.1\) is below 'encoder_mask'"):
        ContinueSpec.model_validate(settings)


def test_a_micro_batch_too_small_for_the_processes_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tiny_bert: Path
) -> None:
    from matryobench.models.folders import load_tokenizer

    vocabulary = vocabulary_of(load_tokenizer(tiny_bert), "test")
    texts = MaskedTexts(Blocks([[2, 7, 3]] * 4, 1), Masker(vocabulary, True, 0.2, None), [(1, 4)], 2, 1)
    monkeypatch.setattr("matryobench.pretraining.batches.world_size", lambda: 3)
    with pytest.raises(InputError, match="a micro-batch of 2 texts cannot be shared by 3 processes; use fewer"):
        texts.masked(texts.batches(0)[0], 1)


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


def test_the_cost_of_a_step_can_be_measured() -> None:
    import importlib.util

    found = importlib.util.spec_from_file_location("measure_smae", ROOT / "tools" / "measure_smae.py")
    assert found is not None and found.loader is not None
    tool = importlib.util.module_from_spec(found)
    found.loader.exec_module(tool)
    told = tool.measure("tiny", batch=2, tokens=24, repeats=1, device=torch.device("cpu"), vocabulary=60)
    assert told["smae_over_mlm"] > 0 and set(told["seconds"]) == {"library", "mlm", "smae", "direct"}
    module = SizedMaskedLM(tool.model_of("tiny", 60), [(1, 8), (2, 16)], decoder=True).double().eval()
    batch = tool.masked_batch(2, 24, 60)
    assert tool.direct(module, *batch).item() == pytest.approx(module(*batch)[0].item(), rel=1e-6)
