"""Token files: the texts of a dataset, tokenised once per (dataset, tokenizer, maximum length) and memory-mapped.

Every distinct text is stored once; rows refer to texts by number. One safetensors file holds
  ids     (all tokens,) int32   the texts' tokens, special tokens included, one after the other
  offsets (texts + 1,)  int64   text i is ids[offsets[i]:offsets[i + 1]]
  rows    (n, columns)  int32   the text of every row and column
  scores  (n,)          float64 scored pairs only
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from matryobench.errors import InputError
from matryobench.files import atomic_path


@dataclass(frozen=True)
class Tokens:
    """A dataset's tokens; see the module for shapes."""

    ids: Tensor
    offsets: Tensor
    rows: Tensor
    scores: Tensor | None
    meta: dict[str, Any]

    def text(self, number: int) -> Tensor:
        """(tokens,) int32 of one text."""
        return self.ids[int(self.offsets[number]) : int(self.offsets[number + 1])]

    @property
    def texts(self) -> int:
        """Number of distinct texts."""
        return len(self.offsets) - 1


def tokenise(columns: Mapping[str, Sequence[Any]], tokenizer: Any, max_length: int, meta: dict[str, Any]) -> Tokens:
    """Tokenises the text columns of a dataset (all but 'score'), cutting every text to `max_length` tokens."""
    text_columns = [name for name in columns if name != "score"]
    numbers: dict[str, int] = {}
    for name in text_columns:
        for text in columns[name]:
            numbers.setdefault(text, len(numbers))
    encoded = tokenizer(list(numbers), truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]
    lengths = np.fromiter((len(tokens) for tokens in encoded), dtype=np.int64, count=len(encoded))
    ids = np.fromiter((token for tokens in encoded for token in tokens), dtype=np.int32, count=int(lengths.sum()))
    rows = np.stack([[numbers[text] for text in columns[name]] for name in text_columns], axis=1).astype(np.int32)
    scores = torch.tensor(np.asarray(columns["score"], dtype=np.float64)) if "score" in columns else None
    offsets = torch.tensor(np.concatenate([[0], np.cumsum(lengths)]))
    return Tokens(
        torch.from_numpy(ids),
        offsets,
        torch.from_numpy(rows),
        scores,
        {**meta, "columns": text_columns, "max_length": max_length},
    )


def write_tokens(tokens: Tokens, path: Path) -> None:
    """Writes a token file, whole or not at all."""
    tensors = {"ids": tokens.ids, "offsets": tokens.offsets, "rows": tokens.rows}
    if tokens.scores is not None:
        tensors["scores"] = tokens.scores
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={"matryobench": json.dumps(tokens.meta, sort_keys=True)})


def read_tokens(path: Path) -> Tokens:
    """Opens a token file, memory-mapped. Raises InputError where it is missing or not one."""
    try:
        with safe_open(path, framework="pt") as stored:
            meta = json.loads(stored.metadata()["matryobench"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such token file; run the tokenise step first.") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable token file ({error}); remove it and tokenise again.") from None
    return Tokens(tensors["ids"], tensors["offsets"], tensors["rows"], tensors.get("scores"), meta)
