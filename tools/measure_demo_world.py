"""Measures that the demo world is neither trivial nor hopeless: Spearman x 100 on its three STS sets.

    PYTHONPATH=workflow python tools/measure_demo_world.py [--threads 2] [--backbone FOLDER] [--fine-tune-steps 250]

Prints (a) lexical baselines, (b) an untrained encoder, (c) the encoder after masked-language-model pre-training only, (d) after
fine-tuning every (layer, dim) cell with a plain sum of multiple-negatives ranking losses over the whole grid (cosine x 20).
Layer l in 1..L is hidden_states[l], mean-pooled; dim d is the first d coordinates. The numbers recorded in
matryobench.data.demo_world come from here. The training loop is plain torch on purpose: it measures the data, not the harness.
"""

from __future__ import annotations

import argparse
import math
import re
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoTokenizer, logging

from matryobench.data.demo_world import table, tables
from matryobench.models.folders import FILES_ONLY
from matryobench.pretraining.mlm import pretrain
from matryobench.pretraining.spec import Architecture, PretrainSpec

ARCHITECTURE = Architecture(layers=4, hidden=64, heads=4, intermediate=256, max_length=64, dropout=0.0)
DIMS = (8, 16, 32, 64)
SCALE = 20.0
STS = tuple(name for name in tables() if name.startswith("sts-"))


def words_of(sentence: str) -> list[str]:
    """Lower-case words."""
    return re.findall(r"[a-z]+", sentence.lower())


def lexical(sets: dict[str, dict[str, list[Any]]]) -> dict[str, list[float]]:
    """Spearman of three string baselines on each set; inverse document frequency is taken over the set."""
    found: dict[str, list[float]] = {"Jaccard": [], "bag of words": [], "tf-idf": []}
    for rows in sets.values():
        bags = [
            (Counter(words_of(a)), Counter(words_of(b)))
            for a, b in zip(rows["sentence1"], rows["sentence2"], strict=True)
        ]
        documents = Counter(word for pair in bags for bag in pair for word in bag)
        rarity = {word: math.log(2 * len(bags) / count) for word, count in documents.items()}
        values = {
            "Jaccard": [len(a.keys() & b.keys()) / len(a.keys() | b.keys()) for a, b in bags],
            "bag of words": [cosine(a, b, dict.fromkeys(rarity, 1.0)) for a, b in bags],
            "tf-idf": [cosine(a, b, rarity) for a, b in bags],
        }
        for name, similarities in values.items():
            found[name].append(100 * spearmanr(similarities, rows["score"]).statistic)
    return found


