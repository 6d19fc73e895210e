"""The published numbers in the package: carried whole, read into our names, and drawn by the figures of our own runs."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from test_figures import drawn, matrices_of, overlaps, visible

from matryobench.analysis import cells, published, tables
from matryobench.analysis.agreement import decimals_of
from matryobench.errors import InputError
from matryobench.figures import differences, heatmaps, panels, theme
from matryobench.figures import sizes as size_lines
from matryobench.paths import DATASETS, METHODS
from matryobench.published.sources import FOLDER, sources

STYLES = {
    name: theme.Style(one["title"], one["colour"], one["marker"])
    for name, one in yaml.safe_load(METHODS.read_text(encoding="utf-8")).items()
}


def value(frame: pd.DataFrame, method: str, layer: int, dim: int, **more: str) -> float:
    rows = frame[(frame["method"] == method) & (frame["query_layer"] == layer) & (frame["dim"] == dim)]
    for name, wanted in more.items():
        rows = rows[rows[name] == wanted]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


def wide(frame: pd.DataFrame, method: str, variant: str = "published") -> pd.Series:
    rows = frame[(frame["method"] == method) & (frame["variant"] == variant)]
    return rows.set_index(["query_layer", "dim"])["value"]


# What is carried


def test_the_files_are_those_that_were_read(shared_data: Path) -> None:
    for name in sources().files:
        assert (FOLDER / name).read_bytes() == (shared_data.parent / "published" / name).read_bytes()


def test_every_file_has_its_source_precision_and_shape() -> None:
    assert set(sources().files) == {path.name for path in FOLDER.glob("*.csv")}
    for experiment in published.EXPERIMENTS:
        source = sources().files[published._LOADERS[experiment][0]]
        assert source.repository.startswith("https://github.com/ielab/") and source.files and source.how
        assert source.shape == published.SHAPE
        frame = published.load(experiment)
        assert set(source.decimals) == set(frame["metric"])
        for metric, decimals in source.decimals.items():
            assert decimals_of(frame.loc[frame["metric"] == metric, "value"]) == decimals


def test_the_four_suspect_cells_are_carried_with_a_reason_and_taint_their_averages() -> None:
    with (FOLDER / "starbucks_sizes.csv").open(encoding="utf-8") as stream:
        marked = [row for row in csv.DictReader(stream) if row["flag"]]
    told = {(flag.method, flag.size, flag.dataset, flag.value) for flag in sources().flags}
    assert told == {(row["method"], row["size"], row["dataset"], float(row["value"])) for row in marked}
    found = published.flagged()
    assert len(found) == 2 * len(marked) == 8 and found["reason"].str.contains("unknown").all()
    assert set(found["dataset"]) == {"quora", "average"}
    frame = published.load("starbucks")
    for _, row in found.iterrows():  # they are rows of the table like any other
        at = (row["method"], int(row["layer"]), int(row["dim"]))
        assert math.isfinite(value(frame, *at, dataset=row["dataset"], metric="ndcg@10"))
    suspects = found[found["dataset"] == "quora"]
    assert {(row["method"], row["layer"]) for _, row in suspects.iterrows()} == {
        ("2dmse", 8), ("2dmse", 10), ("starbucks", 10), ("srl", 12)
    }  # fmt: skip


# What it is read into


def test_frames_are_cells_tables_in_our_names() -> None:
    methods, datasets = set(STYLES), set(yaml.safe_load(DATASETS.read_text(encoding="utf-8"))) | {"average"}
    everything = published.load_all()
    assert len(everything) == sum(len(published.load(name)) for name in published.EXPERIMENTS) == 384 + 720 + 720
    assert tuple(everything.columns) == cells.COLUMNS
    assert set(everything["method"]) <= methods and set(everything["dataset"]) <= datasets
    assert set(everything["experiment"]) == {"published"} and set(everything["seed"]) == {0}
    assert set(everything["variant"]) == {"published", "published-four", "published-two"}
    assert {task: set(own["recipe"]) for task, own in everything.groupby("task")} == {
        "sts": {"v1", "v2", "starbucks"}, "retrieval": {"marco", "starbucks"},
    }  # fmt: skip
    fixed = everything["method"] == "fix-doc"
    assert set(everything.loc[fixed, "layer"]) == {12} and set(everything.loc[fixed, "query_layer"]) == set(
        range(2, 13, 2)
    )
    assert (everything.loc[~fixed, "layer"] == everything.loc[~fixed, "query_layer"]).all()


def test_sts_counts_are_those_of_the_research_notes() -> None:
    frame = published.load("sts")
    expected: dict[str, tuple[str, int, set[tuple[int, int]]]] = {
        "v1": ("2dmse-v1", 39, {(2, 8), (4, 8), (6, 8), (10, 8), (12, 8), (12, 16), (12, 32)}),
        "v2": ("2dmse-v2", 40, {(12, 64), (12, 128), (12, 256)}),
    }
    for recipe, (method, above, best) in expected.items():
        own = frame[frame["recipe"] == recipe]
        ours, mse, separate, bert = (wide(own, name) for name in (method, "mse", "bert-s", "bert"))
        below_last = ours.index.get_level_values(0) < 12
        assert int((ours > mse)[below_last].sum()) == above
        assert set((ours > separate)[lambda won: won].index) == best
        assert (bert[12] == separate[12]).all()


def test_retrieval_lines_stand_once_under_their_lists_of_widths() -> None:
    frame = published.load("retrieval")
    marco = frame[frame["metric"] == "mrr@10"]
    two, separate = wide(marco, "2dmse"), wide(marco, "bert-s")
    assert int((two < separate)[two.index.get_level_values(0) < 12].sum()) == 40
    assert wide(marco, "paired-doc").equals(two)
    means = {  # reference-implementations.md, C.2
        ("bert", "published"): 0.0227, ("mse", "published"): 0.0330, ("score", "published"): 0.1471,
        ("full-dim", "published"): 0.1614, ("+dims", "published"): 0.1764, ("+dims", "published-four"): 0.1635,
        ("+dims", "published-two"): 0.1625, ("+dims+full-dim", "published"): 0.1748, ("fix-doc", "published"): 0.1499,
    }  # fmt: skip
    for line, mean in means.items():
        assert wide(marco, *line).mean() == pytest.approx(mean, abs=5.1e-5)
    beir = frame[frame["metric"] == "ndcg@10"]
    assert set(beir["dataset"]) == {"average"} and wide(beir, "bert")[12, 768] == pytest.approx(0.3844, abs=5e-5)


def test_two_papers_share_the_ms_marco_baselines_but_not_2dmse() -> None:
    both = published.load_all()
    both = both[(both["dataset"] == "msmarco-dev") & (both["variant"] == "published")]
    grid, sizes = (both[both["recipe"] == name] for name in ("marco", "starbucks"))
    for method, same in (("bert", 6), ("bert-s", 6), ("2dmse", 0)):
        one, other = wide(grid, method), wide(sizes, method)
        assert int((one[other.index] == other).sum()) == same


def test_printed_averages_are_the_datasets_average() -> None:
    frame = published.load("starbucks")
    for metric, sets, most in (("spearman_cosine", 7, 1.01e-4), ("ndcg@10", 12, 1.01e-4)):
        own = frame[(frame["metric"] == metric) & ~frame["dataset"].isin(["trec-dl19", "trec-dl20"])]
        single = own[own["dataset"] != "average"]
        assert single["dataset"].nunique() == sets
        means = single.groupby(["method", "layer", "dim"])["value"].mean()
        printed = own[own["dataset"] == "average"].set_index(["method", "layer", "dim"])["value"]
        assert len(printed) == 30 and (means - printed).abs().max() < most


def test_our_variants_with_the_same_list_of_widths_are_counterparts() -> None:
    same = published.is_counterpart
    assert [name for name in ("six", "seven", "four", "two") if same("+dims", "published", name)] == ["six", "seven"]
    assert same("+dims", "published-two", "two") and not same("+dims", "published-two", "six")
    assert same("2dmse", "published", "released") and same("2dmse", "published", "paper")


# What is drawn


@pytest.mark.parametrize("name", published.FIGURES)
def test_every_figure_of_the_paper_is_drawn_by_our_functions(name: str) -> None:
    shown, rows = published.FIGURES[name], published.figure_rows(name)
    assert set(zip(rows["method"], rows["variant"], strict=True)) == set(shown.lines)
    common: dict[str, Any] = {"dataset": shown.dataset, "metric": shown.metric}
    lines = panels.draw(rows, STYLES, **common)
    method = shown.lines[-2 if name != "figure-4-dims" else 1][0]
    recipe = sorted(set(rows.loc[rows["method"] == method, "recipe"]))[0]
    own = rows[(rows["method"] == method) & (rows["recipe"] == recipe)].sort_values(["query_layer", "dim"])
    assert [y for ax in visible(lines)[:6] for y in drawn(ax)[STYLES[method].colour]] == list(own["value"])
    printed = matrices_of(heatmaps.draw(rows, STYLES, **common))
    assert len(printed) == len(rows) // 48
    baseline = "bert-s" if "bert-s" in set(rows["method"]) else shown.lines[0][0]
    maps = differences.draw(rows, STYLES, baseline=baseline, **common)
    assert len(matrices_of(maps)) >= len(shown.lines) - (2 if name == "figure-1" else 1)
    if name == "figure-5":
        assert overlaps(lines) == [] and overlaps(maps) == []
        assert matrices_of(maps)["FIX-DOC"][2][4] == "+.022"  # .3031 - .2812 at layer 6, dim 128


def test_tables_a1_and_a2_are_drawn_from_the_same_frame() -> None:
    frame = published.load("starbucks")
    sizes = published.read_sizes(FOLDER / "starbucks_sizes.csv", "A2").sizes
    groups = {
        "STS average": ("spearman_cosine", ["average"]), "MS MARCO dev": ("mrr@10", ["msmarco-dev"]),
        "BEIR average": ("ndcg@10", ["average"]), "Quora": ("ndcg@10", ["quora"]),
    }  # fmt: skip
    figure = size_lines.draw(frame, STYLES, sizes=sizes, groups=groups)
    panel = next(ax for ax in visible(figure) if ax.get_title() == "Quora")
    assert 0.0178 in drawn(panel)[STYLES["starbucks"].colour]
    panel = next(ax for ax in visible(figure) if ax.get_title() == "BEIR average")
    assert drawn(panel)[STYLES["starbucks"].colour] == [0.2527, 0.3266, 0.3649, 0.3780, 0.3200, 0.3826]
    with pytest.raises(InputError, match="unknown figure 'figure-6'"):
        published.figure_rows("figure-6")


def test_our_tables_print_the_published_numbers(tmp_path: Path) -> None:
    frame = published.figure_rows("figure-2")
    tables.write_bands(frame, tmp_path / "bands", dataset="msmarco-dev", metric="mrr@10", bands=[32, 64])
    tidy = pd.read_csv(tmp_path / "bands.csv").pivot(index="method", columns="band", values="value")
    assert tuple(tidy.loc["2dmse"].round(4)) == pytest.approx((0.1544, 0.1340, 0.0037, 0.2726), abs=1e-4)


# What is refused


def test_files_that_cannot_be_the_published_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown experiment 'stz'; did you mean sts"):
        published.load("stz")
    with pytest.raises(InputError, match=r"sts_grid\.csv does not exist"):
        published.load("sts", tmp_path)
    path = tmp_path / "sts_grid.csv"
    path.write_text("task,value\nsts-avg,1\n")
    with pytest.raises(InputError, match="must have exactly these columns: implementation, task"):
        published.load("sts", tmp_path)
    head = "implementation,task,method,layer,dim,value\n"
    path.write_text(head + "v1,sts-avg,bert,2,8,0.4\nv1,sts-avg,bert,2,16,n/a\n")
    with pytest.raises(InputError, match="line 3: value 'n/a' is not a number"):
        published.load("sts", tmp_path)
    path.write_text(head + "v1,sts-avg,bert,2,8,0.4\nv1,sts-avg,bert,2,8,0.4\n")
    with pytest.raises(InputError, match="published numbers of sts lines 1 and 2 both score"):
        published.load("sts", tmp_path)


def test_a_line_that_figures_repeat_must_repeat_its_values(tmp_path: Path) -> None:
    head = "figure,task,metric,method,layer,dim,value\n"
    one = "a,msmarco-dev,mrr@10,2dmse,2,8,0.1\n"
    path = tmp_path / "retrieval_grid.csv"
    path.write_text(head + one + one.replace("a,", "b,", 1))
    assert len(published.load("retrieval", tmp_path)) == 1
    path.write_text(head + one + "b,msmarco-dev,mrr@10,2dmse,2,8,0.2\n")
    with pytest.raises(InputError, match=r"line 3: 2dmse has another value here than above"):
        published.load("retrieval", tmp_path)


def test_decimals_are_those_that_hold_all_values() -> None:
    assert decimals_of(pd.Series([0.5, 0.25])) == 2 and decimals_of(pd.Series([0.0, 1.0])) == 0
    assert decimals_of(pd.Series(np.arange(1000) / 1000)) == 3
    assert decimals_of(pd.Series([1 / 3])) == 6
