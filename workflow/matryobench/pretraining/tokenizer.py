"""Trains a lower-casing WordPiece tokenizer, the kind that BERT has, on the pre-training text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from matryobench.errors import InputError
from matryobench.files import atomic_path

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(texts: Iterable[str], vocab_size: int, out: Path, max_length: int = 512) -> int:
    """Writes a transformers tokenizer folder to `out` (whole or not at all) and returns the size of its vocabulary.

    The vocabulary has at most `vocab_size` entries, the five special tokens first; the same texts give the same bytes.
    `max_length` (tokens) is recorded as the model's limit. Raises InputError when there is no text to learn from, or when
    `vocab_size` cannot hold the special tokens and the characters of the text.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizerFast

    lines = list(texts)
    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece()
    # The trainer numbers characters inside words in the order of a randomly seeded hash map and breaks ties by number,
    # so every process would learn another vocabulary; numbered beforehand, in order, they give the same one each time.
    characters = sorted({character for line in lines for character in words.normalizer.normalize_str(line)} - {" "})
    if not characters:
        raise InputError("pre-training text: there is no word in it to learn a vocabulary from; give a file with text.")
    fixed = [*SPECIAL, *(f"##{character}" for character in characters)]
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=fixed, show_progress=False)
    words.train_from_iterator(lines, trainer)
    size = words.get_vocab_size()
    if size > vocab_size:
        raise InputError(
            f"vocab_size: {vocab_size} is too small, the special tokens and single characters of the text alone are {size}; "
            f"set vocab_size to {2 * size} or more."
        )
    vocabulary = sorted(words.get_vocab(), key=words.get_vocab().__getitem__)
    tokenizer = BertTokenizerFast(
        vocab={token: number for number, token in enumerate(vocabulary)},
        do_lower_case=True,
        model_max_length=max_length,
    )
    with atomic_path(out) as folder:
        tokenizer.save_pretrained(str(folder))
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    return size
