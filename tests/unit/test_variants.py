"""Variants of a method against each other: counts and means by hand, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from test_figures import STS, grid

from matryobench.analysis import variants
from matryobench.errors import InputError


def rows(variant: str, *changes: float, method: str = "srl", layers: tuple[int, ...] = (1, 2)) -> pd.DataFrame:
    """A run on dims 8 and 16, whose cells are those of `test_figures.grid` plus `changes`."""
    own = grid(method, layers, (8, 16), variant=variant)
    return own.assign(value=own["value"] + list(changes or [0.0] * len(own)))


FRAME = pd.concat([rows("paper", 0.04, 0.0, -0.01, 0.03), rows("released"), rows("plain", method="bert")])


def test_differences_are_those_of_a_hand_count() -> None:
    found = variants.differences(FRAME, **STS).set_index("band")
    assert set(found["method"]) == {"srl"} and set(found["variant"]) == {"paper"}
    assert list(found.index) == ["all", "below the last layer", "last layer"]
    assert found.loc["all", ["cells", "above", "equal", "below"]].to_list() == [4, 2, 1, 1]
    assert found.loc["all", ["difference", "largest"]].to_list() == pytest.approx([0.015, 0.04])
    assert found.loc["all", ["layer", "dim"]].to_list() == [1, 8]
    assert found.loc["below the last layer", "difference"] == pytest.approx(0.02)
    assert found.loc["last layer", ["above", "below"]].to_list() == [1, 1]


def test_the_first_of_a_pair_is_the_first_of_the_order_and_only_common_cells_count() -> None:
    turned = variants.differences(FRAME, **STS, order={"srl": ["released", "paper"]})
    assert turned["difference"].iloc[0] == pytest.approx(-0.015) and set(turned["other"]) == {"paper"}
    one_layer = pd.concat([rows("paper", layers=(2,)), rows("released"), rows("plain", method="bert")])
    found = variants.differences(one_layer, **STS)
    assert list(found["band"]) == ["all", "last layer"] and set(found["cells"]) == {2}
    with pytest.raises(InputError, match="no method has two variants with a common cell"):
        variants.differences(pd.concat([rows("paper", layers=(1,)), rows("released", layers=(2,))]), **STS)


def test_the_table_is_written_in_three_forms(tmp_path: Path) -> None:
    paths = variants.write(FRAME, tmp_path / "variants", **STS, titles={"srl": "SRL", "bert": "BERT"})
    assert [path.suffix for path in paths] == [".csv", ".md", ".tex"]
    assert pd.read_csv(paths[0])["difference"].iloc[0] == pytest.approx(0.015)
    assert "| v1 | SRL | paper | released | all | 4 | 2 | 1 | 1 |" in paths[1].read_text(encoding="utf-8")
