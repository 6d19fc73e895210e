"""Training steps of 2dmse-v1 on triplets against SentenceTransformerTrainer with Matryoshka2dLoss, on the same batches."""

from __future__ import annotations

import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from harness import Agreement, Cost, Growth, Outcome, Pairs, Setting, Target, peak_mb, row, timed
from machine import encoder_operations
from materials import DIMS, Texts, model_folder

from matryobench.data.tokens import tokenise
from matryobench.models.encoder import default_tokens_per_forward
from matryobench.models.folders import load_encoder, load_tokenizer
from matryobench.objectives.objective import Objective
from matryobench.objectives.recipe import MNRLoss
from matryobench.objectives.registry import load_methods
from matryobench.tasks import Training
from matryobench.training.loop import Loop
from matryobench.training.module import AllLayers
from matryobench.training.reference.sentence_transformers import train_sentence_transformers
from matryobench.training.sts import StsTraining

VARIANT = "st-5.7"  # what the installed library computes
MAX_LENGTH = 128


def run(setting: Setting) -> Outcome:
    """One row at batch 64; growth with the batch."""
    batch, steps = setting.size(64, 8), setting.size(6, 3)
    texts = Texts(setting)
    columns = texts.triplets(batch * steps)
    places = (setting.scratch / str(number) for number in itertools.count())
    losses: dict[str, list[float]] = {"ours": [], "peer": []}
    costs: dict[str, list[Cost]] = {"ours": [], "peer": []}
    ways = {"ours": native, "peer": library}
    for repeat in range(setting.repeats):
        for name in ("ours", "peer") if repeat % 2 == 0 else ("peer", "ours"):
            cost, seen = ways[name](columns, batch, steps, next(places), seed=repeat)
            costs[name].append(cost)
            losses[name] += seen
    mean = {name: statistics.mean(values) for name, values in losses.items()}
    apart = abs(mean["ours"] / mean["peer"] - 1)
    encoder = load_encoder(model_folder(), "mean")
    tokens = tokenise(columns, load_tokenizer(model_folder()), MAX_LENGTH, {})
    lengths = [int(size) for size in tokens.offsets.diff()[tokens.rows.long()].flatten()]
    line = row(
        "training step", f"2dmse-v1, MiniLM, {texts.of('NLI')} triplets, batch {batch}, {steps} steps",
        "SentenceTransformerTrainer and Matryoshka2dLoss, same batches", Pairs(costs["ours"], costs["peer"]),
        Target("times", 1.3),
        operations=3 * encoder_operations(encoder.backbone.config, lengths, encoder.depth),
        agreement=Agreement(
            f"mean loss {mean['ours']:.3f} and {mean['peer']:.3f} (layers, widths and dropout are drawn anew)", apart < 0.15
        ),
        ours_mb=peak_mb(lambda: native(columns, batch, steps, next(places))),
        peer_mb=peak_mb(lambda: library(columns, batch, steps, next(places))),
    )  # fmt: skip
    line.cpu_values = []
    rows = []
    for size in (batch // 4, batch // 2, batch):
        mine, other = (way(columns, size, 3, next(places))[0].seconds / 3 for way in ways.values())
        rows.append((size, round(mine, 3), round(other, 3), round(other / mine, 2)))
    heads = ("batch", "ours, s a step", "SentenceTransformerTrainer, s a step", "times faster")
    return Outcome([line], [Growth("training step by batch (one run of 3 steps)", heads, rows)])


def settings(batch: int, steps: int) -> Training:
    """The loop of both."""
    return Training(batch_size=batch, steps=steps, learning_rate=1e-4, warmup=0.1)


def native(
    columns: dict[str, list[str]], batch: int, steps: int, work: Path, seed: int = 1
) -> tuple[Cost, list[float]]:
    """The cost of so many steps of ours, and their losses; loading and tokenising are not in it, as in the library's."""
    encoder = load_encoder(model_folder(), "mean")
    tokens = tokenise(columns, load_tokenizer(model_folder()), MAX_LENGTH, {"dataset": "triplets"})
    objective = Objective(
        variant=load_methods()["2dmse-v1"].variants[VARIANT], base=MNRLoss(loss="mnrl"), depth=encoder.depth,
        width=encoder.width, nested_dims=tuple(sorted(DIMS, reverse=True)),
    )  # fmt: skip
    training = StsTraining(tokens, objective, batch, data_seed=1)
    device = torch.device("cpu")
    loop = Loop(
        module=AllLayers(encoder, default_tokens_per_forward(device)), loss_of=training.loss_of, batches=training.batches,
        training=settings(batch, steps), dropout_seed=seed, draw_seed=seed, identity="benchmark", work=work, device=device,
        label="benchmark", progress=False,
    )  # fmt: skip
    return _of(timed(loop.run), work)


def library(
    columns: dict[str, list[str]], batch: int, steps: int, work: Path, seed: int = 1
) -> tuple[Cost, list[float]]:
    """The same by sentence-transformers, which tokenises in its loop; the seconds are those of its train()."""
    encoder = load_encoder(model_folder(), "mean")
    tokens = tokenise(columns, load_tokenizer(model_folder()), MAX_LENGTH, {"dataset": "triplets"})
    order = StsTraining(tokens, _any_objective(encoder), batch, data_seed=1)
    told: dict[str, Any] = {}

    def train() -> None:
        told.update(train_sentence_transformers(
            model_folder(), work / "model", work, columns=columns, batches=order.batches, loss="matryoshka-2d",
            base=MNRLoss(loss="mnrl"), dims=sorted(DIMS, reverse=True), pooling="mean", max_length=MAX_LENGTH,
            training=settings(batch, steps), init_seed=seed, dropout_seed=seed, draw_seed=seed, label="benchmark",
            device_name="cpu", progress=False,
        ))  # fmt: skip

    train()
    return _of(Cost(told["train_seconds"], told["train_seconds"]), work)  # its processor time is not told apart


def _any_objective(encoder: Any) -> Objective:
    variant = load_methods()["bert"].variants["paper"]
    return Objective(variant=variant, base=MNRLoss(loss="mnrl"), depth=encoder.depth, width=encoder.width)


def _of(cost: Cost, work: Path) -> tuple[Cost, list[float]]:
    lines = (work / "telemetry.jsonl").read_text(encoding="utf-8").splitlines()
    return cost, [float(json.loads(line)["loss"]) for line in lines]
