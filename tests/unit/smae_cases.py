"""Small continued pre-trainings that several tests, and the processes that they start, share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from matryobench.pretraining.batches import MaskedTexts
from matryobench.pretraining.continued import continue_pretraining
from matryobench.pretraining.masking import Masker, vocabulary_of
from matryobench.pretraining.smae import SizedMaskedLM
from matryobench.pretraining.spec import ContinueSpec
from matryobench.pretraining.start import load_masked_lm
from matryobench.pretraining.text import Blocks

LINES = [
    f"{a} {b} sees the {c} {d} {e} not the house runs"
    for a in ("the", "a") for b in ("dog", "cat", "man") for c in ("red", "small") for d in ("ball", "house", "dog")
    for e in ("the woman runs", "a man sees the red red small small ball ball dog dog cat cat cat runs runs runs runs")
]  # fmt: skip


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
