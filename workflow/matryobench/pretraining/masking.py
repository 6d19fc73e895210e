"""Which words are masked for the encoder and for the decoder, and what stands in their place.

Whole words are masked as the released SMAE code does it (ielab/Starbucks 2a3b24f, smae/data.py, after BERT's): the words
are shuffled once; each one, in that order, goes to the decoder where it fits its budget, and to the encoder too where
it fits that one. So every word the encoder must predict is one that the decoder must predict. Here it differs: words of
byte-level and sentencepiece vocabularies are whole ones (the released code has their rule but applies BERT's, under which
each of their tokens is a word); random replacements are ordinary tokens, never special ones; and nothing draws from a
global generator (deviation D16), every text has its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matryobench.errors import InputError

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
UNPREDICTED = -100
# How a vocabulary marks what precedes a token: byte-level BPE writes space, newline, tab and return so; sentencepiece "▁".
_BYTE_LEVEL_SPACES = ("\u0120", "\u010a", "\u0109", "\u010d")
_SENTENCEPIECE_SPACE = ("\u2581",)


@dataclass(frozen=True)
class Vocabulary:
    """What masking needs to know of a tokenizer, as flags per token id.

    special: never masked ([CLS], [UNK], ...). starts: begins a word; where a text or the stretch after a special token
    begins, a word begins as well. replacements: the ids that a random replacement is drawn from.
    """

    special: Flags
    starts: Flags
    replacements: Ids
    mask: int
    first: int
    separator: int
    padding: int


def vocabulary_of(tokenizer: Any, place: str) -> Vocabulary:
    """Reads a fast tokenizer's vocabulary: WordPiece, byte-level BPE or sentencepiece.

    Raises InputError, naming `place`, for a tokenizer without [MASK], [CLS], [SEP] or padding token, and for one whose
    words cannot be told.
    """
    needed = {
        "mask": tokenizer.mask_token_id,
        "[CLS]": tokenizer.cls_token_id,
        "[SEP]": tokenizer.sep_token_id,
        "padding": tokenizer.pad_token_id,
    }
    for name, number in needed.items():
        if number is None:
            raise InputError(
                f"{place}: its tokenizer has no {name} token, which masked-language modelling needs; start from an encoder"
                " that was pre-trained with one."
            )
    size = len(tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(list(range(size)))
    special = np.zeros(size, dtype=bool)
    special[tokenizer.all_special_ids] = True
    return Vocabulary(
        special=special,
        starts=_word_starts(tokenizer, tokens, place),
        replacements=np.flatnonzero(~special),
        mask=needed["mask"],
        first=needed["[CLS]"],
        separator=needed["[SEP]"],
        padding=needed["padding"],
    )


def _word_starts(tokenizer: Any, tokens: list[str | None], place: str) -> Flags:
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    kinds = json.dumps([settings["pre_tokenizer"], settings["decoder"]])
    if settings["model"]["type"] == "WordPiece":
        inside = settings["model"]["continuing_subword_prefix"]
        return np.array([not (token or "").startswith(inside) for token in tokens])
    marks = _BYTE_LEVEL_SPACES if "ByteLevel" in kinds else _SENTENCEPIECE_SPACE if "Metaspace" in kinds else None
    if marks is None:
        raise InputError(
            f"{place}: the words of its tokenizer ({settings['model']['type']}) cannot be told; use one of the kind of BERT,"
            " RoBERTa or sentencepiece."
        )
    return np.array([(token or "").startswith(marks) for token in tokens])


def words_of(ids: Ids, vocabulary: Vocabulary) -> list[Ids]:
    """The positions of each word that can be masked, in order; special tokens belong to none."""
    special = vocabulary.special[ids]
    begins = vocabulary.starts[ids].copy()
    begins[0] = True
    begins[1:] |= special[:-1]
    positions = np.flatnonzero(~special)
    if not len(positions):
        return []
    return np.split(positions, np.flatnonzero(begins[positions])[1:])


def budget(tokens: int, share: float) -> int:
    """Tokens to mask of a text with so many (special ones counted, as in the released code): rounded, at least one."""
    return max(1, round(tokens * share))


def draw_words(
    ids: Ids, vocabulary: Vocabulary, encoder: float, decoder: float | None, generator: np.random.Generator
) -> tuple[Flags, Flags]:
    """Positions that the encoder and the decoder predict, as two flags per token; the former lie within the latter.

    A word that would exceed a budget is passed over for it and the next one is tried. `decoder` None: no decoder, its
    flags are the encoder's.
    """
    room_encoder = budget(len(ids), encoder)
    room_decoder = budget(len(ids), encoder if decoder is None else decoder)
    chosen = np.zeros((2, len(ids)), dtype=bool)
    words = words_of(ids, vocabulary)
    for number in generator.permutation(len(words)).tolist():
        word = words[number]
        if len(word) > room_decoder:
            continue
        chosen[1, word] = True
        room_decoder -= len(word)
        if len(word) <= room_encoder:
            chosen[0, word] = True
            room_encoder -= len(word)
        if not room_decoder:
            break
    return chosen[0], chosen[1]


def draw_tokens(
    ids: Ids, vocabulary: Vocabulary, encoder: float, decoder: float | None, generator: np.random.Generator
) -> tuple[Flags, Flags]:
    """The same, with every token drawn by itself (Devlin et al. 2019): the shares are probabilities."""
    drawn = np.where(vocabulary.special[ids], 1.0, generator.random(len(ids)))
    return drawn < encoder, drawn < (encoder if decoder is None else decoder)


def replace(ids: Ids, chosen: Flags, vocabulary: Vocabulary, generator: np.random.Generator) -> tuple[Ids, Ids]:
    """Inputs and labels: of the chosen tokens 80 % become the mask, 10 % a random ordinary token, 10 % stay.

    Labels are the original ids where a token is predicted, UNPREDICTED elsewhere.
    """
    kind = generator.random(len(ids))
    others = vocabulary.replacements[generator.integers(len(vocabulary.replacements), size=len(ids))]
    inputs = np.where(chosen & (kind < 0.8), vocabulary.mask, np.where(chosen & (kind >= 0.9), others, ids))
    return inputs, np.where(chosen, ids, UNPREDICTED)


@dataclass(frozen=True)
class Masker:
    """Masks one text: the settings of a pre-training, applied with the text's own generator."""

    vocabulary: Vocabulary
    whole_words: bool
    encoder: float
    decoder: float | None

    def __call__(self, ids: Ids, generator: np.random.Generator) -> list[Ids]:
        """(tokens,) ids -> encoder inputs and labels and, with a decoder, its inputs and labels, drawn separately."""
        draw = draw_words if self.whole_words else draw_tokens
        chosen = draw(ids, self.vocabulary, self.encoder, self.decoder, generator)
        sides = chosen if self.decoder is not None else chosen[:1]
        return [part for side in sides for part in replace(ids, side, self.vocabulary, generator)]
