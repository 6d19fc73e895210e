"""A tiny BERT with fixed weights and fixed batches, bit for bit the same whatever library version loads it.

Weights come from numpy and are written as safetensors and JSON directly (no torch initialiser, no library's saver), and
inputs are token ids, so that a recording and a test differ only in the code that they measure. Dropout is 0.

Index convention: hidden_states[0] is the embedding output; layer l in 1..L is hidden_states[l].
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

LAYERS = 4
HIDDEN = 32
HEADS = 4
INTERMEDIATE = 48
POSITIONS = 16
SEED = 20240222
DIMS = (32, 16, 8, 4)
SIZES = ((1, 4), (2, 8), (3, 16), (4, 32))

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TEXT = (
    "a the two no cat dog bird horse child farmer singer runs sleeps sings eats walks jumps waits red old small quick"
    " tired happy loud in on under near grass tree house road river garden today tonight and while not is are by"
)
WORDS = tuple(TEXT.split())
VOCABULARY = SPECIAL + WORDS

# (anchor, positive, negative); texts of unequal length, so that padding matters.
TRIPLETS = (
    ("a cat sleeps in the house", "the cat sleeps", "no cat sleeps in the house"),
    ("two dog runs near the river", "a dog runs", "the dog sleeps near the river"),
    ("the old farmer walks on the road", "a farmer walks on a road today", "the old farmer waits"),
    ("a singer sings", "the singer is loud tonight", "a singer is not loud"),
    ("the quick horse jumps", "a horse jumps and runs", "the tired horse waits under a tree"),
    ("a small bird eats", "the bird is small and eats", "no bird eats today"),
)

# (sentence1, sentence2, score in 0..1); two equal scores, so that ties matter.
SCORED_PAIRS = (
    ("a cat sleeps", "the cat sleeps in the house", 0.9),
    ("a dog runs", "a bird sings", 0.1),
    ("the farmer walks on the road", "the farmer walks", 0.8),
    ("two child waits", "a child is happy", 0.5),
    ("the horse jumps", "the horse is old and tired", 0.3),
    ("a loud singer", "the singer is loud tonight", 1.0),
    ("no bird eats", "the bird eats in the garden", 0.5),
    ("the river is near", "the tree is red", 0.0),
)


def config() -> dict[str, Any]:
    """The model's config.json."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": len(VOCABULARY),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }


