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

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matryobench.tensors import read_tensors, write_tensors

FILE = ("token file", "tokenise")
"""How errors call the files of tokens, and what makes them."""


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


def tokenise_passages(
    texts: Iterable[Sequence[str]], tokenizer: Any, max_length: int, meta: dict[str, Any], scratch: Path | None = None
) -> Tokens:
    """Tokenises the rows of a table as they come, piece by piece: text i is row i, and `rows` is 0, 1, 2 and so on.

    No more than one piece of texts is held, and tokens only as the int32 array of the result, or with `scratch`, a folder,
    in a file without a name there. `texts`: the passage texts (title and text joined), or queries; an empty one keeps its
    special tokens.
    """
    ids, offsets = encode_texts(texts, tokenizer, max_length, scratch)
    rows = torch.arange(len(offsets) - 1, dtype=torch.int32)[:, None]
    return Tokens(ids, offsets, rows, None, {**meta, "columns": ["text"], "max_length": max_length})


def encode_texts(
    texts: Iterable[Sequence[str]], tokenizer: Any, max_length: int, scratch: Path | None = None
) -> tuple[Tensor, Tensor]:
    """(ids, offsets) of texts that come in pieces; see the module for both, and `tokenise_passages` for `scratch`."""
    ids, ends = array("i"), array("q", [0])
    with TemporaryFile(dir=scratch) if scratch is not None else nullcontext() as file:
        for piece in texts:
            if not piece:
                continue
            encoded = tokenizer(list(piece), truncation=True, max_length=max_length, return_attention_mask=False)
            for tokens in encoded["input_ids"]:
                ids.extend(tokens)
                ends.append(ends[-1] + len(tokens))
            if file is not None:
                ids.tofile(file)
                ids = array("i")
        held: array[int] | mmap = ids
        if file is not None and ends[-1] > 0:  # an empty file cannot be mapped
            file.flush()
            held = mmap(file.fileno(), 0, access=ACCESS_COPY)
    # Both tensors use the memory of the arrays, or the file: nothing is copied, however large a corpus is.
    return torch.from_numpy(np.frombuffer(held, dtype=np.int32)), torch.from_numpy(np.frombuffer(ends, dtype=np.int64))


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
    tensors, meta = read_tensors(path, ("ids", "offsets", "rows"), *FILE)
    optional = (tensors.get(name) for name in ("skips", "subsets"))
    return Tokens(tensors["ids"], tensors["offsets"], tensors["rows"], tensors.get("scores"), meta, *optional)
