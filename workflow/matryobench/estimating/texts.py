"""Numbers of texts and their tokens: what operations and memory follow from."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matryobench.errors import InputError

CHARACTERS_PER_TOKEN = 4.5
"""English text by a WordPiece or byte-level vocabulary of 30,000 to 50,000; 4.1 to 5.2 on thirteen of the sets here."""
SPECIAL_TOKENS = 2
SPREAD = 1.2
"""Mean square of lengths over the square of their mean: 1.0 (cut corpora) to 1.6 (mixed collections) on the token files
of the demo and MiniLM experiments. Only attention's share of the operations, a few percent, depends on it."""
_SHAPE = 4  # of the gamma distribution that stands for lengths before they are cut: a spread of half the mean
_SAMPLE = 1 << 16


@dataclass(frozen=True)
class Texts:
    """So many texts, their tokens (special tokens included), and the sum of the squares of their lengths."""

    count: float
    tokens: float
    squares: float

    @classmethod
    def of_mean(cls, count: float, mean: float) -> Texts:
        """Texts of which only the mean length is known."""
        return cls(count, count * mean, count * mean * mean * SPREAD)

    @property
    def mean(self) -> float:
        """Tokens of a text."""
        return self.tokens / self.count if self.count else 0.0

    def scaled(self, factor: float) -> Texts:
        """So many times as many texts of the same lengths."""
        return Texts(self.count * factor, self.tokens * factor, self.squares * factor)

    def __add__(self, other: Texts) -> Texts:
        return Texts(self.count + other.count, self.tokens + other.tokens, self.squares + other.squares)


NONE = Texts(0, 0, 0)


def tokens_of(characters: float) -> float:
    """Tokens of a text of so many characters, before it is cut."""
    return SPECIAL_TOKENS + characters / CHARACTERS_PER_TOKEN


def cut_mean(mean: float, limit: int) -> float:
    """Mean length of texts of that mean length once they are cut to `limit` tokens.

    E[min(X, m)] for a gamma distribution of shape 4; within 8 % of SciFact, NFCorpus, ArguAna and Cranfield at 64 to 512.
    """
    at = _SHAPE * limit / mean
    below = math.exp(-at) * sum(at**power / math.factorial(power) for power in range(_SHAPE))
    reached = math.exp(-at) * sum(at**power / math.factorial(power) for power in range(_SHAPE + 1))
    return mean * (1 - reached) + limit * below


@dataclass(frozen=True)
class TokenFile:
    """What a token file says of itself: rows, and the texts per column or side."""

    rows: int
    distinct: Texts  # every distinct text once; of groups the passages
    row: Texts  # the texts of one row on average; of groups one passage
    queries: Texts | None = None  # of groups: the distinct queries


def read_token_file(path: Path) -> TokenFile | None:
    """The numbers of a token file of `data.tokens` or `data.group_tokens`, None where there is none yet.

    Only its header is read, and of long ones a sample of the lengths. Raises InputError for a damaged file.
    """
    if not path.is_file():
        return None
    import numpy as np

    try:
        with path.open("rb") as stream:
            size = struct.unpack("<Q", stream.read(8))[0]
            header: dict[str, Any] = json.loads(stream.read(size))
    except (struct.error, ValueError, OSError) as error:
        raise InputError(f"{path}: not a token file ({error}); remove it, it is made again.") from None

    def array(name: str) -> Any:
        entry = header[name]
        kind = {"I32": np.int32, "I64": np.int64}[entry["dtype"]]
        begin = 8 + size + entry["data_offsets"][0]
        return np.memmap(path, dtype=kind, mode="r", offset=begin, shape=tuple(entry["shape"]))

    def distinct(prefix: str) -> Texts:
        offsets = array(f"{prefix}offsets")
        count, tokens = len(offsets) - 1, header[f"{prefix}ids"]["shape"][0]
        some = np.diff(offsets[: _SAMPLE + 1]).astype(np.float64)
        spread = float((some**2).mean() / some.mean() ** 2) if some.size and some.mean() else 1.0
        return Texts(count, tokens, tokens * tokens / count * spread if count else 0.0)

    if "passage_ids" in header:
        # All but one passage of a group are negatives, and a long list of them weighs no more than a short one.
        offsets, negatives = array("passage_offsets"), array("negatives")
        chosen = np.asarray(negatives[:: max(1, len(negatives) // _SAMPLE)])
        lengths = (offsets[chosen + 1] - offsets[chosen]).astype(np.float64)
        passages = distinct("passage_")
        one = (
            Texts(1, float(lengths.mean()), float((lengths**2).mean()))
            if len(lengths)
            else Texts.of_mean(1, passages.mean)
        )
        return TokenFile(len(array("query_rows")), passages, one, distinct("query_"))
    rows, texts = array("rows"), distinct("")
    if not len(rows):
        return TokenFile(0, texts, NONE)
    chosen = np.asarray(rows[:: max(1, len(rows) // _SAMPLE)])
    offsets = array("offsets")
    lengths = (offsets[chosen + 1] - offsets[chosen]).astype(np.float64)  # (rows, columns)
    return TokenFile(
        len(rows), texts, Texts(rows.shape[1], float(lengths.sum(1).mean()), float((lengths**2).sum(1).mean()))
    )
