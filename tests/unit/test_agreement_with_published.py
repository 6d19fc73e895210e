"""Agreement with a published grid: by hand, against repro_eval's formulas, across scales, and drawn side by side."""

from __future__ import annotations

import csv
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_figures import drawn, matrices_of, overlaps, visible
from test_published import STYLES

from matryobench.analysis import agreement, cells, published
from matryobench.analysis.matching import Scale, matched, scale
from matryobench.errors import InputError
from matryobench.figures import side_by_side, theme

STS: dict[str, Any] = {"dataset": "average", "metric": "spearman_cosine"}
MARCO: dict[str, Any] = {"dataset": "msmarco-dev", "metric": "mrr@10"}
LAYERS, DIMS = (2, 4, 6, 8, 10, 12), (8, 16, 32, 64, 128, 256, 512, 768)


def table(
    values: dict[tuple[str, int, int], float], *, variant: str = "paper", recipe: str = "v1", seed: int = 0
) -> pd.DataFrame:
    """A cells table from {(method, layer, dim): value}."""
    rows = [
        ("tiny", "sts", "average", "spearman_cosine", method, variant, recipe, "native", seed, layer, layer, dim, value,
         10, f"{method}-{variant}-{recipe}-{seed}")
        for (method, layer, dim), value in values.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(cells.COLUMNS))


THEIRS = table({
    ("a", 1, 8): 0.10, ("a", 1, 16): 0.20, ("a", 2, 8): 0.30, ("a", 2, 16): 0.40,
    ("b", 1, 8): 0.20, ("b", 1, 16): 0.21, ("b", 2, 8): 0.20, ("b", 2, 16): 0.60,
}, variant="published")  # fmt: skip
OURS = table({
    ("a", 1, 8): 0.11, ("a", 1, 16): 0.18, ("a", 2, 8): 0.36, ("a", 2, 16): 0.35,
    ("b", 1, 8): 0.21, ("b", 1, 16): 0.10, ("b", 2, 8): 0.40, ("b", 2, 16): 0.55,
})  # fmt: skip
SMALL: dict[str, Any] = {"shape": (2, 16), "published_shape": (2, 16), **STS}


def ours_of(experiment: str, variant: str = "paper") -> pd.DataFrame:
    """Published numbers under our own variant."""
    frame = published.load(experiment)
    return frame[frame["variant"] == "published"].assign(variant=variant)


# By hand


def test_statistics_of_a_line_by_hand() -> None:
    rows, rule = matched(OURS, THEIRS, **SMALL)
    assert rule.same and rule.words() == "cell by cell"
    found = agreement.grid_agreement(rows, rule, {"all cells": pd.Series(True, index=rows.index)}, 0.02)
    a = found[found["method"] == "a"].iloc[0]
    differences = [0.01, -0.02, 0.06, -0.05]
    assert a["rmse"] == pytest.approx(math.sqrt(sum(d * d for d in differences) / 4))
    assert a["bias"] == pytest.approx(0.0, abs=1e-12) and a["largest"] == pytest.approx(0.06)
    assert (a["layer"], a["dim"], a["cells"]) == (2, 8, 4)
    assert a["within"] == 0.5  # .20 - .18 is .02 and a bit in binary
    assert a["kendall"] == pytest.approx(4 / 6) and a["spearman"] == pytest.approx(0.8)  # one discordant pair of six


def test_a_pair_of_methods_by_hand() -> None:
    rows, _ = matched(OURS, THEIRS, **SMALL)
    everything = {"all cells": pd.Series(True, index=rows.index)}
    one = agreement.pair_agreement(rows, everything).iloc[0]
    assert (one["method"], one["baseline"]) == ("b", "a")
    # published b - a: +.10 +.01 -.10 +.20, the second within rounding; ours: +.10 -.08 +.04 +.20
    assert (one["cells"], one["tied"], one["agreeing"]) == (4, 1, 2)
    assert one["sign_agreement"] == pytest.approx(2 / 3)
    assert one["effect_ratio"] == pytest.approx(0.065 / 0.0525)
    assert one["delta_ri"] == pytest.approx(0.0525 / 0.25 - 0.065 / 0.25)
    turned = agreement.pair_agreement(rows, everything, order=["b", "a"]).iloc[0]
    assert (turned["method"], turned["baseline"]) == ("a", "b")
    assert turned["effect_ratio"] == pytest.approx(one["effect_ratio"])


