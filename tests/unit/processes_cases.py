"""Small trainings of every kind that one process and two of them run, and how two are started."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from instructed_cases import ASK, SAY, instructed_columns
from torch import nn

from matryobench.data.group_tokens import tokenise_groups, write_group_tokens
from matryobench.data.instructed_tokens import tokenise_instructed
from matryobench.data.tokens import tokenise, write_tokens
from matryobench.models.folders import load_encoder, load_tokenizer
from matryobench.objectives.registry import load_methods
from matryobench.paths import ROOT
from matryobench.plan import Plan, Run
from matryobench.training.module import AllLayers
from matryobench.training.runs import retrieval_training, sts_training, train

TEXTS = {
    "anchor": ["the dog sees the cat", "a man runs", "the red house", "the woman sees a ball", "a cat runs", "a house"],
    "positive": ["a dog sees a cat", "the man runs", "a red house", "a woman sees the ball", "the cat runs", "the house"],
    "negative": ["the cat sees the dog", "a man runs not", "the small house", "the ball", "the dog", "a small man"],
}  # fmt: skip
TRIPLETS = {name: [*texts, *(f"{text} not" for text in texts), "the man"] for name, texts in TEXTS.items()}  # 13 rows
PAIRS = {
    "sentence1": TRIPLETS["anchor"], "sentence2": TRIPLETS["positive"], "score": [float(n % 5) for n in range(13)],
}  # fmt: skip


def write_data(folder: Path, tokenizer_folder: Path) -> None:
    """Token files by the name of the recipe that is trained on them."""
    tokenizer = load_tokenizer(tokenizer_folder)
    for name, columns in (("mnrl", TRIPLETS), ("angle", TRIPLETS), ("cosent", PAIRS), ("angle-pairs", PAIRS)):
        write_tokens(tokenise(columns, tokenizer, 16, {}), folder / f"{name}.tokens")
    rows = [
        {"query": [ASK, a], "pos": [SAY, p], "neg": [SAY, n], "task_name": "nq" if number % 3 else "qa"}
        for number, (a, p, n) in enumerate(zip(*TRIPLETS.values(), strict=True))
    ]
    tokens = tokenise_instructed([instructed_columns(rows)], tokenizer, 24, {}, "rows")
    write_tokens(tokens, folder / "instructor.tokens")
    passages = [{"docid": str(n), "title": "", "text": text} for n, text in enumerate(TRIPLETS["negative"])]
    groups = [
        {
            "query_id": str(number), "query": query, "positive_passages": [{"docid": "p", "title": "", "text": text}],
            "negative_passages": [passages[(number + step) % 13] for step in (1, 2, 3)],
        }
        for number, (query, text) in enumerate(zip(TRIPLETS["anchor"], TRIPLETS["positive"], strict=True))
    ]  # fmt: skip
    write_group_tokens(tokenise_groups([groups], tokenizer, 16, 16, {}), folder / "groups.tokens")


def experiment(path: Path, backbone: Path, processes: int, **loop: Any) -> Plan:
    """Every method and variant, and every base loss; 13 rows in batches of 4, the last one left out, or 13 groups of 3."""
    training = {
        "batch_size": 4, "accumulation": 2, "steps": 6, "learning_rate": 1e-3, "checkpoint_every": 2,
        "tokens_per_forward": 64, "processes": processes, **loop,
    }  # fmt: skip
    sizes = {"Demi": [1, 4], "Tall": [2, 8], "Trenta": [4, 32]}

    def recipe(train: str, base: dict[str, Any], **more: Any) -> dict[str, Any]:
        common = {"description": "test", "train": train, "pooling": "mean", "base": base, "training": training}
        return common | more

    sentences = {"max_length": 16, "nested_dims": [32, 8, 4], "target_dim": 2}
    sts = {
        "mnrl": recipe("demo-triplets", {"loss": "mnrl"}, **sentences),
        "angle": recipe("demo-triplets", {"loss": "angle", "cosine_weight": 1.0}, **sentences),
        "cosent": recipe("demo-sts-roles", {"loss": "cosent"}, **sentences),
        "angle-pairs": recipe("demo-sts-roles", {"loss": "angle", "contrastive_weight": 0}, **sentences),
    }
    groups = recipe(
        "demo-groups", {"loss": "contrastive", "false_negatives": "mask"}, pooling="cls", group_size=3, target_dims=[2],
        dim_lists={name: [2, 4] for name in ("two", "four", "six", "seven")}, training={**training, "batch_size": 3},
    )  # fmt: skip
    instructed = recipe(
        "demo-instructed",
        {"loss": "instructor", "temperature": 0.05},
        max_length=24,
        nested_dims=[32, 4],
        one_subset=True,
    )
    runs = {"sts": [], "retrieval": []}
    for name, method in load_methods().items():
        if name not in ("starbucks", "ff->mrl", "ff"):  # trained as srl, mrl and bert are, from another start
            for task in method.tasks:
                able = [kind for kind, one in method.variants.items() if one.task in ("any", task)]
                cells = {"cells": [[2, 8]]} if name == "bert-s" else {}
                recipes = ["mnrl" if task == "sts" else "groups"]
                runs[task].append({"method": name, "variants": able, "recipes": recipes, **cells})
    # The terms that only some base losses have do not meet the alignments.
    runs["sts"].append({"method": "srl", "recipes": ["angle", "cosent", "angle-pairs"]})
    runs["sts"].append({"method": "2dmse-v2", "variants": ["paper"], "recipes": ["angle"]})
    config = {
        "name": "tiny", "description": "test", "backbone": {"source": "path", "path": str(backbone)}, "seeds": [3],
        "sts": {
            "evaluate": ["demo-sts-roles"], "grid": {"layers": [1, 2, 4], "dims": [4, 8, 32]}, "sizes": sizes,
            "recipes": sts, "runs": runs["sts"],
        },
        "retrieval": {
            "evaluate": ["demo-search"], "grid": {"layers": [1, 2, 4], "dims": [4, 8, 32]}, "sizes": sizes,
            "recipes": {"groups": groups}, "runs": runs["retrieval"],
        },
        "mteb": {
            "evaluate": {"classification": ["demo-events"]}, "max_length": 24, "grid": {"layers": [4], "dims": [32]},
            "recipes": {"instructor": instructed}, "runs": [{"method": "mrl"}], "baselines": ["mrl"],
        },
    }  # fmt: skip
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return Plan.load(path)


def steps(
    plan: Plan, folder: Path, backbone: Path, wrap: Callable[[nn.Module], nn.Module]
) -> dict[str, dict[str, Any]]:
    """Of every run: losses of the first and the last batch of an epoch, in float64, and the gradients of both."""
    return {run.run_id: _two_batches(plan, run, folder, backbone, wrap) for run in plan.runs}


def _two_batches(
    plan: Plan, run: Run, folder: Path, backbone: Path, wrap: Callable[[nn.Module], nn.Module]
) -> dict[str, Any]:
    recipe = plan.recipe(run)
    encoder = load_encoder(backbone, recipe.pooling, run.layers).double().eval()
    build = retrieval_training if run.task == "retrieval" else sts_training
    data = build(plan, run, folder / f"{run.recipe}.tokens", encoder)
    module = wrap(AllLayers(encoder, 64, cache_gradients=run.method == "srl"))
    batches, losses = data.batches(0), []
    for number, batch in enumerate((batches[0], batches[-1])):
        loss, _ = data.loss_of(module, batch, torch.Generator().manual_seed(number))
        loss.backward()
        losses.append(loss.item())
    return {"losses": losses, "gradients": {n: p.grad for n, p in encoder.named_parameters()}}


def run_all(plan: Plan, chosen: Sequence[str], folder: Path, backbone: Path, out: Path) -> None:
    """Trains the chosen runs as their jobs do."""
    for run in plan.runs:
        if run.run_id in chosen:
            tokens = folder / f"{run.recipe}.tokens"
            train(plan, run, tokens, Path("no-table.parquet"), backbone, out / run.run_id, "cpu")


def two_processes(program: str, *arguments: object) -> None:
    """Runs a Python program in two processes that find each other as torchrun's do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(Path(__file__).parent), str(ROOT / "workflow")])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
              "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}  # fmt: skip
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            stderr=subprocess.PIPE, text=True, env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors


def telemetry(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "telemetry.jsonl").read_text(encoding="utf-8").splitlines()]
