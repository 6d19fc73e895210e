"""Token files: the texts of a dataset, tokenised once per (dataset, tokenizer, maximum length) and memory-mapped.

Every distinct text is stored once; rows refer to texts by number. One safetensors file holds
  ids     (all tokens,) int32   the texts' tokens, special tokens included, one after the other
  offsets (texts + 1,)  int64   text i is ids[offsets[i]:offsets[i + 1]]
  rows    (n, columns)  int32   the text of every row and column
  scores  (n,)          float64 scored pairs only
  skips   (texts,)      int32   texts with instructions only: leading tokens that pooling leaves out
  subsets (n,)          int32   instructed rows only: number of each row's subset in meta["subsets"]
Passages and queries are the exception: text i is row i of the table, equal texts or not, so that a number stands for a
document. `group_tokens.py` has the form of training groups.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
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
    skips: Tensor | None = None
    subsets: Tensor | None = None

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
    ids, offsets = encode_texts(pieces(numbers), tokenizer, max_length)
    rows = np.stack([[numbers[text] for text in columns[name]] for name in text_columns], axis=1).astype(np.int32)
    scores = torch.tensor(np.asarray(columns["score"], dtype=np.float64)) if "score" in columns else None
    facts = {**meta, "columns": text_columns, "max_length": max_length}
    return Tokens(ids, offsets, torch.from_numpy(rows), scores, facts)


def tokenise_passages(texts: Iterable[Sequence[str]], tokenizer: Any, max_length: int, meta: dict[str, Any]) -> Tokens:
    """Tokenises the rows of a table as they come, piece by piece: text i is row i, and `rows` is 0, 1, 2 and so on.

    No more than one piece of texts is held, and tokens only as the int32 array of the result, so that millions of
    documents fit. `texts`: the passage texts (title and text joined), or queries; an empty one keeps its special tokens.
    """
    ids, offsets = encode_texts(texts, tokenizer, max_length)
    rows = torch.arange(len(offsets) - 1, dtype=torch.int32)[:, None]
    return Tokens(ids, offsets, rows, None, {**meta, "columns": ["text"], "max_length": max_length})


def encode_texts(texts: Iterable[Sequence[str]], tokenizer: Any, max_length: int) -> tuple[Tensor, Tensor]:
    """(ids, offsets) of texts that come in pieces; see the module for both."""
    ids, ends = array("i"), array("q", [0])
    for piece in texts:
        if not piece:
            continue
        encoded = tokenizer(list(piece), truncation=True, max_length=max_length, return_attention_mask=False)
        for tokens in encoded["input_ids"]:
            ids.extend(tokens)
            ends.append(len(ids))
    # Both tensors use the arrays' memory: nothing is copied, however large a corpus is.
    return torch.from_numpy(np.frombuffer(ids, dtype=np.int32)), torch.from_numpy(np.frombuffer(ends, dtype=np.int64))


def pieces(texts: Iterable[str], size: int = 4096) -> Iterator[list[str]]:
    """Texts in lists of `size`, for `encode_texts`."""
    iterator = iter(texts)
    while piece := list(islice(iterator, size)):
        yield piece


def write_tokens(tokens: Tokens, path: Path) -> None:
    """Writes a token file, whole or not at all."""
    tensors = {"ids": tokens.ids, "offsets": tokens.offsets, "rows": tokens.rows}
    optional = {"scores": tokens.scores, "skips": tokens.skips, "subsets": tokens.subsets}
    tensors |= {name: tensor for name, tensor in optional.items() if tensor is not None}
    write_tensors(tensors, tokens.meta, path)


def read_tokens(path: Path) -> Tokens:
    """Opens a token file, memory-mapped. Raises InputError where it is missing or not one."""
    tensors, meta = read_tensors(path, ("ids", "offsets", "rows"))
    optional = (tensors.get(name) for name in ("skips", "subsets"))
    return Tokens(tensors["ids"], tensors["offsets"], tensors["rows"], tensors.get("scores"), meta, *optional)


def write_tensors(tensors: dict[str, Tensor], meta: dict[str, Any], path: Path) -> None:
    """Writes tensors and their meta (plain JSON values) as one safetensors file, whole or not at all."""
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={"matryobench": json.dumps(meta, sort_keys=True)})


def read_tensors(path: Path, needed: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote, memory-mapped. Raises InputError where it is missing, damaged or lacks a tensor."""
    try:
        with safe_open(path, framework="pt") as stored:
            meta = json.loads(stored.metadata()["matryobench"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such token file; run the tokenise step first.") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable token file ({error}); remove it and tokenise again.") from None
    if lacking := [name for name in needed if name not in tensors]:
        raise InputError(
            f"{path}: this token file has no {lacking[0]!r}; it is of another kind, so name the right file."
        )
    return tensors, meta
