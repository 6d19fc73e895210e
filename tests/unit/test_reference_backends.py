"""Reference backends against native training: same batches, same hyperparameters, so the same losses and weights."""

from __future__ import annotations

import functools
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from matryobench.errors import InputError
from matryobench.models.folders import load_encoder, load_tokenizer, save_encoder
from matryobench.objectives.objective import Draw, Objective
from matryobench.objectives.recipe import ContrastiveLoss, CoSENTLoss, MNRLoss
from matryobench.objectives.registry import load_methods
from matryobench.tasks import Training
from matryobench.training.loop import Loop, epoch_order, learning_rate
from matryobench.training.reference.sentence_transformers import train_sentence_transformers
from matryobench.training.reference.tevatron import train_tevatron

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
COLUMNS = {
    "anchor": ["the dog sees the cat", "a man runs", "the red house", "the woman sees a ball", "a cat runs", "not a"],
    "positive": ["a dog sees a cat", "the man runs", "a red house", "a woman sees the ball", "the cat runs", "not the"],
    "negative": ["the cat sees the dog", "a man runs not", "small house", "the ball", "the dog", "a " * 40],
}
ROWS, GROUP = 6, 3
# 6 rows in batches of 4 and 2; a step is both, so every epoch has 1 step. The rates rise, peak and fall.
SETTINGS: dict[str, Any] = {
    "batch_size": 4, "accumulation": 2, "learning_rate": 1e-3, "warmup": 3, "weight_decay": 0.1, "max_grad_norm": 0.5,
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    AcceleratorState._reset_state()
    PartialState._reset_state()
    yield
    AcceleratorState._reset_state()
    PartialState._reset_state()


@pytest.fixture
def start(tiny_bert: Path, tmp_path: Path) -> Path:
    """The tiny model without dropout, which different implementations could not draw alike."""
    return without_dropout(tiny_bert, tmp_path / "start")


def without_dropout(model: Path, folder: Path, layers: int = 4) -> Path:
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def order(epoch: int) -> list[torch.Tensor]:
    return list(torch.from_numpy(epoch_order(ROWS, 5, epoch)).split(4))


@functools.cache
def tokens_of(start: Path) -> dict[str, torch.Tensor]:
    texts = [text for column in COLUMNS.values() for text in column]
    tokens = load_tokenizer(start)(texts, truncation=True, max_length=16)["input_ids"]
    return dict(zip(texts, map(torch.tensor, tokens), strict=True))


def triplet_texts(start: Path, rows: torch.Tensor) -> list[torch.Tensor]:
    return [tokens_of(start)[column[int(row)]] for column in COLUMNS.values() for row in rows]


class Pooled(nn.Module):
    """The encoder as a native run embeds with it: sorted by length and cut into small passes."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, texts: list[torch.Tensor], layers: list[int]) -> torch.Tensor:
        return self.encoder.embed(texts, layers, 64)


def native(start: Path, out: Path, training: Training, pooling: Any, loss_of: Any) -> list[dict[str, Any]]:
    """A native run; returns its telemetry, the model is in out/model."""
    encoder = load_encoder(start, pooling)
    loop = Loop(
        module=Pooled(encoder), loss_of=loss_of, batches=order, training=training, dropout_seed=3, draw_seed=3,
        identity="test", work=out / "loop", device=CPU, label="native", progress=False,
    )  # fmt: skip
    loop.run()
    save_encoder(encoder, start, out / "model", 16)
    return telemetry(out / "loop")


def telemetry(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "telemetry.jsonl").read_text(encoding="utf-8").splitlines()]


def by_sentence_transformers(start: Path, out: Path, training: Training, **changed: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "columns": COLUMNS, "batches": order, "loss": "mnrl", "base": MNRLoss(loss="mnrl"), "dims": (), "pooling": "mean",
        "max_length": 16, "training": training, "init_seed": 3, "dropout_seed": 3, "draw_seed": 3, "label": "reference",
        "device_name": "cpu", "progress": False,
    }  # fmt: skip
    return train_sentence_transformers(start, out / "model", out / "work", **{**arguments, **changed})


def assert_same_run(mine: list[dict[str, Any]], theirs: list[dict[str, Any]], folder: Path) -> None:
    """Telemetry to 1e-5, weights and embeddings of every layer close."""
    assert len(mine) == len(theirs)
    for ours, other in zip(mine, theirs, strict=True):
        assert (ours["step"], ours["epoch"]) == (other["step"], other["epoch"])
        assert other["learning_rate"] == pytest.approx(ours["learning_rate"], rel=1e-9)
        assert other["loss"] == pytest.approx(ours["loss"], abs=1e-5)
        assert other["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-3)
    first, second = (load_encoder(folder / name / "model", "mean").eval() for name in ("native", "reference"))
    texts = triplet_texts(folder / "start", torch.arange(ROWS))
    with torch.no_grad():
        embeddings = [encoder.embed(texts, [1, first.depth], 64) for encoder in (first, second)]
    assert F.cosine_similarity(*embeddings, dim=-1).min() > 0.9999
    for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        # Where a gradient is rounding alone (the keys' biases), Adam takes a step of the learning rate either way.
        assert "key.bias" in name or torch.allclose(one, other, atol=2e-5), name


@pytest.mark.parametrize(
    ("loss", "dims", "settings"),
    [
        ("mnrl", (32,), {"steps": 1}),
        ("mnrl", (32,), {"steps": 20}),
        ("mnrl", (32,), {"epochs": 4, "accumulation": 1, "schedule": "cosine", "warmup": 0.2}),
        ("matryoshka", (32, 8, 4), {"steps": 20}),
    ],
)
def test_sentence_transformers_trains_bert_and_mse_as_the_native_loop(
    start: Path, tmp_path: Path, loss: Any, dims: tuple[int, ...], settings: dict[str, Any]
) -> None:
    training = Training(**{**SETTINGS, **settings})
    objective = Objective(
        variant=load_methods(ROOT / "config" / "methods.yaml")["mse"].variants["v1"],
        base=MNRLoss(loss="mnrl"), depth=4, width=32, nested_dims=dims,
    )  # fmt: skip

    def loss_of(module: Any, rows: torch.Tensor, generator: torch.Generator) -> Any:
        pooled = module(triplet_texts(start, rows), [4]).unflatten(1, (3, len(rows)))
        return objective({4: pooled[0]}, None, generator)

    mine = native(start, tmp_path / "native", training, "mean", loss_of)
    outcome = by_sentence_transformers(start, tmp_path / "reference", training, loss=loss, dims=dims)
    assert_same_run(mine, telemetry(tmp_path / "reference" / "work"), tmp_path)
    assert outcome["steps"] == len(mine) and outcome["precision"] == "fp32" and outcome["resumed_at"] == 0
    assert outcome["final_loss"] == pytest.approx(mine[-1]["loss"], abs=1e-5)
    assert outcome["backend_versions"]["sentence-transformers"]


def test_sentence_transformers_2d_loss_is_variant_st_5_7_on_the_layers_and_widths_it_draws(
    start: Path, tmp_path: Path
) -> None:
    """The library draws from Python's generator: width, layer, width. The native objective is given these draws."""
    training, dims = Training(**{**SETTINGS, "steps": 8}), (32, 8, 4)
    objective = Objective(
        variant=load_methods(ROOT / "config" / "methods.yaml")["2dmse-v1"].variants["st-5.7"],
        base=MNRLoss(loss="mnrl"), depth=4, width=32, nested_dims=dims,
    )  # fmt: skip
    library = random.Random(3)
    seen = set()

    def loss_of(module: Any, rows: torch.Tensor, generator: torch.Generator) -> Any:
        last, (layer,), below = library.sample(range(3), 1), library.sample(range(4), 1), library.sample(range(3), 1)
        draw = Draw(layer, (dims[last[0]], dims[below[0]]))
        seen.add(draw)
        layers = [0, 1, 2, 3, 4]
        pooled = module(triplet_texts(start, rows), layers).unflatten(1, (3, len(rows)))
        return objective.evaluate(draw, dict(zip(layers, pooled, strict=True)), None, generator)

    mine = native(start, tmp_path / "native", training, "mean", loss_of)
    by_sentence_transformers(start, tmp_path / "reference", training, loss="matryoshka-2d", dims=dims)
    assert len(seen) > 8 and {draw.layer for draw in seen} == {0, 1, 2, 3}
    assert_same_run(mine, telemetry(tmp_path / "reference" / "work"), tmp_path)


def groups(start: Path) -> Callable[[torch.Tensor], tuple[list[torch.Tensor], list[torch.Tensor]]]:
    def texts(rows: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        columns = triplet_texts(start, rows)
        queries, positives, negatives = (columns[k * len(rows) : (k + 1) * len(rows)] for k in range(3))
        others = negatives[1:] + negatives[:1]
        return queries, [text for group in zip(positives, negatives, others, strict=True) for text in group]

    return texts


def by_tevatron(start: Path, out: Path, training: Training, **changed: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "batches": order, "texts": groups(start), "group_size": GROUP, "base": ContrastiveLoss(loss="contrastive"),
        "pooling": "cls", "query_max_length": 16, "passage_max_length": 20, "training": training, "init_seed": 3,
        "dropout_seed": 3, "label": "reference", "device_name": "cpu", "progress": False,
    }  # fmt: skip
    return train_tevatron(start, out / "model", out / "work", **{**arguments, **changed})


@pytest.mark.parametrize(
    "settings", [{"steps": 1}, {"steps": 20}, {"epochs": 4, "accumulation": 1, "gradient_checkpointing": True}]
)
def test_tevatron_trains_bert_as_the_native_loop(start: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    pytest.importorskip("tevatron")
    training = Training(**{**SETTINGS, **settings})
    texts = groups(start)

    def loss_of(module: Any, rows: torch.Tensor, generator: torch.Generator) -> Any:
        queries, passages = texts(rows)
        (pooled,) = module([*queries, *passages], [4])
        scores = pooled[: len(rows)] @ pooled[len(rows) :].T
        return F.cross_entropy(scores, GROUP * torch.arange(len(rows))), {}

    mine = native(start, tmp_path / "native", training, "cls", loss_of)
    outcome = by_tevatron(start, tmp_path / "reference", training)
    assert_same_run(mine, telemetry(tmp_path / "reference" / "work"), tmp_path)
    assert outcome["steps"] == len(mine) and outcome["backend_versions"]["tevatron"] == "0.1.0"


def test_a_reference_run_repeats_itself_leaves_no_files_and_gives_the_generators_back(
    tiny_bert: Path, tmp_path: Path
) -> None:
    training = Training(**{**SETTINGS, "steps": 3})
    torch.manual_seed(1)
    random.seed(1)
    before = torch.random.get_rng_state(), random.getstate()
    changed = {"loss": "matryoshka-2d", "dims": (32, 8, 4)}
    for name in ("once", "twice"):
        by_sentence_transformers(tiny_bert, tmp_path / name, training, **changed)
    by_sentence_transformers(tiny_bert, tmp_path / "other", training, **changed, dropout_seed=4)
    assert torch.equal(torch.random.get_rng_state(), before[0]) and random.getstate() == before[1]
    once, twice, other = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("once", "twice", "other")
    )
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert any(not torch.equal(once[name], other[name]) for name in once)
    files = {path.name for path in (tmp_path / "once").rglob("*") if path.is_file()}
    assert {"model.safetensors", "modules.json", "telemetry.jsonl"} <= files
    assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl")) for name in files)
    assert [path.name for path in (tmp_path / "once" / "work").iterdir() if path.is_file()] == ["telemetry.jsonl"]


def test_every_epoch_has_its_own_order_of_rows(start: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def batches(epoch: int) -> list[torch.Tensor]:
        asked.append(epoch)
        return order(epoch)

    by_sentence_transformers(start, tmp_path, Training(**{**SETTINGS, "epochs": 3}), batches=batches)
    assert set(asked) == {0, 1, 2}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"base": CoSENTLoss(loss="cosent")}, "reference: backend sentence-transformers has no base loss 'cosent'"),
        ({"loss": "matryoshka", "dims": (64, 8)}, r"nested_dims \[64, 8\] must be widths in 1..32"),
        ({"loss": "matryoshka-2d", "dims": ()}, r"nested_dims \[\] must be widths"),
        ({"columns": {**COLUMNS, "negative": ["a"]}}, "are not two or more of one length"),
        ({"batches": lambda epoch: []}, "the training data give no batch"),
    ],
)
def test_bad_input_of_sentence_transformers_is_one_sentence(
    start: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        by_sentence_transformers(start, tmp_path / "out", Training(**{**SETTINGS, "steps": 1}), **changed)
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pooling": "mean"}, "set pooling to cls, not mean"),
        ({"base": ContrastiveLoss(loss="contrastive", temperature=0.05)}, "temperature 1"),
        ({"base": ContrastiveLoss(loss="contrastive", false_negatives="mask")}, "false_negatives keep"),
        ({"group_size": 2}, "a batch has 12 passages for 4 queries; give 2 for each"),
        ({"passage_max_length": 4}, "cut texts to 4"),
    ],
)
def test_bad_input_of_tevatron_is_one_sentence(
    start: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    pytest.importorskip("tevatron")
    with pytest.raises(InputError, match=message):
        by_tevatron(start, tmp_path / "out", Training(**{**SETTINGS, "steps": 1}), **changed)
    assert not (tmp_path / "out" / "model").exists()


def test_mixed_precision_reaches_the_trainers(start: Path, tmp_path: Path) -> None:
    full = by_sentence_transformers(start, tmp_path / "full", Training(**{**SETTINGS, "steps": 1}))
    AcceleratorState._reset_state()
    mixed = by_sentence_transformers(
        start, tmp_path / "mixed", Training(**{**SETTINGS, "steps": 1, "precision": "bf16"})
    )
    assert mixed["precision"] == "bf16"
    assert 0 < abs(mixed["final_loss"] - full["final_loss"]) < 0.1
    assert {value.dtype for value in load_file(tmp_path / "mixed" / "model" / "model.safetensors").values()} == {
        torch.float32
    }


def test_a_loss_that_is_not_finite_stops_the_run(start: Path, tmp_path: Path) -> None:
    training = Training(**{**SETTINGS, "steps": 6, "learning_rate": 1e30})
    with pytest.raises(InputError, match="reference: step [1-5]: the loss is nan; lower training.learning_rate"):
        by_sentence_transformers(start, tmp_path / "out", training)
    assert not (tmp_path / "out" / "model").exists()


def test_rates_of_the_references_are_the_native_ones(start: Path, tmp_path: Path) -> None:
    training = Training(**{**SETTINGS, "steps": 5, "warmup": 0.5})
    by_sentence_transformers(start, tmp_path, training)
    rates = [line["learning_rate"] for line in telemetry(tmp_path / "work")]
    assert rates[0] > 0  # transformers' own schedule would begin with a step that trains nothing
    assert rates == pytest.approx([learning_rate(training, step, 5) for step in range(5)])
