"""Performance against width: ratios and intervals by hand, tables, and what the figure draws."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_figures import overlaps, visible

from matryobench.analysis import cells, relative
from matryobench.errors import InputError
from matryobench.figures import relative as figure
from matryobench.figures import theme
from matryobench.figures.theme import Style

STYLES = {
    "ff": Style("FF", "#999933", "<"),
    "mrl": Style("MRL", "#56B4E9", ">"),
    "ff->mrl": Style("FF→MRL", "#882255", "X"),
}
FAMILIES = {"classification": ["a", "b"], "retrieval": ["r"]}
DIMS = (8, 16)
VALUES = {  # method, dataset -> by dim
    ("ff", "a"): (0.40, 0.80), ("ff", "b"): (0.30, 0.50), ("ff", "r"): (0.10, 0.40),
    ("mrl", "a"): (0.60, 0.75), ("mrl", "b"): (0.45, 0.60), ("mrl", "r"): (0.30, 0.50),
}  # fmt: skip


def frame(
    values: dict[tuple[str, str], tuple[float, ...]] = VALUES, *, dims: tuple[int, ...] = DIMS, layer: int = 6,
    seed: int = 0, variant: str = "paper", recipe: str = "medi",
) -> pd.DataFrame:  # fmt: skip
    rows = [
        ("tiny", "mteb", dataset, "ndcg@10" if dataset == "r" else "accuracy", method, variant, recipe, "native", seed,
         layer, layer, dim, value, 10, f"{method}-{variant}-{recipe}-{seed}")
        for (method, dataset), row in values.items() for dim, value in zip(dims, row, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(cells.COLUMNS))


def at(table: pd.DataFrame, **where: Any) -> pd.Series:
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_ratios_by_hand() -> None:
    table = relative.relative(frame(), FAMILIES)
    where = {"method": "mrl", "dataset": "a", "dim": 8}
    assert at(table, statistic="absolute", **where)["mean"] == 0.60
    assert at(table, statistic="own", **where)["mean"] == pytest.approx(0.60 / 0.75)
    assert at(table, statistic="baseline", **where)["mean"] == pytest.approx(0.60 / 0.80)
    assert at(table, statistic="own", method="ff", dataset="r", dim=16)["mean"] == 1


def test_means_and_t_intervals_over_sets() -> None:
    means = relative.over_sets(relative.relative(frame(), FAMILIES))
    row = at(means, statistic="own", family="classification", method="mrl", dim=8)
    ratios = [0.60 / 0.75, 0.45 / 0.60]
    expected = stats.t.interval(0.95, 1, loc=np.mean(ratios), scale=stats.sem(ratios))
    assert row["mean"] == pytest.approx(np.mean(ratios)) and row["sets"] == 2
    assert (row["low"], row["high"]) == pytest.approx(expected)
    single = at(means, statistic="own", family="retrieval", method="mrl", dim=8)
    assert single["mean"] == 0.6 and math.isnan(single["low"]) and math.isnan(single["high"])


def test_seeds_are_averaged_before_ratios() -> None:
    other = {key: tuple(value + 0.1 for value in row) for key, row in VALUES.items()}
    table = relative.relative(pd.concat([frame(), frame(other, seed=1)]), FAMILIES)
    row = at(table, statistic="baseline", method="mrl", dataset="a", dim=8)
    assert row["mean"] == pytest.approx(0.65 / 0.85) and row["seeds"] == 2 and math.isnan(row["sd"])
    assert at(table, statistic="absolute", method="mrl", dataset="a", dim=8)["sd"] == pytest.approx(0.1 / 2**0.5)


def test_the_deepest_layer_unless_another_is_named() -> None:
    shallow = {key: tuple(value / 2 for value in row) for key, row in VALUES.items()}
    both = pd.concat([frame(), frame(shallow, layer=3)])
    assert set(relative.relative(both, FAMILIES)["layer"]) == {6}
    third = relative.relative(both, FAMILIES, layer=3)
    assert at(third, statistic="absolute", method="ff", dataset="a", dim=16)["mean"] == 0.4
    with pytest.raises(InputError, match="unknown layer '4'"):
        relative.relative(both, FAMILIES, layer=4)


def test_rows_that_lack_a_set_have_no_mean() -> None:
    values = {key: row for key, row in VALUES.items() if key != ("mrl", "b")}
    means = relative.over_sets(relative.relative(frame(values), FAMILIES))
    assert set(means[means["family"] == "classification"]["method"]) == {"ff"}


def test_what_has_no_ratio_is_refused() -> None:
    with pytest.raises(InputError, match="unknown baseline method 'fff'; did you mean ff"):
        relative.relative(frame(), FAMILIES, baseline="fff")
    with pytest.raises(InputError, match="unknown task family 'sts'"):
        relative.relative(frame(), {"sts": ["a"]})
    with pytest.raises(InputError, match="unknown dataset 'z'"):
        relative.relative(frame(), {"retrieval": ["z"]})
    with pytest.raises(InputError, match="no test set is named"):
        relative.relative(frame(), {"retrieval": []})
    with pytest.raises(InputError, match="on r: its own full width scores 0, so there is no ratio"):
        relative.relative(frame({**VALUES, ("mrl", "r"): (0.1, 0.0)}), FAMILIES)
    short = frame()
    short = short[~((short["method"] == "ff") & (short["dataset"] == "a") & (short["dim"] == 16))]
    with pytest.raises(InputError, match=r"of ff \(paper, medi\) on a: its own full width was not evaluated"):
        relative.relative(short, FAMILIES)
    alone = frame({key: row for key, row in VALUES.items() if key[0] == "mrl"}, recipe="other")
    with pytest.raises(InputError, match=r"of mrl \(paper, other\) on a: ff's full width was not evaluated"):
        relative.relative(pd.concat([frame(), alone]), FAMILIES)
    two = pd.concat([frame(), frame(variant="released")])
    with pytest.raises(InputError, match="'ff' has the variants paper, released; name one"):
        relative.relative(two, FAMILIES)
    with pytest.raises(InputError, match="unknown variant of 'ff' 'repaired'"):
        relative.relative(two, FAMILIES, variant="repaired")
    assert len(relative.relative(two, FAMILIES, variant="paper")) == 3 * 2 * 2 * 2 * 3


def test_tables_hold_every_set_and_the_mean(tmp_path: Path) -> None:
    titles = {"ff": "FF", "mrl": "MRL", "ff->mrl": "FF→MRL"}
    written = relative.write_relative(frame(), tmp_path / "t", FAMILIES, titles=titles, decimals=2)
    assert [path.name for path in written] == ["t.csv", "t.md", "t.tex"]
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    absolute, own, baseline = text.split("\n\n**")
    assert absolute.splitlines() == [
        "**accuracy, ndcg@10 by dim, layer 6, absolute**",
        "",
        "| recipe | family | dataset | method | variant | 8 | 16 |",
        "| :-- | :-- | :-- | :-- | :-- | --: | --: |",
        "| medi | classification | a | FF | paper | 0.40 | **0.80** |",
        "| medi | classification | a | MRL | paper | **0.60** | 0.75 |",
        "| medi | classification | b | FF | paper | 0.30 | 0.50 |",
        "| medi | classification | b | MRL | paper | **0.45** | **0.60** |",
        "| medi | classification | average | FF | paper | 0.35 | 0.65 |",
        "| medi | classification | average | MRL | paper | **0.53** | **0.68** |",
        "| medi | retrieval | r | FF | paper | 0.10 | 0.40 |",
        "| medi | retrieval | r | MRL | paper | **0.30** | **0.50** |",
    ]
    assert own.startswith("accuracy, ndcg@10 by dim, layer 6, relative to own full width, in percent**")
    assert "| medi | retrieval | r | MRL | paper | **60.0** | **100.0** |" in own
    assert baseline.startswith("accuracy, ndcg@10 by dim, layer 6, relative to FF at full width, in percent**")
    assert "| medi | classification | b | MRL | paper | **90.0** | **120.0** |" in baseline
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    mean = [row for row in rows if (row["dataset"], row["statistic"], row["method"], row["dim"], row["family"])
            == ("average", "own", "mrl", "8", "classification")]  # fmt: skip
    assert len(mean) == 1 and float(mean[0]["value"]) == pytest.approx(0.775) and mean[0]["sets"] == "2"
    assert float(mean[0]["low"]) < 0.775 < float(mean[0]["high"])


def test_the_figure_draws_means_and_intervals() -> None:
    drawn = figure.draw(frame(), STYLES, families=FAMILIES)
    panels = visible(drawn)
    assert [ax.get_title() for ax in panels[:3]] == [
        "absolute",
        "relative to own full width",
        "relative to FF at full width",
    ]
    means = relative.over_sets(relative.relative(frame(), FAMILIES))
    for ax, statistic in zip(panels[:3], relative.STATISTICS, strict=True):
        own = {line.get_color(): list(np.asarray(line.get_ydata(), dtype=float)) for line in ax.get_lines()}
        for method in ("ff", "mrl"):
            rows = means[(means["statistic"] == statistic) & (means["family"] == "classification")]
            expected = rows[rows["method"] == method].sort_values("dim")["mean"]
            assert own[STYLES[method].colour] == pytest.approx(list(expected))
    bars = panels[1].collections[0].get_segments()  # FF at dim 8, in its own place beside the tick
    row = at(means, statistic="own", family="classification", method="ff", dim=8)
    assert list(bars[0][:, 1]) == pytest.approx([row["low"], row["high"]])
    assert panels[0].get_xscale() == "log" and list(panels[0].get_xticks()) == [8, 16]
    assert "\n".join(panels[0].get_ylabel().split("\n")) == "classification (2 sets)\nAccuracy"
    assert panels[3].get_ylabel() == "retrieval (1 set)\nnDCG@10"


def test_the_means_stay_readable_where_bars_are_wide() -> None:
    values = {**VALUES, ("ff", "b"): (0.49, 0.5)}  # ratios .5 and .98 of two sets: an interval from -2.3 to 3.8
    drawn = figure.draw(frame(values), STYLES, families=FAMILIES)
    low, high = visible(drawn)[1].get_ylim()
    assert 0.3 < low < 0.74 and 1 < high < 1.3


def test_only_families_with_an_interval_speak_of_bars() -> None:
    both = figure.draw(frame(), STYLES, families=FAMILIES)
    single = figure.draw(frame(), STYLES, families={"retrieval": ["r"]})
    assert both.get_supxlabel() == "embedding dimension; bars: 95% t-interval over sets"
    assert single.get_supxlabel() == "embedding dimension"


@pytest.mark.parametrize("dims", [(8, 16), (6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768), (768,)])
def test_nothing_overlaps(dims: tuple[int, ...]) -> None:
    values = {
        (method, name): tuple(0.9 - 0.3 / (1 + place + shift) for place in range(len(dims)))
        for shift, method in enumerate(STYLES) for name in ("a", "b", "r")
    }  # fmt: skip
    drawn = figure.draw(frame(values, dims=dims), STYLES, families=FAMILIES)
    with theme.context():
        assert overlaps(drawn) == []


def test_methods_restricts_the_figure_but_keeps_the_baseline() -> None:
    values = {**VALUES, **{("ff->mrl", name): (0.5, 0.6) for name in ("a", "b", "r")}}
    drawn = figure.draw(frame(values), STYLES, families=FAMILIES, methods=["ff->mrl"])
    assert {text.get_text() for text in drawn.legends[0].get_texts()} == {"FF", "FF→MRL"}
