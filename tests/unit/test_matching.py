"""The counterpart of a layer or dim on another backbone: nearest, not too far, exact at the limits; one rule for all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matryobench.analysis.matching import Kind, counterpart, scale
from matryobench.claims.selectors import Grids, select
from matryobench.claims.spec import Cells, Paper

LAYERS, DIMS = [2, 4, 6, 8, 10, 12], [8, 16, 32, 64, 128, 256, 512, 768]
PAPER = Paper.model_validate({"title": "T", "source": "s", "grid": {"layers": LAYERS, "dims": DIMS}})


@pytest.mark.parametrize(
    ("kind", "number", "size", "candidates", "other_size", "wanted"),
    [
        ("layer", 2, 12, [1, 2, 3, 4], 4, 1),  # 1/6 and 1/4 differ by just a twelfth
        ("layer", 4, 12, [1, 2, 3, 4], 4, 1),  # as near to 1/4 as 2/12: several may mean one
        ("layer", 3, 12, LAYERS, 12, 2),  # between two: the smaller
        ("layer", 1, 12, [3, 6], 6, None),
        ("dim", 64, 768, [8, 16, 32, 64], 64, None),  # 1/12 and 1/8 are 0.58 octaves apart
        ("dim", 128, 768, [8, 16, 32, 64], 64, 8),  # 1/6 and 1/8: 0.42
        ("dim", 8, 384, DIMS, 768, 16),
        ("dim", 5, 10, [7], 10, 7),  # 7/5 is just below half an octave, 10/7 just above
        ("dim", 7, 10, [10], 10, None),
        ("dim", 8, 384, [], 768, None),
    ],
)
def test_the_nearest_that_is_not_too_far(
    kind: Kind, number: int, size: int, candidates: list[int], other_size: int, wanted: int | None
) -> None:
    assert counterpart(kind, number, size, candidates, other_size) == wanted


@given(st.integers(1, 800), st.sets(st.integers(1, 800), min_size=1, max_size=6), st.integers(800, 1024))
def test_no_candidate_is_nearer(number: int, candidates: set[int], size: int) -> None:
    found = counterpart("dim", number, size, candidates, 800)

    def octaves(other: int) -> float:
        return abs(math.log2(number / size) - math.log2(other / 800))

    nearest = min(map(octaves, candidates))
    assert (found is None) == (nearest > 0.5) and (found is None or octaves(found) == pytest.approx(nearest))


@pytest.mark.parametrize(
    ("depth", "width", "dims"), [(4, 64, [8, 16, 32, 64]), (6, 384, [8, 16, 32, 64, 128, 256, 384])]
)
def test_what_tables_compare_is_what_claims_mean(depth: int, width: int, dims: list[int]) -> None:
    layers = range(1, depth + 1)
    grids = Grids(PAPER, frozenset((layer, dim) for layer in layers for dim in dims), (depth, width))
    rule = scale(layers, dims, LAYERS, DIMS, (depth, width), (12, 768))
    for layer, other_layer in rule.layers.items():
        for dim, other_dim in rule.dims.items():
            assert select(Cells(layers=[other_layer], dims=[other_dim]), grids).cells == ((layer, dim),)


def test_grids_too_far_apart_have_no_cells_in_common() -> None:
    rule = scale([1, 5, 6], [8, 96], [2, 12], [16, 768], (6, 96), (12, 768))
    assert rule.layers == {1: 2, 6: 12} and rule.dims == {96: 768}  # 5/6 and 8/96 are near to nothing
