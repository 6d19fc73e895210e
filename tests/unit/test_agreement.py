"""Native runs against a reference library's: the statistics by hand, what is paired, and what the figure shows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_figures import STS, STYLES, grid, overlaps, visible

from matryobench.analysis import backends
from matryobench.errors import InputError
from matryobench.figures import backends as figure_of
from matryobench.figures import theme


def reference(method: str, *differences: float, backend: str = "sentence-transformers", **changes: Any) -> pd.DataFrame:
    """A reference run whose cells (layers 1 and 2, dims 8 and 16) are the native ones plus `differences`."""
    rows = grid(method, (1, 2), (8, 16), **changes).assign(backend=backend)
    return rows.assign(value=rows["value"] + list(differences), run_id=rows["run_id"] + backend)


NATIVE = pd.concat([grid("bert"), grid("mse", shift=0.1)])
PAIRED = pd.concat(
    [NATIVE, reference("bert", 0.01, -0.04, 0.0, 0.01), reference("mse", 0.0, 0.0, 0.0, 0.02, shift=0.1)]
)


def test_agreement_over_the_common_cells_is_that_of_a_hand_count() -> None:
    pairs = backends.paired(PAIRED, **STS)
    assert len(pairs) == 8 and set(pairs["dim"]) == {8, 16}  # the native runs have dims 32 and 64 as well
    found = backends.agreement(pairs).set_index("method")
    bert = found.loc["bert"]
    assert (bert["cells"], bert["layer"], bert["dim"]) == (4, 1, 16)
    assert bert[["mean_difference", "mean_absolute", "largest_absolute"]].to_list() == pytest.approx(
        [-0.005, 0.015, 0.04]
    )
    native, other = [0.108, 0.116, 0.208, 0.216], [0.118, 0.076, 0.208, 0.226]
    assert bert["pearson"] == pytest.approx(stats.pearsonr(native, other).statistic)
    assert bert["spearman"] == pytest.approx(0.8)  # ranks 1 2 3 4 against 2 1 3 4
    assert found.loc["mse", "largest_absolute"] == pytest.approx(0.02)


def test_ties_share_ranks_and_constant_or_few_cells_have_no_correlation() -> None:
    def pairs(native: list[float], other: list[float]) -> pd.DataFrame:
        rows = pd.DataFrame({"native": native, "reference": other, "layer": 1, "dim": range(8, 8 + len(native))})
        return rows.assign(
            difference=rows["reference"] - rows["native"], recipe="v1", method="m", variant="p", backend="b", seed=0
        )

    rng = np.random.default_rng(0)
    native, other = rng.integers(0, 4, 30) / 4, rng.integers(0, 4, 30) / 4
    one = backends.agreement(pairs(list(native), list(other))).iloc[0]
    assert one["spearman"] == pytest.approx(stats.spearmanr(native, other).statistic)
    for values in ([0.1, 0.2], [0.1, 0.1, 0.1, 0.1]):
        one = backends.agreement(pairs(values, [0.3, 0.2, 0.1, 0.5][: len(values)])).iloc[0]
        assert math.isnan(one["pearson"]) and math.isnan(one["spearman"])


def test_only_runs_of_the_same_identity_are_paired() -> None:
    others = [
        reference("bert", *[0.1] * 4, seed=1), reference("bert", *[0.2] * 4, recipe="v2"),
        reference("bert", *[0.3] * 4, variant="released"), reference("srl", *[0.4] * 4),
    ]  # fmt: skip
    with pytest.raises(
        InputError, match=r"no run of a reference backend has a native run .* for average spearman_cosine"
    ):
        backends.paired(pd.concat([NATIVE, *others]), **STS)
    with pytest.raises(InputError, match="no run of a reference backend"):
        backends.paired(NATIVE, **STS)
    pairs = backends.paired(pd.concat([PAIRED, *others, reference("bert", *[0.5] * 4, backend="tevatron")]), **STS)
    assert pairs.groupby("backend")["difference"].size().to_dict() == {"sentence-transformers": 8, "tevatron": 4}
    elsewhere = reference("bert", *[0.1] * 4, backend="tevatron").assign(dataset="stsb")
    assert set(backends.paired(pd.concat([PAIRED, elsewhere]), **STS)["backend"]) == {"sentence-transformers"}


def test_the_query_layer_is_compared_where_documents_stay_at_one() -> None:
    fixed = grid("srl", dims=(8, 16)).assign(layer=2)
    pairs = backends.paired(pd.concat([fixed, reference("srl", 0.1, 0.2, 0.3, 0.4).assign(layer=2)]), **STS)
    assert pairs.set_index(["layer", "dim"])["difference"].to_dict() == pytest.approx(
        {(1, 8): 0.1, (1, 16): 0.2, (2, 8): 0.3, (2, 16): 0.4}
    )


def test_tables_hold_statistics_cells_and_unpaired_runs(tmp_path: Path) -> None:
    frame = pd.concat([PAIRED, reference("srl", 0.0, 0.0, 0.0, 0.0)])
    titles = {"mse": "MSE", "bert": "BERT", "srl": "SRL"}
    written = backends.write(frame, tmp_path / "agree", decimals=3, titles=titles, **STS)
    assert [path.name for path in written] == ["agree.csv", "agree.md", "agree.tex"]
    text = (tmp_path / "agree.md").read_text(encoding="utf-8")
    first = "| v1 | MSE | paper | sentence-transformers | 0 | 4 | +0.005 | 0.005 | 0.020 | (2, 16) |"
    second = "| v1 | BERT | paper | sentence-transformers | 0 | 4 | -0.005 | 0.015 | 0.040 | (1, 16) |"
    gap = "\N{EN DASH}"
    third = f"| v1 | SRL | paper | sentence-transformers | 0 | 0 | {gap} | {gap} | {gap} | {gap} | {gap} | {gap} |"
    assert text.index(first) < text.index(second) < text.index(third)
    assert "| v1 | BERT | paper | sentence-transformers | 0 | 2 | 0.000 | +0.010 |" in text
    tidy = pd.read_csv(tmp_path / "agree.csv")
    worst = tidy[(tidy["statistic"] == "largest_absolute") & (tidy["method"] == "bert")].iloc[0]
    assert (worst["layer"], worst["dim"], worst["cells"]) == (1, 16, 4) and worst["value"] == pytest.approx(0.04)
    assert (tidy["statistic"] == "difference").sum() == 8
    with pytest.raises(InputError, match=r"no title for the method\(s\) bert, srl"):
        backends.write(frame, tmp_path / "none", titles={"mse": "MSE"}, **STS)


def test_the_figure_has_a_scatter_over_a_heat_map_for_every_pair() -> None:
    frame = pd.concat([PAIRED, reference("mse", 0.0, 0.0, 0.0, 0.0, backend="tevatron", shift=0.1).query("dim == 8")])
    figure = figure_of.draw(frame, STYLES, **STS)
    scatters = {ax.get_title().replace("\n", " "): ax for ax in visible(figure) if ax.get_xlabel() == "native"}
    assert list(scatters) == ["BERT, sentence-transformers", "MSE, sentence-transformers", "MSE, tevatron"]
    equality, points = scatters["BERT, sentence-transformers"].get_lines()
    assert list(equality.get_xdata()) == list(equality.get_ydata())
    assert list(points.get_xdata()) == pytest.approx([0.108, 0.116, 0.208, 0.216])
    assert list(points.get_ydata()) == pytest.approx([0.118, 0.076, 0.208, 0.226])
    assert scatters["BERT, sentence-transformers"].texts[0].get_text() == "r 0.955\nmax |Δ| 0.040"
    assert scatters["MSE, tevatron"].texts[0].get_text() == "max |Δ| 0.000"  # two cells have no correlation
    maps = [[text.get_text() for text in ax.texts] for ax in visible(figure) if not ax.get_title() and ax.texts]
    minus = "\N{MINUS SIGN}"
    assert maps == [["+.010", f"{minus}.040", ".000", "+.010"], [".000", ".000", ".000", "+.020"], [".000", ".000"]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not evaluated in both"]


def test_figures_of_any_grid_have_no_overlap() -> None:
    def seeds(dims: tuple[int, ...]) -> pd.DataFrame:
        rng = np.random.default_rng(3)
        rows = [
            grid(method, (2, 4, 6), dims, recipe=recipe, seed=seed)
            for method in ("bert", "mse", "2dmse") for recipe in ("v1", "v2") for seed in (0, 1)
        ]  # fmt: skip
        native = pd.concat(rows)
        other = native.assign(backend="sentence-transformers", value=native["value"] + rng.normal(0, 0.01, len(native)))
        return pd.concat([native, other.assign(run_id=other["run_id"] + "st")])

    for dims in ((8,), (8, 16, 32, 64), (8, 16, 32, 64, 128, 256, 512, 768)):
        figure = figure_of.draw(seeds(dims), STYLES, **STS)
        assert overlaps(figure) == []
        assert figure.get_size_inches()[0] <= theme.WIDTH
