"""The cells that claims mean: on the paper's backbone, on others, named sizes."""

from __future__ import annotations

from typing import Any

import pytest
from claims_cases import COMPARE, A, verdict

from matryobench.claims.evaluate import Setting
from matryobench.claims.selectors import Grids, select
from matryobench.claims.spec import Cells, Paper

# --- cells on other backbones

PAPER = Paper.model_validate({
    "title": "T", "source": "s", "sizes": {"Demi": [2, 32], "Trenta": [12, 768]},
    "grid": {"layers": [2, 4, 6, 8, 10, 12], "dims": [8, 16, 32, 64, 128, 256, 512, 768]},
})  # fmt: skip


def on(layers: int, width: int, dims: list[int], sizes: Any = None) -> Grids:
    held = frozenset((la, d) for la in range(1, layers + 1) for d in dims)
    return Grids(PAPER, held, (layers, width), sizes)


MINILM = on(6, 384, [8, 16, 32, 64, 128, 256, 384])
DEMO = on(4, 64, [8, 16, 32, 64])


@pytest.mark.parametrize(
    ("cells", "grids", "wanted"),
    [
        ({"pairs": [[2, 32], [12, 768]]}, MINILM, [(1, 16), (6, 384)]),
        ({"layers": [8, 10], "dims": [512]}, MINILM, [(4, 256), (5, 256)]),  # both a third below the full width
        ({"layers": [8, 10], "dims": [512]}, DEMO, [(3, 32)]),
        ({"layers": "last", "dims": ">=128"}, DEMO, [(4, 16), (4, 32), (4, 64)]),  # d/H >= 1/6
        ({"layers": "<=6", "dims": "last"}, MINILM, [(1, 384), (2, 384), (3, 384)]),
        ({"layers": [2], "dims": "<=32"}, MINILM, [(1, 8), (1, 16)]),
        ({"layers": [2], "dims": "<32"}, MINILM, [(1, 8)]),
        ({"layers": "last", "dims": [8]}, MINILM, []),  # 1/96 of the width: half of the smallest dim
        ({"layers": "last", "dims": [8], "match": "absolute"}, MINILM, [(6, 8)]),
        ({"layers": [8], "dims": "last", "match": "absolute"}, MINILM, []),
    ],
)  # fmt: skip
def test_cells_mean_the_same_relative_depth_and_width(cells: Any, grids: Grids, wanted: list[Any]) -> None:
    found = select(Cells.model_validate(cells), grids)
    assert list(found.cells) == wanted


def test_numbers_mean_themselves_on_the_papers_backbone() -> None:
    same = on(12, 768, PAPER.grid.dims)
    assert select(Cells(layers=[7], dims=[8]), same).cells == ((7, 8),)
    assert len(select(Cells(layers="below-last", dims="below-last"), same).cells) == 11 * 7
    short = on(6, 768, PAPER.grid.dims)
    lower = Grids(PAPER, short.cells, (12, 768))  # only the lower half was evaluated: its last layer is not the last
    assert select(Cells(layers="last"), lower).cells == ()


def test_sizes_are_the_named_ones_or_those_at_the_same_place() -> None:
    chosen = Cells(sizes=["Demi", "Trenta"])
    assert select(chosen, MINILM).cells == ((1, 16), (6, 384))
    own = on(4, 64, [8, 16, 32, 64], {"Demi": (2, 8)})
    found = select(chosen, own)
    assert found.cells == ((2, 8),) and found.unmatched == ("Trenta",)


def test_reduced_grids_say_how_cells_were_found() -> None:
    check = {**COMPARE, "cells": {"layers": [1]}}
    assert "relative depth and width" in verdict(check, A, Setting(shape=(4, 16))).evidence
    assert "relative" not in verdict(check, A).evidence