def cosine(a: Counter[str], b: Counter[str], weight: dict[str, float]) -> float:
    """Cosine of two weighted bags of words."""

    def dot(x: Counter[str], y: Counter[str]) -> float:
        return sum(x[w] * y[w] * weight[w] ** 2 for w in x.keys() & y.keys())

    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def pooled(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean-pooled hidden states of layers 1..L, shape (L, batch, H)."""
    states = model(**batch, output_hidden_states=True).hidden_states[1:]
    mask = batch["attention_mask"][None, :, :, None].to(states[0].dtype)
    return (torch.stack(states) * mask).sum(2) / mask.sum(2)


def trained(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """(L, texts, H) with gradient; four groups of similar length, which saves half of the padding."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    groups = [order[i * len(order) // 4 : (i + 1) * len(order) // 4] for i in range(4)]
    found = [
        pooled(model, dict(tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")))
        for rows in groups
    ]
    return torch.cat(found, dim=1)[:, np.argsort(order)]


@torch.no_grad()
def encode(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """(L, texts, H), in batches of similar length."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = torch.empty(model.config.num_hidden_layers, len(texts), model.config.hidden_size)
    for start in range(0, len(order), 128):
        rows = order[start : start + 128]
        batch = tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
        vectors[:, rows] = pooled(model, dict(batch))
    return vectors


def grid(model: Any, tokenizer: Any, sets: dict[str, dict[str, list[Any]]]) -> np.ndarray:
    """Spearman x 100, shape (sets, layers, dims)."""
    result = []
    for rows in sets.values():
        first, second = (encode(model, tokenizer, rows[name]) for name in ("sentence1", "sentence2"))
        cells = [
            [
                spearmanr(torch.cosine_similarity(a[:, :d], b[:, :d]).numpy(), rows["score"]).statistic * 100
                for d in DIMS
            ]
            for a, b in zip(first, second, strict=True)
        ]
        result.append(cells)
    return np.array(result)


def fine_tune(model: Any, tokenizer: Any, steps: int, batch_size: int, rate: float, seed: int) -> float:
    """Trains every cell on the triplets; returns seconds."""
    started = time.perf_counter()
    rows = table("triplets")
    order = np.random.default_rng(seed).permutation(len(rows["anchor"]))
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: min((s + 1) / 20, (steps - s) / steps))
    model.train()
    torch.manual_seed(seed)
    for step in range(steps):
        chosen = np.take(order, range(step * batch_size, (step + 1) * batch_size), mode="wrap")
        vectors = trained(model, tokenizer, [rows[c][i] for c in ("anchor", "positive", "negative") for i in chosen])
        loss = torch.stack([ranking(layer[:, :d]) for layer in vectors for d in DIMS]).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return time.perf_counter() - started


def ranking(vectors: torch.Tensor) -> torch.Tensor:
    """Multiple-negatives ranking loss of (3 x batch, d) stacked anchors, positives, negatives."""
    anchors, candidates = normalize(vectors, dim=1).tensor_split([len(vectors) // 3])
    return cross_entropy(SCALE * anchors @ candidates.T, torch.arange(len(anchors)))


def show(title: str, cells: np.ndarray) -> None:
    """One line per layer: mean over the sets for each dim, then the sets at full width."""
    print(f"\n{title}\nlayer  " + "".join(f"{f'd={d}':>7}" for d in DIMS) + "    sets at full width: " + ", ".join(STS))
    for layer, row in enumerate(cells.mean(0), start=1):
        full = "".join(f"{value:7.1f}" for value in cells[:, layer - 1, -1])
        print(f"{layer:5}  " + "".join(f"{value:7.1f}" for value in row) + f"    {full}")
    print("mean per dim " + " ".join(f"{v:.1f}" for v in cells.mean((0, 1))), end="; ")
    print("mean per layer " + " ".join(f"{v:.1f}" for v in cells.mean((0, 2))))


def main() -> None:
    """Runs the four measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backbone", type=Path, help="a pre-trained folder; none: pre-train one now")
    parser.add_argument("--pretrain-steps", type=int, default=1000)
    parser.add_argument("--pretrain-batch", type=int, default=24)
    parser.add_argument("--pretrain-rate", type=float, default=1e-3)
    parser.add_argument("--fine-tune-steps", type=int, default=250)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sets = {name: table(name) for name in STS}

    print("lexical baselines: " + ", ".join(STS) + ", mean")
    for name, values in lexical(sets).items():
        print(f"  {name:13}" + "".join(f"{value:7.1f}" for value in [*values, float(np.mean(values))]))

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.backbone or Path(scratch) / "backbone"
        if not options.backbone:
            spec = PretrainSpec(
                architecture=ARCHITECTURE,
                vocab_size=800,
                steps=options.pretrain_steps,
                batch_size=options.pretrain_batch,
                learning_rate=options.pretrain_rate,
                warmup_steps=50,
                mask_probability=0.2,
            )
            print(
                "\npre-training:", pretrain(table("text")["text"], spec, folder, Path(scratch) / "work", "cpu", False)
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, **FILES_ONLY)
        model = AutoModel.from_pretrained(folder, **FILES_ONLY)
    torch.manual_seed(options.seed)
    untrained = AutoModel.from_config(model.config)
    show("untrained encoder", grid(untrained, tokenizer, sets))
    show("pre-trained only", grid(model, tokenizer, sets))
    seconds = fine_tune(model, tokenizer, options.fine_tune_steps, options.batch, options.rate, options.seed)
    show(f"fine-tuned on every cell: {options.fine_tune_steps} steps, {seconds:.0f} s", grid(model, tokenizer, sets))
    seconds = fine_tune(untrained, tokenizer, options.fine_tune_steps, options.batch, options.rate, options.seed)
    show("the same without pre-training", grid(untrained, tokenizer, sets))
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
