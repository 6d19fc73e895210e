#!/usr/bin/env python3
"""Measures what a SMAE step costs over a plain masked-LM step on the same batch.

    python tools/measure_smae.py --model minilm|bert-base [--batch 8] [--tokens 128] [--repeats 5] [--device cpu]
                                 [--precision fp32|bf16] [--json FILE]

A step is forward and backward of one micro-batch of random tokens, whole-word masks of 0.2 and 0.4, six pairs spread over
the model; weights are random and dropout is on. Four ways of it take turns, and the median of each is kept:
  library  transformers' own masked LM, which projects every position to the vocabulary
  mlm      this program with the one full pair and no decoder
  smae     this program with all pairs and the decoder
  direct   SMAE as it is written down: each pair runs the whole decoder layer and projects by itself (predicted positions)
The ratio smae / mlm is the cost over plain masked LM; direct / smae is what sharing saves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from matryobench.errors import InputError
from matryobench.models.folders import device_of
from matryobench.pretraining.masking import Masker, Vocabulary
from matryobench.pretraining.parts import head_of
from matryobench.pretraining.smae import SizedMaskedLM

# layers, width, heads, intermediate, pairs
MODELS = {
    "minilm": (6, 384, 12, 1536, [(1, 12), (2, 24), (3, 48), (4, 96), (5, 192), (6, 384)]),
    "bert-base": (12, 768, 12, 3072, [(2, 32), (4, 64), (6, 128), (8, 256), (10, 512), (12, 768)]),
    "tiny": (2, 16, 2, 32, [(1, 8), (2, 16)]),
}


def model_of(name: str, vocabulary: int) -> Any:
    from transformers import BertConfig, BertForMaskedLM

    layers, hidden, heads, intermediate, _ = MODELS[name]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocabulary, num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads,
        intermediate_size=intermediate,
    )  # fmt: skip
    return BertForMaskedLM(config)


def masked_batch(texts: int, tokens: int, vocabulary: int) -> list[Tensor]:
    """Full-length texts, two thirds of whose tokens begin a word: ids, mask, labels, decoder's ids and labels."""
    special = np.arange(vocabulary) < 5
    starts = np.arange(vocabulary) % 3 != 0
    words = Vocabulary(special, starts, np.arange(5, vocabulary), mask=4, first=2, separator=3, padding=0)
    masker = Masker(words, whole_words=True, encoder=0.2, decoder=0.4)
    rows = []
    for row in range(texts):
        generator = np.random.default_rng([1, row])
        ids = np.array([2, *generator.integers(5, vocabulary, tokens - 2), 3])
        inputs, labels, more, goals = masker(ids, generator)
        rows.append([inputs, np.ones_like(ids), labels, more, goals])
    return [torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)]


def direct(module: SizedMaskedLM, ids: Tensor, mask: Tensor, labels: Tensor, more: Tensor, goals: Tensor) -> Tensor:
    """SMAE without sharing anything between pairs but the encoder; no text is padded, so the decoder needs no mask."""
    model, head, decoder = module.model, head_of(module.model), module.decoder
    assert decoder is not None
    hidden = model.base_model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    chosen, wanted = labels != -100, goals != -100
    losses = []
    for layer, dim in module.pairs:
        states = hidden[layer][..., :dim]
        scores = head.projection(head.transform(states[chosen]))
        inputs = model.base_model.embeddings(more)
        decoded = decoder(torch.cat([head.transform(states[:, :1]).to(inputs.dtype), inputs[:, 1:]], dim=1))
        guesses = head.projection(head.transform((decoded[0] if isinstance(decoded, tuple) else decoded)[wanted]))
        losses += [F.cross_entropy(scores.float(), labels[chosen]), F.cross_entropy(guesses.float(), goals[wanted])]
    return torch.stack(losses).mean()


def measure(
    name: str,
    batch: int,
    tokens: int,
    repeats: int,
    device: torch.device,
    precision: str = "fp32",
    vocabulary: int = 30522,
) -> dict[str, Any]:
    """Seconds of each way's step (median) and the ratios."""
    model = model_of(name, vocabulary).to(device)
    layers, hidden, *_, pairs = MODELS[name]
    inputs = [part.to(device) for part in masked_batch(batch, tokens, vocabulary)]
    full = SizedMaskedLM(model, [(layers, hidden)], decoder=False)
    smae = SizedMaskedLM(model, pairs, decoder=True).to(device)
    ways: dict[str, Callable[[], Tensor]] = {
        "library": lambda: model(inputs[0], attention_mask=inputs[1], labels=inputs[2]).loss,
        "mlm": lambda: full(*inputs[:3])[0],
        "smae": lambda: smae(*inputs)[0],
        "direct": lambda: direct(smae, *inputs),
    }
    smae.train()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats + 1):
        for way, step in ways.items():
            smae.zero_grad(set_to_none=True)
            started = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = step()
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if repeat:  # the first round warms up
                seconds[way].append(time.perf_counter() - started)
    median = {way: statistics.median(values) for way, values in seconds.items()}
    return {
        "model": name, "batch": batch, "tokens": tokens, "pairs": len(pairs), "precision": precision,
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(), "repeats": repeats,
        "seconds": {way: round(value, 4) for way, value in median.items()},
        "tokens_per_second": {way: round(batch * tokens / value) for way, value in median.items()},
        "smae_over_mlm": round(median["smae"] / median["mlm"], 2),
        "smae_over_library": round(median["smae"] / median["library"], 2),
        "direct_over_smae": round(median["direct"] / median["smae"], 2),
    }  # fmt: skip


def main() -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(MODELS), default="minilm")
    parser.add_argument("--batch", type=int, default=8, help="texts")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each text")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default=None, help="cpu or cuda; default: a GPU where there is one")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--json", type=Path, default=None, help="also write the numbers to this file")
    given = parser.parse_args()
    try:
        told = measure(
            given.model, given.batch, given.tokens, given.repeats, device_of(given.device), given.precision
        )  # fmt: skip
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(told, indent=1))
    if given.json is not None:
        given.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
