"""Token files of training groups: queries with their positive and negative passages, every distinct text once.

One safetensors file holds
  query_ids, query_offsets      as in `tokens.py`, of the distinct query texts, cut to the queries' maximum length
  passage_ids, passage_offsets  the same of the distinct passage texts, cut to the passages' maximum length
  query_rows        (n,)     int32  the query of every row (group)
  positives         (sum,)   int32  passages; those of row i are positives[positive_offsets[i]:positive_offsets[i + 1]]
  positive_offsets  (n + 1,) int64
  negatives, negative_offsets       the same
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matryobench.data.tokens import FILE, encode_texts, pieces
from matryobench.data.values import passage_text
from matryobench.errors import InputError
from matryobench.tensors import read_tensors, write_tensors

_TENSORS = (
    "query_ids", "query_offsets", "passage_ids", "passage_offsets", "query_rows", "positives", "positive_offsets",
    "negatives", "negative_offsets",
)  # fmt: skip


@dataclass(frozen=True)
class GroupTokens:
    """Training groups as tokens; see the module for shapes."""

    query_ids: Tensor
    query_offsets: Tensor
    passage_ids: Tensor
    passage_offsets: Tensor
    query_rows: Tensor
    positives: Tensor
    positive_offsets: Tensor
    negatives: Tensor
    negative_offsets: Tensor
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of rows (groups)."""
        return len(self.query_rows)

    @property
    def queries(self) -> int:
        """Number of distinct queries."""
        return len(self.query_offsets) - 1

    @property
    def passages(self) -> int:
        """Number of distinct passages."""
        return len(self.passage_offsets) - 1

    def query(self, row: int) -> Tensor:
        """(tokens,) int32 of a row's query."""
        number = int(self.query_rows[row])
        return self.query_ids[int(self.query_offsets[number]) : int(self.query_offsets[number + 1])]

    def passage(self, number: int) -> Tensor:
        """(tokens,) int32 of one passage."""
        return self.passage_ids[int(self.passage_offsets[number]) : int(self.passage_offsets[number + 1])]

    def passages_of(self, rows: Sequence[int], group_size: int, epoch: int, seed: int) -> Tensor:
        """(B, group_size) int64 passage numbers: a positive of each row first, then `group_size` - 1 of its negatives.

        The draw depends on (seed, epoch, row) alone, so it is the same in every process, at every batch size and after a
        restart. The positive is uniform over the row's positives. Negatives are drawn without replacement, or with it where
        the row has too few, as Tevatron does. Raises InputError for a row without negatives when group_size is above 1.
        """
        drawn = np.empty((len(rows), group_size), dtype=np.int64)
        for place, row in enumerate(rows):
            generator = np.random.default_rng([seed, epoch, row])
            positives = self._row(self.positives, self.positive_offsets, row)
            negatives = self._row(self.negatives, self.negative_offsets, row)
            wanted = group_size - 1
            if wanted and not len(negatives):
                raise InputError(
                    f"{self.meta.get('dataset', 'groups')} row {row + 1}: it has no negative passage and group_size is "
                    f"{group_size}; mine negatives for it, leave it out, or set group_size to 1."
                )
            drawn[place, 0] = positives[generator.integers(len(positives))]
            drawn[place, 1:] = generator.choice(negatives, wanted, replace=len(negatives) < wanted)
        return torch.from_numpy(drawn)

    def known_positives(self, rows: Sequence[int], passages: Tensor) -> Tensor:
        """(B, B*g) bool: True where a passage of the batch is a known positive of the query but not that row's target.

        `passages` (B, g): the passages of the batch, targets first. Known is what any row with the same query text lists as
        a positive. The target is the one place [i, i*g]; the same passage elsewhere in the batch is True.
        """
        batch, size = passages.shape
        queries = self.query_rows[torch.as_tensor(rows, dtype=torch.int64)].to(torch.int64)
        wanted = queries[:, None] * self.passages + passages.reshape(1, -1).to(torch.int64)
        keys = self._known
        at = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        known: Tensor = keys[at] == wanted
        known[torch.arange(batch), torch.arange(batch) * size] = False
        return known

    @cached_property
    def _known(self) -> Tensor:
        """Sorted keys query * passages + passage of everything that is relevant."""
        counts = self.positive_offsets.diff()
        queries = self.query_rows.to(torch.int64).repeat_interleave(counts)
        keys: Tensor = torch.unique(queries * self.passages + self.positives.to(torch.int64))
        return keys

    def _row(self, values: Tensor, offsets: Tensor, row: int) -> Any:
        return values[int(offsets[row]) : int(offsets[row + 1])].numpy()


class _Numbers:
    """Distinct texts -> numbers in order of first sight, by digest: the texts of millions of passages are not kept."""

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {}
        self.new: list[str] = []  # seen since they were last taken

    def of(self, text: str) -> int:
        key = hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = len(self.numbers)
            self.new.append(text)
        return number

    def take(self) -> list[str]:
        taken, self.new = self.new, []
        return taken


def tokenise_groups(
    groups: Iterable[Sequence[dict[str, Any]]],
    tokenizer: Any,
    query_max_length: int,
    passage_max_length: int,
    meta: dict[str, Any],
) -> GroupTokens:
    """Tokenises groups (rows of a groups table) that come in pieces, so that not all texts are held at once.

    A passage's text is title and text with a space between; two passages with the same text are one.
    """
    queries, passages = _Numbers(), _Numbers()
    query_texts: list[str] = []
    rows = {name: array("i") for name in ("query_rows", "positives", "negatives")}
    ends = {name: array("q", [0]) for name in ("positives", "negatives")}

    def new_passages() -> Iterator[list[str]]:
        for piece in groups:
            for row in piece:
                rows["query_rows"].append(queries.of(row["query"]))
                for column, end in ends.items():
                    listed = row[f"{column[:-1]}_passages"]
                    numbers = [passages.of(passage_text(passage["title"], passage["text"])) for passage in listed]
                    rows[column].extend(dict.fromkeys(numbers))  # the same text twice in a row counts once
                    end.append(len(rows[column]))
            query_texts.extend(queries.take())
            yield passages.take()

    passage_ids, passage_offsets = encode_texts(new_passages(), tokenizer, passage_max_length)
    query_ids, query_offsets = encode_texts(pieces(query_texts), tokenizer, query_max_length)
    lengths = {"max_length": passage_max_length, "query_max_length": query_max_length}
    return GroupTokens(
        query_ids=query_ids,
        query_offsets=query_offsets,
        passage_ids=passage_ids,
        passage_offsets=passage_offsets,
        query_rows=torch.tensor(rows["query_rows"], dtype=torch.int32),
        positives=torch.tensor(rows["positives"], dtype=torch.int32),
        positive_offsets=torch.tensor(ends["positives"], dtype=torch.int64),
        negatives=torch.tensor(rows["negatives"], dtype=torch.int32),
        negative_offsets=torch.tensor(ends["negatives"], dtype=torch.int64),
        meta={**meta, **lengths},
    )


def write_group_tokens(tokens: GroupTokens, path: Path) -> None:
    """Writes a token file of groups, whole or not at all."""
    write_tensors({name: getattr(tokens, name) for name in _TENSORS}, tokens.meta, path)


def read_group_tokens(path: Path) -> GroupTokens:
    """Opens a token file of groups, memory-mapped. Raises InputError where it is missing, damaged or of another kind."""
    tensors, meta = read_tensors(path, _TENSORS, *FILE)
    return GroupTokens(**{name: tensors[name] for name in _TENSORS}, meta=meta)