def weights() -> dict[str, np.ndarray]:
    """Every parameter of the model, float32, by the name that transformers gives it."""
    rng = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> np.ndarray:
        # Unit variance through a layer: deep and shallow layers then differ enough for every term to have a gradient.
        return (rng.standard_normal((rows, columns)) / math.sqrt(columns)).astype(np.float32)

    tensors: dict[str, np.ndarray] = {}

    def linear(name: str, rows: int, columns: int) -> None:
        tensors[f"{name}.weight"] = matrix(rows, columns)
        tensors[f"{name}.bias"] = (0.1 * rng.standard_normal(rows)).astype(np.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = (1 + 0.1 * rng.standard_normal(HIDDEN)).astype(np.float32)
        tensors[f"{name}.bias"] = (0.1 * rng.standard_normal(HIDDEN)).astype(np.float32)

    for name, rows in (("word", len(VOCABULARY)), ("position", POSITIONS), ("token_type", 2)):
        tensors[f"embeddings.{name}_embeddings.weight"] = matrix(rows, HIDDEN)
    norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{prefix}.attention.self.{part}", HIDDEN, HIDDEN)
        linear(f"{prefix}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{prefix}.attention.output.LayerNorm")
        linear(f"{prefix}.intermediate.dense", INTERMEDIATE, HIDDEN)
        linear(f"{prefix}.output.dense", HIDDEN, INTERMEDIATE)
        norm(f"{prefix}.output.LayerNorm")
    linear("pooler.dense", HIDDEN, HIDDEN)
    return tensors


def build(folder: Path) -> Path:
    """Writes the model and its tokenizer to `folder`, loadable by AutoModel and AutoTokenizer; returns `folder`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(), indent=2), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": POSITIONS}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2), encoding="utf-8")
    return folder


def encode(texts: Iterable[str]) -> dict[str, np.ndarray]:
    """[CLS] words [SEP] as `input_ids` and `attention_mask`, int64 (texts, length of the longest)."""
    index = {word: number for number, word in enumerate(VOCABULARY)}
    rows = [[index["[CLS]"], *(index[word] for word in text.split()), index["[SEP]"]] for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    mask = np.array([[position < len(tokens) for position in range(ids.shape[1])] for tokens in rows], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": mask}


def triplet_columns() -> list[dict[str, np.ndarray]]:
    """Anchors, positives and negatives, each encoded as one batch."""
    return [encode(column) for column in zip(*TRIPLETS, strict=True)]


def pair_columns() -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """The two sentences of SCORED_PAIRS, each encoded as one batch, and the scores (pairs,) float32."""
    left, right, scores = zip(*SCORED_PAIRS, strict=True)
    return [encode(left), encode(right)], np.array(scores, dtype=np.float32)


def retrieval_batch() -> list[dict[str, np.ndarray]]:
    """The anchors as queries, and as passages groups of two, positive 0, negative 0, positive 1, ..., two batches."""
    return [encode(row[0] for row in TRIPLETS), encode(text for row in TRIPLETS for text in row[1:])]


def interleaved_triplets() -> dict[str, np.ndarray]:
    """One batch with the rows anchor 0, positive 0, negative 0, anchor 1, ..., as AnglE lays them out."""
    return encode(text for triplet in TRIPLETS for text in triplet)


def fixed_embeddings(columns: int, rows: int, width: int) -> np.ndarray:
    """Fixed float32 embeddings (columns, rows, width): rows of different columns are correlated, norms differ."""
    rng = np.random.default_rng([SEED, columns, rows, width])
    shared = rng.standard_normal((1, rows, width))
    own = rng.standard_normal((columns, rows, width))
    return ((shared + own) * rng.uniform(0.5, 2.0, (columns, rows, 1))).astype(np.float32)


def fingerprint() -> str:
    """sha256 of the weights and the fixed batches, so that a recording says what it was made from."""
    digest = hashlib.sha256()
    for name, array in sorted(weights().items()):
        digest.update(name.encode() + array.tobytes())
    digest.update(json.dumps([config(), VOCABULARY, TRIPLETS, SCORED_PAIRS]).encode())
    for shape in ((3, 6, 12), (2, 8, 12)):
        digest.update(fixed_embeddings(*shape).tobytes())
    return digest.hexdigest()


def gradient_norms(named_parameters: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """L2 norms of the gradients: the word embedding matrix, all embedding parameters, and each encoder layer.

    A parameter without a gradient counts as 0. Names may carry any prefix. The sums are in float64.
    """
    words, embeddings, layers = 0.0, 0.0, [0.0] * LAYERS
    for name, parameter in named_parameters:
        if parameter.grad is None:
            continue
        square = float((parameter.grad.detach().double() ** 2).sum())
        layer = re.search(r"(?:^|\.)encoder\.layer\.(\d+)\.", name)
        if layer:
            layers[int(layer[1])] += square
        elif re.search(r"(?:^|\.)embeddings\.", name):
            embeddings += square
            words += square if "word_embeddings" in name else 0.0
    return {
        "word_embeddings": math.sqrt(words),
        "embeddings": math.sqrt(embeddings),
        "layers": [math.sqrt(square) for square in layers],
    }


def compact(value: Any) -> Any:
    """Lists of float32 numbers at nine significant digits, which is all that they have."""
    return [compact(item) for item in value] if isinstance(value, list) else float(f"{value:.9g}")


def write_recording(
    path: Path, library: str, versions: dict[str, str], regime: str, cases: list[dict[str, Any]]
) -> None:
    """Writes a recording: library, versions, date, regime, fingerprint of the inputs, cases (one line each)."""
    import datetime

    record = {
        "library": library,
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "regime": regime,
        "inputs": fingerprint(),
    }
    lines = []
    for case in cases:
        for key in ("gradient", "target"):
            if key in case:
                case[key] = compact(case[key])
        if "targets" in case:
            case["targets"] = {layer: compact(target) for layer, target in case["targets"].items()}
        lines.append("  " + json.dumps(case))
    head = json.dumps(record, indent=1).removesuffix("\n}")
    path.write_text(head + ',\n "cases": [\n' + ",\n".join(lines) + "\n ]\n}\n", encoding="utf-8")
    print(f"{path.name}: {len(cases)} cases")
