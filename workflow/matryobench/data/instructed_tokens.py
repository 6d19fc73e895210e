"""Token files of texts with instructions: which tokens belong to the instruction is stored beside them.

Instruction and text are tokenised together, as one string (`instructed.join`), and the attention sees both. Pooling leaves
the instruction out, and the special token before it, as INSTRUCTOR's released code does (xlang-ai/instructor-embedding,
train.py, context_masks): `skips` counts these leading tokens. They are those of the instruction alone without the closing
special token. With one space between the two this holds for tokenizers that split at spaces (WordPiece, byte-level BPE,
sentencepiece), and it is checked text by text. The released code joins without a space: for WordPiece the same wherever
the instruction ends in punctuation, as MEDI's do; but a byte-level BPE would see the text's first word as the middle of a
word, which is why there is a space here.

What is too long is cut at the end, so only the text gets shorter. An instruction that leaves no room for text is an error.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matryobench.data.instructed import MEDI, join
from matryobench.data.tokens import Tokens
from matryobench.errors import InputError

Pair = tuple[str, str]  # instruction ("" for none), text


def encode_pairs(
    pairs: Sequence[Pair], tokenizer: Any, max_length: int, place: str
) -> tuple[list[list[int]], list[int]]:
    """n (instruction, text) pairs -> n token lists of at most `max_length`, and the leading tokens that pooling leaves out.

    Without an instruction nothing is left out. Of a text without a token (blank, or characters that the tokenizer drops)
    the closing special token alone is pooled. `place` begins errors. Raises InputError where an instruction takes all tokens,
    and where the tokenizer does not keep it apart from the text.
    """
    own = _instructions({instruction.strip() for instruction, _ in pairs} - {""}, tokenizer)
    joined = [join(instruction, text) for instruction, text in pairs]
    encoded: list[list[int]] = tokenizer(joined, truncation=True, max_length=max_length, return_attention_mask=False)[
        "input_ids"
    ]
    skips = []
    for (instruction, text), ids in zip(pairs, encoded, strict=True):
        if not instruction.strip():
            skips.append(0)
            continue
        leading, closing = own[instruction.strip()]
        shown = f"{instruction.strip()[:60]!r}"
        if len(ids) <= len(leading) + closing and text.strip() and len(ids) >= max_length:
            raise InputError(
                f"{place}: an instruction leaves no room for text in {max_length} tokens ({shown}); raise max_length or "
                "shorten the instruction."
            )
        if ids[: len(leading)] != leading:
            raise InputError(
                f"{place}: the tokenizer does not keep the instruction {shown} apart from its text; end it with a colon."
            )
        if len(ids) == len(leading):
            raise InputError(f"{place}: an empty text under the instruction {shown} has no token to pool; remove it.")
        skips.append(len(leading))
    return encoded, skips


def _instructions(instructions: Collection[str], tokenizer: Any) -> dict[str, tuple[list[int], int]]:
    """Of each instruction alone the tokens without the closing special ones, and how many those are."""
    texts = sorted(instructions)
    if not texts:
        return {}
    encoded = tokenizer(texts, return_special_tokens_mask=True, return_attention_mask=False)
    found = {}
    for text, ids, special in zip(texts, encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
        closing = next((count for count, mark in enumerate(reversed(special)) if not mark), len(special))
        found[text] = (ids[: len(ids) - closing], closing)
    return found


def tokenise_instructed(
    batches: Iterable[Mapping[str, Sequence[Any]]], tokenizer: Any, max_length: int, meta: dict[str, Any], place: str
) -> Tokens:
    """Tokenises an instructed table that comes in batches of columns; every distinct (instruction, text) is stored once.

    `rows` is (n, 3): query, positive, negative; `skips` (texts,); where there is a column `subset`, `subsets` (n,) holds the
    number of each row's name in meta["subsets"]. Of the texts seen only hashes are kept. Raises InputError as
    `encode_pairs` does.
    """
    known: dict[bytes, int] = {}
    subsets: dict[str, int] = {}
    ids, ends, skips, rows, subset_of = array("i"), array("q", [0]), array("i"), array("i"), array("i")
    for batch in batches:
        fresh: list[Pair] = []
        sides = [zip(batch[f"{column}_instruction"], batch[column], strict=True) for column in MEDI.values()]
        for pair in chain.from_iterable(zip(*sides, strict=True)):
            key = blake2b("\0".join(pair).encode(), digest_size=16).digest()
            if key not in known:
                known[key] = len(known)
                fresh.append(pair)
            rows.append(known[key])
        for name in batch.get("subset", ()):
            subset_of.append(subsets.setdefault(name or "", len(subsets)))
        if fresh:
            encoded, left_out = encode_pairs(fresh, tokenizer, max_length, place)
            for tokens in encoded:
                ids.extend(tokens)
                ends.append(len(ids))
            skips.extend(left_out)
    facts = {**meta, "columns": list(MEDI.values()), "max_length": max_length}
    if subset_of:
        facts["subsets"] = list(subsets)
    return Tokens(
        _tensor(ids),
        torch.from_numpy(np.frombuffer(ends, dtype=np.int64)),
        _tensor(rows).reshape(-1, len(MEDI)),
        None,
        facts,
        _tensor(skips),
        _tensor(subset_of) if subset_of else None,
    )


def _tensor(values: array[int]) -> Tensor:
    """An int32 tensor in the array's own memory."""
    return torch.from_numpy(np.frombuffer(values, dtype=np.int32))