def test_effects_are_those_of_repro_eval() -> None:
    """Its ER and deltaRI (repro_eval/measure/overall_effects.py, commit 12c81d6), topic by topic in float64."""
    generator = np.random.default_rng(5)
    grid = [(layer, dim) for layer in LAYERS for dim in DIMS]
    scores = {side: {m: dict(zip(map(str, grid), generator.random(48), strict=True)) for m in "ab"} for side in "pr"}

    def improvement(side: str) -> np.float64:
        return np.array([scores[side]["b"][topic] - scores[side]["a"][topic] for topic in map(str, grid)]).mean()

    def relative(side: str) -> float:
        advanced, baseline = (np.array(list(scores[side][method].values())).mean() for method in "ba")
        return float((advanced - baseline) / baseline)

    frames = {
        side: table({(m, *cell): scores[side][m][str(cell)] for m in "ab" for cell in grid}) for side in scores
    }  # fmt: skip
    rows, _ = matched(frames["r"], frames["p"], **STS)
    one = agreement.pair_agreement(rows, {"all cells": pd.Series(True, index=rows.index)}).iloc[0]
    assert one["effect_ratio"] == pytest.approx(improvement("r") / improvement("p"), rel=1e-12)
    assert one["delta_ri"] == pytest.approx(relative("p") - relative("r"), rel=1e-9)


def test_effects_that_would_divide_by_zero_are_unknown() -> None:
    flat = table({(m, layer, 8): 0.0 for m in "ab" for layer in (1, 2, 3)}, variant="published")
    rows, _ = matched(flat.assign(variant="paper"), flat, shape=(3, 8), published_shape=(3, 8), **STS)
    everything = {"all cells": pd.Series(True, index=rows.index)}
    one = agreement.pair_agreement(rows, everything).iloc[0]
    assert one[["sign_agreement", "effect_ratio", "delta_ri"]].isna().all() and one["tied"] == 3
    line = agreement.grid_agreement(rows, Scale({}, {}, same=True), everything, 0.01).iloc[0]
    assert math.isnan(line["kendall"]) and line["rmse"] == 0.0


# On the published numbers


@pytest.mark.parametrize("experiment", published.EXPERIMENTS)
def test_the_published_numbers_agree_with_themselves(experiment: str) -> None:
    frame = published.load(experiment)
    frame = frame[frame["dataset"].isin(["average", "msmarco-dev", "quora"])]
    for (dataset, metric), _ in frame.groupby(["dataset", "metric"]):
        rows, rule = matched(frame, frame, dataset=str(dataset), metric=str(metric))
        everything = {"all cells": pd.Series(True, index=rows.index)}
        found = agreement.grid_agreement(rows, rule, everything, 0.01)
        assert (found[["rmse", "bias", "largest"]] == 0).all(axis=None) and (found["within"] == 1).all()
        assert found[["kendall", "spearman"]].to_numpy() == pytest.approx(1.0)
        pairs = agreement.pair_agreement(rows, everything)
        assert (pairs["agreeing"] == pairs["cells"] - pairs["tied"]).all()
        known = pairs.dropna(subset=["effect_ratio"])
        assert known["effect_ratio"].to_numpy() == pytest.approx(1.0)
        assert known["delta_ri"].to_numpy() == pytest.approx(0.0, abs=1e-12)


def test_v1_and_v2_of_the_paper_differ_as_counted_from_the_file() -> None:
    frame = published.load("sts")
    one, two = (frame[(frame["recipe"] == recipe) & (frame["method"] == "bert")] for recipe in ("v1", "v2"))
    rows, rule = matched(one.assign(recipe="x", variant="paper"), two, **STS)
    found = agreement.grid_agreement(rows, rule, {"all cells": pd.Series(True, index=rows.index)}, 0.01).iloc[0]
    difference = (one.set_index(["layer", "dim"])["value"] - two.set_index(["layer", "dim"])["value"]).to_numpy()
    assert found["rmse"] == pytest.approx(float(np.sqrt(np.mean(difference**2))))
    assert found["within"] == pytest.approx(np.mean(np.abs(difference).round(9) <= 0.01))
    assert found["bias"] == pytest.approx(0.6094 - 0.5346, abs=1e-4)  # means of research notes, C.2


BEIR = published.figure_rows("figure-3")


