"""Tables and figure of the named sizes: by hand on small grids, and the published tables A1 and A2 as printed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_figures import STYLES, overlaps, visible

from matryobench.analysis import cells, published, sizes
from matryobench.errors import InputError
from matryobench.figures import sizes as figure
from matryobench.figures import theme
from matryobench.figures.theme import Style

SIZES = {"Demi": (1, 8), "Short": (2, 16)}
SETS = {"x": "ndcg@10", "y": "ndcg@10"}
PUBLISHED = Path(__file__).parents[2].parent / "shared" / "published" / "starbucks_sizes.csv"
METHODS = {"bert": "BERT", "bert-s": "BERT-S", "2dmse": "2DMSE", "srl": "SRL", "starbucks": "Starbucks"}


def table(
    values: dict[tuple[str, str, str], float], *, metric: str = "ndcg@10", variant: str = "paper", recipe: str = "v1",
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """A cells table from {(method, size, dataset): value}."""
    rows = [
        ("tiny", "retrieval", dataset, metric, method, variant, recipe, "native", seed, *(SIZES[size][0],) * 2,
         SIZES[size][1], value, 10, f"{method}-{variant}-{seed}")
        for (method, size, dataset), value in values.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(cells.COLUMNS))


SMALL = table({
    ("bert", "Demi", "x"): 0.10, ("bert", "Demi", "y"): 0.30, ("bert", "Short", "x"): 0.50, ("bert", "Short", "y"): 0.10,
    ("srl", "Demi", "x"): 0.20, ("srl", "Demi", "y"): 0.20, ("srl", "Short", "x"): 0.504, ("srl", "Short", "y"): 0.90,
    ("mse", "Demi", "x"): 0.15,
})  # fmt: skip


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def write(frame: pd.DataFrame, stem: Path, **changes: Any) -> list[Path]:
    settings: dict[str, Any] = {"sizes": SIZES, "sets": SETS, "decimals": 2}
    return sizes.write_sizes(frame, stem, **settings | changes)


def test_rows_are_methods_within_sizes_and_the_best_is_bold(tmp_path: Path) -> None:
    written = write(SMALL, tmp_path / "sizes")
    assert [path.name for path in written] == ["sizes.csv", "sizes.md", "sizes.tex"]
    assert lines(tmp_path / "sizes.md") == [
        "**ndcg@10 at the sizes**",
        "",
        "| size | method | x | y | average |",
        "| :-- | :-- | --: | --: | --: |",
        "| Demi (1, 8) | bert | 0.10 | **0.30** | **0.20** |",
        "| Demi (1, 8) | mse | 0.15 | – | – |",
        "| Demi (1, 8) | srl | **0.20** | 0.20 | **0.20** |",
        "| Short (2, 16) | bert | **0.50** | 0.10 | 0.30 |",
        "| Short (2, 16) | srl | **0.50** | **0.90** | **0.70** |",
        "",
        "**ndcg@10, mean over the 2 sizes**",
        "",
        "| method | x | y | average |",
        "| :-- | --: | --: | --: |",
        "| bert | 0.30 | 0.20 | 0.25 |",
        "| srl | **0.35** | **0.55** | **0.45** |",
        "",
        "Bold: the best printed value.",
    ]


def test_csv_is_exact(tmp_path: Path) -> None:
    write(SMALL, tmp_path / "sizes", flags=[("bert", "Short", "y")])
    with (tmp_path / "sizes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == [
        "recipe", "size", "layer", "dim", "method", "variant", "x", "y", "average", "average of unflagged sets",
        "flagged",
    ]  # fmt: skip
    assert rows[4]["x"] == "0.504" and rows[4]["layer"] == "2" and rows[4]["dim"] == "16"
    assert float(rows[4]["average"]) == (0.504 + 0.9) / 2
    assert (rows[1]["y"], rows[1]["average"]) == ("", "")
    assert rows[3]["flagged"] == "y" and rows[3]["average of unflagged sets"] == "0.5"
    assert rows[5]["size"] == "mean of sizes" and rows[5]["layer"] == ""


def test_flagged_values_do_not_compete_and_have_an_average_without_their_set(tmp_path: Path) -> None:
    write(SMALL, tmp_path / "sizes", flags=[("srl", "Short", "y")])
    found = lines(tmp_path / "sizes.md")
    assert found[2] == "| size | method | x | y | average | average without y |"
    # alone in its column, bert's .10 has no rival left; the average with the suspect value competes, with its sign
    assert found[7] == "| Short (2, 16) | bert | **0.50** | 0.10 | 0.30 | **0.50** |"
    assert found[8] == "| Short (2, 16) | srl | **0.50** | 0.90‡ | **0.70‡** | **0.50** |"
    assert "| srl | **0.35** | **0.55‡** | **0.45‡** | **0.35** |" in found
    assert (
        found[-1] == "‡ Flagged as suspect, or a mean with such a value; y is left out of all rows of the last column."
    )


def test_daggers_come_from_the_significance_table_with_their_note(tmp_path: Path) -> None:
    columns = ["recipe", "size", "method", "variant", "dataset", "significant"]
    marks = [("v1", "Demi", "bert", "paper", "y", True), ("v1", "Demi", "bert", "paper", "x", False)]
    significance = pd.DataFrame(marks, columns=columns)
    write(SMALL, tmp_path / "sizes", significance=significance, note="Differs from SRL.")
    found = lines(tmp_path / "sizes.md")
    assert found[4] == "| Demi (1, 8) | bert | 0.10 | **0.30†** | **0.20** |"
    assert found[-1] == "† Differs from SRL."
    latex = lines(tmp_path / "sizes.tex")
    assert r"Demi (1, 8) & bert & 0.10 & \textbf{0.30$^{\dagger}$} & \textbf{0.20} \\" in latex
    assert latex[-1] == r"\par\noindent{\footnotesize $^{\dagger}$ Differs from SRL.}"


def test_several_seeds_recipes_variants_and_titles(tmp_path: Path) -> None:
    other = table({("srl", "Demi", "x"): 0.3, ("srl", "Demi", "y"): 0.5}, seed=1)
    more = table({("srl", "Demi", "x"): 0.7, ("srl", "Demi", "y"): 0.7}, variant="released", recipe="v2")
    own = SMALL[(SMALL["method"] == "srl") & (SMALL["dim"] == 8)]
    write(
        pd.concat([own, other, more]), tmp_path / "sizes", sizes={"Demi": (1, 8)}, titles={"srl": "SRL", "other": "O"}
    )
    found = lines(tmp_path / "sizes.md")
    assert found[0] == "**ndcg@10 at the sizes (mean ± sd over 1 to 2 seeds)**"
    assert found[4:6] == [  # the sd of the average is that of the seeds' averages .20 and .40
        "| v1 | Demi (1, 8) | SRL (paper) | 0.25 ± 0.07 | 0.35 ± 0.21 | 0.30 ± 0.14 |",
        "| v2 | Demi (1, 8) | SRL (released) | 0.70 | 0.70 | 0.70 |",
    ]


def test_sets_of_several_metrics_average_those_that_are_named(tmp_path: Path) -> None:
    dev = table({("srl", "Demi", "dev"): 0.4, ("srl", "Short", "dev"): 0.6}, metric="mrr@10")
    frame = pd.concat([SMALL, dev])
    three = {"dev": "mrr@10", **SETS}
    write(frame, tmp_path / "a", sets=three)
    assert lines(tmp_path / "a.md")[2] == "| size | method | dev (mrr@10) | x (ndcg@10) | y (ndcg@10) |"
    write(frame, tmp_path / "b", sets=three, average=["x", "y"])
    assert lines(tmp_path / "b.md")[2].endswith("| average of 2 |")
    write(frame, tmp_path / "d", sets=three, average=["dev"])  # a set alone is no average
    assert lines(tmp_path / "d.md")[2] == lines(tmp_path / "a.md")[2]
    with pytest.raises(InputError, match="the sets dev, x have different metrics"):
        write(frame, tmp_path / "c", sets=three, average=["dev", "x"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": {}}, "no size or no test set is named"),
        ({"sizes": {"Demi": (9, 8)}}, r"no run was evaluated at any of Demi \(9, 8\)"),
        ({"sizes": {"Demi": (1, 8), "Short": (1, 8)}}, "two of Demi, Short are the same"),
        ({"sets": {"z": "ndcg@10"}}, "unknown dataset 'z'"),
        ({"sets": {"x": "mrr@10"}}, "unknown metric 'mrr@10'"),
        ({"average": ["z"]}, "unknown set of the average 'z'"),
        ({"flags": [("srk", "Demi", "x")]}, "unknown method 'srk'; did you mean srl"),
        ({"flags": [("srl", "Venti", "x")]}, "unknown size 'Venti'"),
        ({"flags": [("srl", "Demi", "z")]}, "unknown dataset 'z'"),
        ({"titles": {"srl": "SRL"}}, r"no title for the method\(s\) bert, mse"),
    ],
)
def test_what_a_table_cannot_be_made_of(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write(SMALL, tmp_path / "sizes", **changes)
    assert not list(tmp_path.iterdir())


# The published tables


def read(name: str) -> published.Published:
    if not PUBLISHED.exists():
        pytest.skip("../shared/published/starbucks_sizes.csv is not here")
    return published.read_sizes(PUBLISHED, name)


def of_metric(table: published.Published, metric: str) -> dict[str, str]:
    return {name: own for name, own in table.sets.items() if own == metric}


@pytest.mark.parametrize(("name", "metric", "off"), [("A1", "spearman_cosine", 3), ("A2", "ndcg@10", 0)])
def test_published_averages_come_out_as_printed(tmp_path: Path, name: str, metric: str, off: int) -> None:
    found = read(name)
    sets = of_metric(found, metric) if name == "A1" else found.sets
    assert len(sets) == {"A1": 7, "A2": 12}[name]
    sizes.write_sizes(found.cells, tmp_path / "t", sizes=found.sizes, sets=sets, flags=found.flags, titles=METHODS)
    own = pd.read_csv(tmp_path / "t.csv").merge(found.averages, on=["size", "method"])
    assert len(own) == 30
    # the paper averaged values of more than four decimals: the last digit may differ by one
    assert (own["average"] - own["value"]).abs().max() < 1e-4
    assert (own["average"].map("{:.4f}".format) != own["value"].map("{:.4f}".format)).sum() == off


def test_published_means_over_six_sizes(tmp_path: Path) -> None:
    expected = {  # research/reference-implementations.md, C.3
        "A1": ("spearman_cosine", [0.6522, 0.7644, 0.7338, 0.7682, 0.7837]),
        "A2": ("ndcg@10", [0.0766, 0.3296, 0.2687, 0.3211, 0.3375]),
    }
    for name, (metric, values) in expected.items():
        found = read(name)
        sizes.write_sizes(found.cells, tmp_path / name, sizes=found.sizes, sets=of_metric(found, metric) if name == "A1"
                          else found.sets, titles=METHODS)  # fmt: skip
        means = pd.read_csv(tmp_path / f"{name}.csv").query("size == 'mean of sizes'")
        assert list(means["method"]) == list(METHODS)
        assert list(means["average"].round(4)) == values


def test_published_flags_and_asterisks(tmp_path: Path) -> None:
    found = read("A2")
    assert {size for _, size, dataset in found.flags if dataset == "quora"} == {"Grande", "Venti", "Trenta"}
    sizes.write_sizes(
        found.cells, tmp_path / "t", sizes=found.sizes, sets=found.sets, flags=found.flags, titles=METHODS,
        significance=found.significance, note=published.NOTE,
    )  # fmt: skip
    text = (tmp_path / "t.md").read_text()
    assert text.count("0.0178‡ ") == 1 and "| 0.1566†‡ |" in text
    venti = next(line for line in lines(tmp_path / "t.md") if line.startswith("| Venti (10, 512) | Starbucks |"))
    assert venti.endswith("| 0.3200‡ | **0.3474** |")  # with and without Quora
    assert "†" not in venti


def test_published_file_with_other_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with pytest.raises(InputError, match="does not exist"):
        published.read_sizes(path, "A1")
    path.write_text("table,size\nA1,Demi\n")
    with pytest.raises(InputError, match="must have exactly these columns"):
        published.read_sizes(path, "A1")
    header = "table,size,layer,dim,method,dataset,metric,value,significant_vs_starbucks,flag\n"
    path.write_text(header + "A1,Demi,2,32,bert,STS-B,pearson,0.5,1,\n")
    with pytest.raises(InputError, match="unknown table 'A3'"):
        published.read_sizes(path, "A3")
    with pytest.raises(InputError, match="unknown metric 'pearson'"):
        published.read_sizes(path, "A1")


# The figure


def test_a_panel_per_group_has_a_line_per_method_over_the_sizes() -> None:
    groups = {"average": ("ndcg@10", ["x", "y"]), "x": ("ndcg@10", ["x"])}
    drawn = figure.draw(SMALL, STYLES, sizes=SIZES, groups=groups)
    first, second = visible(drawn)
    assert [ax.get_title() for ax in (first, second)] == ["average", "x"]
    values = {line.get_color(): list(np.asarray(line.get_ydata(), dtype=float)) for line in first.get_lines()}
    # mse lacks y, so it is in no average
    assert values == {STYLES["bert"].colour: [0.2, 0.3], STYLES["srl"].colour: [0.2, pytest.approx(0.702)]}
    mse = next(line for line in second.get_lines() if line.get_color() == STYLES["mse"].colour)
    assert mse.get_ydata()[0] == 0.15 and np.isnan(mse.get_ydata()[1])
    assert [label.get_text() for label in first.get_xticklabels()] == ["Demi\n(1,8)", "Short\n(2,16)"]
    assert first.get_ylabel() == "nDCG@10"


def test_seeds_give_a_band_from_lowest_to_highest_average() -> None:
    frames = [table({("srl", s, d): 0.2 + 0.1 * seed for s in SIZES for d in SETS}, seed=seed) for seed in range(3)]
    drawn = figure.draw(pd.concat(frames), STYLES, sizes=SIZES, groups={"average": ("ndcg@10", ["x", "y"])})
    band = visible(drawn)[0].collections[0].get_datalim(visible(drawn)[0].transData)
    assert (band.y0, band.y1) == (pytest.approx(0.2), pytest.approx(0.4))


def test_recipes_stand_side_by_side_for_one_group_and_else_in_rows() -> None:
    both = pd.concat([SMALL, SMALL.assign(recipe="v2", run_id=SMALL["run_id"] + "2")])
    titles = {"v2": "V2", "v1": "V1"}
    one = figure.draw(both, STYLES, sizes=SIZES, groups={"x": ("ndcg@10", ["x"])}, recipes=titles)
    assert [ax.get_title() for ax in visible(one)] == ["x, V2", "x, V1"]
    assert visible(one)[0].get_subplotspec().get_gridspec().nrows == 1
    groups = {"x": ("ndcg@10", ["x"]), "y": ("ndcg@10", ["y"])}
    two = figure.draw(both, STYLES, sizes=SIZES, groups=groups, recipes=titles, methods=["bert", "srl"])
    assert [ax.get_title() for ax in visible(two)] == ["x, V2", "y, V2", "x, V1", "y, V1"]
    assert visible(two)[0].get_subplotspec().get_gridspec().nrows == 2


def test_a_group_that_no_run_has_in_full_is_refused() -> None:
    frame = SMALL[(SMALL["dataset"] == "x") == (SMALL["method"] == "mse")]
    with pytest.raises(InputError, match=r"no run has all sets of 'both' \(x, y\)"):
        figure.draw(frame, STYLES, sizes=SIZES, groups={"both": ("ndcg@10", ["x", "y"])})


@pytest.mark.parametrize("count", [1, 2, 6])
def test_nothing_overlaps_with_the_published_numbers(count: int) -> None:
    one, two = read("A1"), read("A2")
    groups = {
        "STS average": ("spearman_cosine", list(of_metric(one, "spearman_cosine"))),
        "MS MARCO dev": ("mrr@10", ["msmarco-dev"]), "TREC DL19": ("ndcg@10", ["trec-dl19"]),
        "TREC DL20": ("ndcg@10", ["trec-dl20"]),
        "BEIR average": ("ndcg@10", list(two.sets)), "Quora": ("ndcg@10", ["quora"]),
    }  # fmt: skip
    styles = {**STYLES, "starbucks": Style("Starbucks", "#AA4499", "*")}
    chosen = dict(list(groups.items())[:count])
    drawn = figure.draw(pd.concat([one.cells, two.cells]), styles, sizes=one.sizes, groups=chosen)
    with theme.context():
        slanted = {f"{name} ({layer},{dim})" for name, (layer, dim) in one.sizes.items()}  # only their boxes overlap
        assert [pair for pair in overlaps(drawn) if not slanted >= set(pair)] == []
    label = visible(drawn)[-1].get_xticklabels()[4].get_text()
    assert label.replace("\n", " ") == "Venti (10,512)"
