"""Packs documents into blocks of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def pack(documents: Iterable[Sequence[int]], length: int, first: int, separator: int) -> list[list[int]]:
    """Blocks of at most `length` token ids: [CLS] document [SEP] document [SEP] ...

    A document goes whole into the block where it leaves the least room (best fit); only one that is longer than a block is
    cut. `documents` are token ids without special tokens; empty ones are left out. Deterministic.
    """
    blocks: list[list[int]] = []
    room: dict[int, list[int]] = {}  # tokens left -> blocks that have exactly this room, newest last
    for document in documents:
        for start in range(0, len(document), length - 2):
            piece = document[start : start + length - 2]
            need = len(piece) + 1
            left = next((r for r in range(need, length) if room.get(r)), None)
            if left is None:
                left, number = length - 1, len(blocks)
                blocks.append([first])
            else:
                number = room[left].pop()
            blocks[number] += [*piece, separator]
            if left > need:
                room.setdefault(left - need, []).append(number)
    return blocks