@settings(max_examples=8)
@given(st.floats(0.2, 3.0), st.floats(-0.5, 0.5))
def test_trends_do_not_see_the_scale_and_errors_do(factor: float, shift: float) -> None:
    theirs = BEIR
    ours = theirs.assign(variant="paper", value=theirs["value"] * factor + shift)
    rows, rule = matched(ours, theirs, dataset="average", metric="ndcg@10")
    everything = {"all cells": pd.Series(True, index=rows.index)}
    found = agreement.grid_agreement(rows, rule, everything, 0.01)
    assert found[["kendall", "spearman"]].to_numpy() == pytest.approx(1.0)
    expected = theirs.groupby("method")["value"].mean() * (factor - 1) + shift
    assert found.set_index("method")["bias"].to_dict() == pytest.approx(expected.to_dict(), abs=1e-9)
    assert (found["rmse"] >= found["bias"].abs() - 1e-9).all() and (found["largest"] >= found["rmse"] - 1e-8).all()
    pairs = agreement.pair_agreement(rows, everything)
    assert (pairs["sign_agreement"] == 1).all() and pairs["effect_ratio"].to_numpy() == pytest.approx(factor)


def test_bands_cover_the_grid_once_per_axis() -> None:
    rows, _ = matched(ours_of("sts"), published.load("sts"), **STS)
    bands = agreement.bands_by_cell(rows)
    sizes = {name: int(inside.sum()) // 8 for name, inside in bands.items()}  # eight lines
    assert sizes == {
        "all cells": 48, "l ≤ 6": 24, "l = 8\N{EN DASH}10": 16, "l = 12": 8, "d ≤ 32": 18, "d = 64": 6, "d ≥ 128": 24,
    }  # fmt: skip


def test_suspect_cells_are_counted_listed_and_left_out_of_a_band_of_their_own(tmp_path: Path) -> None:
    theirs = published.load("starbucks")
    ours = ours_of("starbucks")
    broken = (ours["dataset"] == "quora") & (ours["method"] == "starbucks") & (ours["layer"] == 10)
    ours.loc[broken, "value"] = 0.84
    agreement.write_agreement(ours, theirs, tmp_path / "quora", dataset="quora", metric="ndcg@10")
    tidy = pd.read_csv(tmp_path / "quora.csv")
    own = tidy[(tidy["kind"] == "grid") & (tidy["method"] == "starbucks") & (tidy["statistic"] == "largest")]
    found = own.set_index("band")[["value", "cells"]]
    assert tuple(found.loc["all cells"]) == (pytest.approx(0.84 - 0.0178), 6)
    assert tuple(found.loc["unflagged cells"]) == (0.0, 5)
    assert "| starbucks | starbucks | paper | 10 | 512 | 0.0178 | 0.8400 |" in (tmp_path / "quora.md").read_text()


# Variants and recipes


def test_each_of_our_variants_is_compared_with_the_published_line_it_trains() -> None:
    theirs = published.load("retrieval")
    six = theirs[(theirs["method"] == "+dims") & (theirs["variant"] == "published")]
    ours = pd.concat([six.assign(variant=name, recipe="mine") for name in ("six", "seven", "four", "two", "three")])
    rows, _ = matched(ours, theirs, **MARCO)
    pairs = rows[["variant", "published_variant"]].drop_duplicates()
    assert dict(pairs.itertuples(index=False, name=None)) == {
        "six": "published", "seven": "published", "four": "published-four", "two": "published-two"
    }  # fmt: skip
    lines = agreement.pair_agreement(rows, {"all cells": pd.Series(True, index=rows.index)})
    named = set(lines[["variant", "baseline_variant"]].itertuples(index=False, name=None))
    assert ("six", "seven") not in named and ("seven", "six") not in named  # published once
    assert len(named) == 5


def test_fix_doc_is_matched_on_the_query_layer() -> None:
    theirs = published.load("retrieval")
    ours = theirs[theirs["method"] == "fix-doc"].assign(variant="released")
    rows, _ = matched(ours, theirs, **MARCO)
    assert len(rows) == 48 and (rows["ours"] == rows["published"]).all() and set(rows["layer"]) == set(LAYERS)


def test_seeds_are_averaged_before_they_are_compared() -> None:
    seeds = [OURS.assign(seed=seed, value=OURS["value"] + shift) for seed, shift in enumerate((-0.01, 0.0, 0.04))]
    rows, _ = matched(pd.concat(seeds), THEIRS, **SMALL)
    first = rows.iloc[0]
    assert first["ours"] == pytest.approx(0.12) and first["seeds"] == 3
    assert (first["low"], first["high"]) == (pytest.approx(0.10), pytest.approx(0.15))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match=r"none of its recipes and methods is among the published ones"):
        matched(OURS.assign(method="c", run_id="c", layer=[1, 1, 1, 1, 2, 2, 2, 2], query_layer=[1, 1, 1, 1, 2, 2, 2, 2],
                            dim=[8, 9, 10, 16, 8, 9, 10, 16]), THEIRS, **SMALL)  # fmt: skip
    with pytest.raises(InputError, match="layer 2 is beyond a backbone of 1 layers"):
        matched(OURS, THEIRS, shape=(1, 16), published_shape=(2, 16), **STS)
    with pytest.raises(InputError, match="no dim has a counterpart"):
        scale([1], [8], [1], [16], (2, 16), (2, 16))
    with pytest.raises(InputError, match="unknown dataset 'avrage'; did you mean average"):
        matched(OURS, THEIRS, dataset="avrage", metric="spearman_cosine")


