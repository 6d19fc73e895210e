"""Records Starbucks' published pre-training (github.com/ielab/Starbucks, commit 2a3b24f, folder smae) on the tiny model.

Regenerate from the project's root (Python 3.11), with a transformers of its time:

    python3 -m venv smae && smae/bin/pip install torch==2.13.0 transformers==4.45.2 tokenizers==0.20.3 \
        huggingface-hub==0.25.2 accelerate==0.34.2 datasets==3.0.1
    smae/bin/python tests/parity/record_smae.py --source Starbucks/smae

Writes recorded/smae-2a3b24f.json. The code runs as published; its lists of layers and dims, which are written into
it for BERT, are replaced by the tiny model's sizes, and `random.shuffle` by a permutation from a seeded generator.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tiny_model
import torch
import transformers

# Pieces of words for the masks: ids are positions in this list, the first five as in the tiny model.
PIECES = [*tiny_model.SPECIAL, "play", "##ing", "##ed", "##s", "dog", "over", "##come", "cat"]


def head_weights() -> dict[str, np.ndarray]:
    """The masked-LM head of the tiny model, by the names of BertForMaskedLM; the projection is the word embeddings."""
    rng = np.random.default_rng([tiny_model.SEED, 1])
    width, words = tiny_model.HIDDEN, len(tiny_model.VOCABULARY)
    parts = {
        "transform.dense.weight": rng.standard_normal((width, width)) / width**0.5,
        "transform.dense.bias": 0.1 * rng.standard_normal(width),
        "transform.LayerNorm.weight": 1 + 0.1 * rng.standard_normal(width),
        "transform.LayerNorm.bias": 0.1 * rng.standard_normal(width),
        "bias": 0.1 * rng.standard_normal(words),
    }
    return {f"cls.predictions.{name}": value.astype(np.float32) for name, value in parts.items()}


def build(folder: Path) -> Path:
    """The tiny model with its head, as a BertForMaskedLM folder."""
    from safetensors.numpy import save_file

    tiny_model.build(folder)
    encoder = {f"bert.{name}": value for name, value in tiny_model.weights().items() if not name.startswith("pooler")}
    tensors = {**encoder, **head_weights()}
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].copy()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def masked_batch() -> list[np.ndarray]:
    """Ids, attention mask, labels, decoder ids and decoder labels of six texts, (texts, tokens)."""
    encoded = tiny_model.encode(text for text, *_ in tiny_model.TRIPLETS)
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    rng = np.random.default_rng([tiny_model.SEED, 2])
    drawn = np.where((ids > 4), rng.random(ids.shape), 1.0)
    sides = [drawn < 0.3, drawn < 0.6]
    labels = [np.where(side, ids, -100) for side in sides]
    inputs = [np.where(side & (rng.random(ids.shape) < 0.8), 4, ids) for side in sides]
    return [inputs[0], mask, labels[0], inputs[1], labels[1]]


def mask_texts() -> list[list[int]]:
    """Texts of pieces with [CLS] and [SEP], 5 to 90 tokens."""
    rng = np.random.default_rng([tiny_model.SEED, 3])
    return [[2, *rng.integers(5, len(PIECES), size).tolist(), 3] for size in (3, 8, 17, 40, 88)]


def norms(parameters: Any) -> dict[str, Any]:
    """Gradient norms of the encoder, of the head's parameters together, and of the decoder's layer."""
    named = dict(parameters)
    own = {name: value for name, value in named.items() if name.startswith(("bert.", "cls."))}
    layer = [value.grad for name, value in named.items() if name.startswith("decoder.bert.encoder.layer.0.")]
    head = [
        value.grad
        for name, value in own.items()
        if "predictions.transform" in name or name.endswith("predictions.bias")
    ]
    return {
        **tiny_model.gradient_norms(own.items()),
        "head": float(torch.stack([grad.double().square().sum() for grad in head]).sum().sqrt()),
        "decoder": float(torch.stack([grad.double().square().sum() for grad in layer]).sum().sqrt()) if layer else None,
    }


def steps(folder: Path) -> Iterator[dict[str, Any]]:
    import modeling

    ids, mask, labels, more, goals = (torch.from_numpy(part) for part in masked_batch())
    for name, extra in (
        ("BertFor2DMatryoshkaMaskedLM", {}),
        ("BertFor2DMaekMatryoshkaMaskedLM", {"decoder_input_ids": more, "decoder_labels": goals}),
    ):
        for sizes in (list(tiny_model.SIZES), [(2, 8), (4, 32)]):
            model = getattr(modeling, name).from_pretrained(folder).train()
            model.layer_list, model.dim_list = [list(part) for part in zip(*sizes, strict=True)]
            loss = model(input_ids=ids, attention_mask=mask, labels=labels, **extra).loss
            loss.backward()
            yield {
                "loss": name,
                "sizes": sizes,
                "value": loss.item(),
                "gradient_norms": norms(model.named_parameters()),
            }


def masks(folder: Path) -> Iterator[dict[str, Any]]:
    import data

    file = folder / "pieces.txt"
    file.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(vocab_file=str(file))
    collator = data.MaeDataCollatorForWholeWordMask(
        tokenizer, encoder_mlm_probability=0.2, decoder_mlm_probability=0.4
    )  # fmt: skip
    for text in mask_texts():
        for seed in range(4):

            def permuted(words: list[Any], seed: int = seed) -> None:
                order = np.random.default_rng(seed).permutation(len(words)).tolist()
                words[:] = [words[number] for number in order]

            with mock.patch.object(random, "shuffle", permuted):
                encoder, decoder = collator._whole_word_mask([PIECES[piece] for piece in text])
            yield {
                "loss": "MaeDataCollatorForWholeWordMask",
                "text": text,
                "seed": seed,
                "encoder": encoder,
                "decoder": decoder,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", type=Path, required=True, help="the folder smae of a checkout of ielab/Starbucks")
    sys.path.insert(0, str(parser.parse_args().source))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        folder = build(Path(work) / "tiny")
        recorded = [*steps(folder), *masks(folder)]
    versions = {"Starbucks": "2a3b24f", "transformers": transformers.__version__, "torch": torch.__version__}
    target = Path(__file__).parent / "recorded" / "smae-2a3b24f.json"
    tiny_model.write_recording(target, "Starbucks smae/modeling.py and smae/data.py", versions, "2a3b24f", recorded)


if __name__ == "__main__":
    main()
