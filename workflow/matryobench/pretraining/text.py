"""Texts for pre-training: streamed from a table of any size, or blocks of tokens in memory.

The order of an epoch is a function of (seed, epoch): row groups in random order, rows in random order inside each. Only
the row groups that a micro-batch touches are read, and the last ones stay, so memory is that of two row groups.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from matryobench.errors import InputError
from matryobench.pretraining.masking import Vocabulary

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """A micro-batch: positions first..first + size - 1 of an epoch's order."""

    epoch: int
    first: int
    size: int


class Spans(Sequence[Span]):
    """The micro-batches of an epoch, made as they are asked for, so that an epoch of any length takes no memory."""

    def __init__(self, epoch: int, count: int, size: int) -> None:
        self.epoch, self.number, self.size = epoch, count, size

    def __len__(self) -> int:
        return self.number

    @overload
    def __getitem__(self, index: int) -> Span: ...
    @overload
    def __getitem__(self, index: slice) -> list[Span]: ...
    def __getitem__(self, index: int | slice) -> Span | list[Span]:
        if isinstance(index, slice):
            return [self[number] for number in range(self.number)[index]]
        return Span(self.epoch, range(self.number)[index] * self.size, self.size)


class Source(Protocol):
    """Where token sequences come from."""

    def __len__(self) -> int: ...

    def tokens(self, epoch: int, positions: Sequence[int]) -> list[Sequence[int]]:
        """The token ids at positions of an epoch's order; nothing is drawn, so they can be read ahead."""

    def finish(self, ids: Sequence[int], generator: np.random.Generator) -> Ids:
        """One of these as it is trained on: short enough, with special tokens."""


class Blocks:
    """Blocks of tokens in memory, with their special tokens, such as `blocks.pack` makes."""

    def __init__(self, blocks: Sequence[Sequence[int]], seed: int) -> None:
        self.blocks = blocks
        self._order = lru_cache(1)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(blocks)))

    def __len__(self) -> int:
        return len(self.blocks)

    def tokens(self, epoch: int, positions: Sequence[int]) -> list[Sequence[int]]:
        """The blocks at these positions."""
        order = self._order(epoch)
        return [self.blocks[int(order[position])] for position in positions]

    def finish(self, ids: Sequence[int], generator: np.random.Generator) -> Ids:
        """The block itself; nothing is drawn."""
        return np.array(ids)


class TextTable:
    """The column `text` of a parquet table as token sequences of at most `max_length` tokens.

    A longer text is cut to a random stretch of its tokens, all stretches being equally likely; the released code turns
    the stretch into a string and tokenises it again, which can change the words at its ends.
    """

    def __init__(self, path: Path, tokenizer: Any, vocabulary: Vocabulary, max_length: int, seed: int) -> None:
        """Opens the table. Raises InputError where it is not readable or none of its texts has a word."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path, self.tokenizer, self.vocabulary = path, tokenizer, vocabulary
        self.max_length, self.seed = max_length, seed
        try:
            self._file = pq.ParquetFile(path)
        except FileNotFoundError:
            raise InputError(f"{path}: there is no such table of texts; run the fetch step first.") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a readable parquet table ({error}); make it again.") from None
        if "text" not in self._file.schema_arrow.names:
            raise InputError(f"{path}: the table has no column 'text'; give one of a data set of kind text.")
        meta = self._file.metadata
        self._sizes = [meta.row_group(number).num_rows for number in range(meta.num_row_groups)]
        self._rows: int = meta.num_rows
        self._group = lru_cache(2)(self._read_group)
        self._order = lru_cache(2)(self._order_of)
        self._inside = lru_cache(2)(self._inside_of)
        if not any(self._usable(text) for text in self._texts()):
            raise InputError(f"{path}: no text in it has a word to mask; give a data set with usable text.")

    def __len__(self) -> int:
        return self._rows

    def tokens(self, epoch: int, positions: Sequence[int]) -> list[Sequence[int]]:
        """The texts at these positions, tokenised whole and without special tokens."""
        return self._tokenise([self._text(epoch, position) for position in positions])

    def finish(self, ids: Sequence[int], generator: np.random.Generator) -> Ids:
        """[CLS] text [SEP], the text cut to a random stretch where it is too long."""
        room = self.max_length - 2
        start = int(generator.integers(len(ids) - room + 1)) if len(ids) > room else 0
        return np.array([self.vocabulary.first, *ids[start : start + room], self.vocabulary.separator])

    def fingerprint(self) -> str:
        """The table's size and the hash of its footer (sizes, statistics, metadata): reading all of it can take hours."""
        import hashlib

        with self.path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(-8, 2)
            stream.seek(-8 - int.from_bytes(stream.read(4), "little"), 2)
            return f"{size}-{hashlib.sha256(stream.read()).hexdigest()}"

    def _tokenise(self, texts: list[str]) -> list[Sequence[int]]:
        encoded = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids: list[Sequence[int]] = encoded["input_ids"]
        return ids

    def _usable(self, text: str) -> bool:
        return bool(text) and not self.vocabulary.special[list(self._tokenise([text])[0])].all()

    def _texts(self) -> Iterator[str]:
        for batch in self._file.iter_batches(batch_size=256, columns=["text"]):
            yield from batch.column(0).to_pylist()

    def _text(self, epoch: int, position: int) -> str:
        groups, ends = self._order(epoch)
        place = bisect_right(ends, position)
        group = int(groups[place])
        row = self._inside(epoch, group)[position - (int(ends[place - 1]) if place else 0)]
        text: str | None = self._group(group)[int(row)].as_py()
        return text or ""

    def _order_of(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        groups = np.random.default_rng([self.seed, epoch]).permutation(len(self._sizes))
        return groups, np.cumsum(np.array(self._sizes)[groups])

    def _inside_of(self, epoch: int, group: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch, group]).permutation(self._sizes[group])

    def _read_group(self, group: int) -> Any:
        return self._file.read_row_group(group, columns=["text"]).column("text")