# Other scales


def test_smaller_backbones_are_matched_by_relative_depth_and_width() -> None:
    minilm = scale(range(1, 7), (8, 16, 32, 64, 128, 256, 384), LAYERS, DIMS, (6, 384), (12, 768))
    assert minilm.layers == {1: 2, 2: 4, 3: 6, 4: 8, 5: 10, 6: 12}
    assert minilm.dims == {8: 16, 16: 32, 32: 64, 64: 128, 128: 256, 256: 512, 384: 768}
    demo = scale(range(1, 5), (8, 16, 32, 64), LAYERS, DIMS, (4, 64), (12, 768))
    assert demo.layers == {1: 2, 2: 6, 3: 8, 4: 12}  # 3/12 lies between 2 and 4: the smaller
    assert demo.dims == {8: 128, 16: 256, 32: 512, 64: 768}
    assert not demo.same and "nearest l/L and log2(d/H): layers 1→2, 2→6" in demo.words()
    same = scale((2, 3, 12), (8, 100), LAYERS, DIMS, (12, 768), (12, 768))
    assert same.layers == {2: 2, 12: 12} and same.dims == {8: 8}  # nothing near is put in place of a missing cell


@given(st.integers(1, 24), st.sets(st.integers(1, 1024), min_size=1, max_size=8))
def test_matches_are_one_to_one_in_order_and_reach_the_full_size(depth: int, dims: set[int]) -> None:
    width = max(dims)
    found = scale(range(1, depth + 1), dims, LAYERS, DIMS, (depth, width), (12, 768))
    if (depth, width) == (12, 768):
        return
    for pairs, last in ((found.layers, 12), (found.dims, 768)):
        assert list(pairs.values()) == sorted(set(pairs.values())) and pairs[max(pairs)] == last
    for own, other in found.layers.items():
        gap = abs(Fraction(own, depth) - Fraction(other, 12))
        assert all(gap <= abs(Fraction(own, depth) - Fraction(layer, 12)) for layer in LAYERS)


def test_between_scales_only_trends_are_given_and_the_table_says_so(tmp_path: Path) -> None:
    half = published.load("sts").assign(variant="paper")
    for name, factor in (("layer", 2), ("query_layer", 2), ("dim", 2)):
        half[name] //= factor
    paths = agreement.write_agreement(
        half, published.load("sts"), tmp_path / "half", titles={name: one.title for name, one in STYLES.items()}, **STS
    )
    assert [path.name for path in paths] == ["half.csv", "half.md", "half.tex"]
    with paths[0].open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["scale"] for row in rows} == {"relative"}
    assert {row["statistic"] for row in rows if row["kind"] == "grid"} == {"kendall", "spearman"}
    assert all(float(row["value"]) == pytest.approx(1) for row in rows if row["kind"] == "grid")
    text = paths[1].read_text(encoding="utf-8")
    assert "matched by relative depth and width" in text and "different scales" in text and "RMSE" not in text
    assert "| v1 | BERT-S | paper | BERT | paper | 48 |" in text
    assert text.index("| v1 | BERT | paper | all cells") < text.index("| v1 | BERT-S | paper | all cells")
    rule = matched(ours_of("sts"), published.load("sts"), comparable=False, **STS)[1]
    assert not rule.same and rule.layers == {layer: layer for layer in LAYERS}


def test_the_csv_holds_every_statistic_per_band_with_the_place_of_the_largest(tmp_path: Path) -> None:
    path = agreement.write_agreement(OURS, THEIRS, tmp_path / "small", layer_ends=(1,), dim_ends=(8,), **SMALL)[0]
    tidy = pd.read_csv(path)
    assert set(tidy["band"]) == {"all cells", "l = 1", "l = 2", "d = 8", "d = 16"} and set(tidy["scale"]) == {"same"}
    assert set(tidy.loc[tidy["kind"] == "pair", "statistic"]) == set(agreement.PAIR)
    worst = tidy[(tidy["statistic"] == "largest") & (tidy["method"] == "b") & (tidy["band"] == "all cells")].iloc[0]
    assert (worst["layer"], worst["dim"], worst["value"]) == (2, 8, pytest.approx(0.2))
    assert (tmp_path / "small.tex").read_text(encoding="utf-8").count(r"\bottomrule") == 2
    with pytest.raises(InputError, match=r"no title for the method\(s\) b"):
        agreement.write_agreement(OURS, THEIRS, tmp_path / "none", titles={"a": "A"}, **SMALL)
    assert not list(tmp_path.glob("none*"))


# Side by side


def test_published_ours_and_their_difference_stand_below_each_other() -> None:
    theirs = published.figure_rows("figure-1")
    ours = theirs.assign(variant="paper", value=theirs["value"] - 0.02)
    figure = side_by_side.draw(ours, theirs, STYLES, recipes={"v1": "V1", "v2": "V2"}, **STS)
    axes = visible(figure)
    assert len(axes) == 36 and overlaps(figure) == [] and figure.get_size_inches()[0] <= theme.WIDTH
    values = theirs[(theirs["recipe"] == "v2") & (theirs["method"] == "bert")].sort_values(["layer", "dim"])["value"]
    colour = STYLES["bert"].colour
    rows = [[y for ax in axes[start : start + 6] for y in drawn(ax)[colour]] for start in (18, 24)]
    assert rows[0] == list(values) and rows[1] == pytest.approx(list(values - 0.02))
    below = [y for ax in axes[30:36] for line in ax.get_lines() if line.get_color() == colour
             for y in line.get_ydata()]  # fmt: skip
    assert below == pytest.approx([-0.02] * 48)
    assert len({ax.get_ylim() for ax in axes[18:30]}) == 1
    assert [axes[at].get_ylabel() for at in (0, 6, 12)] == [
        "V1, published",
        "V1, ours",
        "V1, ours \N{MINUS SIGN} published",
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "BERT", "BERT-S", "MSE", "2DMSE-V1", "2DMSE-V2"
    ]  # fmt: skip


def test_heat_maps_side_by_side_print_both_values_and_the_difference() -> None:
    theirs = published.figure_rows("figure-5")
    ours = theirs.assign(variant="released", value=theirs["value"] + 0.01)
    figure = side_by_side.draw_heatmaps(ours, theirs, STYLES, methods=["fix-doc"], **MARCO)
    assert overlaps(figure) == []
    found = matrices_of(figure)
    assert found["FIX-DOC: published"][2][4] == ".303" and found["ours"][2][4] == ".313"
    assert {text for row in found["ours \N{MINUS SIGN} published"] for text in row} == {"+.010"}


def test_other_scales_are_drawn_on_the_published_cells_and_named() -> None:
    theirs = published.figure_rows("figure-5")
    small = theirs[theirs["dim"] > 8].assign(variant="paper")
    for name in ("layer", "query_layer", "dim"):
        small[name] //= 2
    for draw in (side_by_side.draw, side_by_side.draw_heatmaps):
        figure = draw(small, theirs, STYLES, **MARCO)
        assert overlaps(figure) == []
        note = " ".join(figure.get_supxlabel().split())
        assert "layers 1→2, 2→4, 3→6, 4→8, 5→10, 6→12" in note and "8→16" in note and "different scales" in note
    lines = side_by_side.draw(small, theirs, STYLES, **MARCO)
    assert visible(lines)[1].get_title() == "layer 4 (ours 2)"
