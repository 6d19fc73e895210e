"""The printed tables: every number, bold mark and count against grids small enough to work out by hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from matryobench.analysis import cells, tables
from matryobench.errors import InputError

STS: dict[str, Any] = {"dataset": "average", "metric": "spearman_cosine"}
PUBLISHED = Path(__file__).parents[2].parent / "shared" / "published" / "sts_grid.csv"


def table(
    *rows: tuple[str, int, int, float], variant: str = "paper", recipe: str = "v1", seed: int = 0
) -> pd.DataFrame:
    """A cells table from (method, layer, dim, value)."""
    full = [
        ("tiny", "sts", "average", "spearman_cosine", m, variant, recipe, seed, la, la, d, v, 10, f"{m}-{seed}")
        for m, la, d, v in rows
    ]
    return pd.DataFrame(full, columns=list(cells.COLUMNS))


# (1, 8): a wins; (1, 16): a and b tie when printed; (2, 8): c is missing, b wins; (2, 16): only a was evaluated
SMALL = table(
    ("a", 1, 8, 0.50), ("a", 1, 16, 0.701), ("a", 2, 8, 0.30), ("a", 2, 16, 0.90),
    ("b", 1, 8, 0.40), ("b", 1, 16, 0.704), ("b", 2, 8, 0.60),
    ("c", 1, 8, 0.10), ("c", 1, 16, 0.200),
)  # fmt: skip


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_markdown_grid_prints_means_bold_ties_and_gaps(tmp_path: Path) -> None:
    written = tables.write_grid(SMALL, tmp_path / "grid", decimals=2, **STS)
    assert [path.name for path in written] == ["grid.csv", "grid.md", "grid.tex"]
    assert lines(tmp_path / "grid.md") == [
        "**spearman_cosine, average, per layer and dim**",
        "",
        "| recipe | layer | method | variant | 8 | 16 |",
        "| :-- | :-- | :-- | :-- | --: | --: |",
        "| v1 | 1 | a | paper | **0.50** | **0.70** |",
        "| v1 | 1 | b | paper | 0.40 | **0.70** |",
        "| v1 | 1 | c | paper | 0.10 | 0.20 |",
        "| v1 | 2 | a | paper | 0.30 | 0.90 |",
        "| v1 | 2 | b | paper | **0.60** | \N{EN DASH} |",
    ]


def test_latex_grid_has_booktabs_rules_between_layers(tmp_path: Path) -> None:
    tables.write_grid(SMALL, tmp_path / "grid", decimals=2, titles={"b": "B_1 & co", "c": "C", "a": "ff->mrl"}, **STS)
    assert lines(tmp_path / "grid.tex") == [
        "% spearman_cosine, average, per layer and dim",
        r"\begin{tabular}{llllrr}",
        r"\toprule",
        r"recipe & layer & method & variant & 8 & 16 \\",
        r"\midrule",
        r"v1 & 1 & B\_1 \& co & paper & 0.40 & \textbf{0.70} \\",
        r" &  & C & paper & 0.10 & 0.20 \\",
        r" &  & ff-\textgreater{}mrl & paper & \textbf{0.50} & \textbf{0.70} \\",
        r"\midrule",
        r" & 2 & B\_1 \& co & paper & \textbf{0.60} & -- \\",
        r" &  & ff-\textgreater{}mrl & paper & 0.30 & 0.90 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_csv_grid_is_exact_and_empty_where_missing(tmp_path: Path) -> None:
    tables.write_grid(SMALL, tmp_path / "grid", decimals=2, **STS)
    with (tmp_path / "grid.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["recipe", "layer", "method", "variant", "8", "16"]
    assert rows[2] == ["v1", "1", "b", "paper", "0.4", "0.704"]
    assert rows[5] == ["v1", "2", "b", "paper", "0.6", ""]


def test_more_decimals_break_a_printed_tie() -> None:
    by_cell = tables.grid(SMALL, decimals=3, **STS).set_index(["method", "layer", "dim"])
    assert not by_cell.loc[("a", 1, 16), "best"] and by_cell.loc[("b", 1, 16), "sole"]


def test_seeds_print_as_mean_and_sample_deviation(tmp_path: Path) -> None:
    seeds = pd.concat([table(("a", 1, 8, value), seed=seed) for seed, value in enumerate((0.1, 0.2, 0.6))])
    tables.write_grid(pd.concat([seeds, table(("b", 1, 8, 0.4))]), tmp_path / "grid", decimals=3, **STS)
    text = (tmp_path / "grid.md").read_text()
    assert "(mean ± sd over 1 to 3 seeds)" in text
    assert "| 0.300 ± 0.265 |" in text and "| **0.400** |" in text
    assert r"0.300 $\pm$ 0.265" in (tmp_path / "grid.tex").read_text()
    header, first, second = lines(tmp_path / "grid.csv")
    assert header.endswith(",8,8 sd") and second.endswith(",0.4,")
    assert [float(entry) for entry in first.split(",")[-2:]] == pytest.approx([0.3, 0.07**0.5])


def test_means_are_given_only_to_rows_that_have_all_cells() -> None:
    grid = tables.grid(SMALL, decimals=2, **STS)
    layers = tables.marginal_means(grid, "dim").set_index(["method", "layer"])["value"]
    assert layers.to_dict() == pytest.approx(
        {("a", 1): 0.6005, ("b", 1): 0.552, ("c", 1): 0.15, ("a", 2): 0.6}
    )  # b at layer 2 has one dim of two
    dims = tables.marginal_means(grid, "layer").set_index(["method", "dim"])["value"]
    assert dims.to_dict() == pytest.approx({("a", 8): 0.4, ("a", 16): 0.8005, ("b", 8): 0.5})
    shared = tables.marginal_means(grid, "layer", shared=True).set_index(["method", "dim"])["value"]
    assert shared.to_dict() == pytest.approx(  # all three share (1, 8) and (1, 16)
        {("a", 8): 0.5, ("a", 16): 0.701, ("b", 8): 0.4, ("b", 16): 0.704, ("c", 8): 0.1, ("c", 16): 0.2}
    )


def test_wins_count_strict_bests_and_ties_among_compared_cells() -> None:
    wins = tables.wins(tables.grid(SMALL, decimals=2, **STS)).set_index("method")
    assert wins[["cells", "compared", "strictly_best", "tied_best"]].to_numpy().tolist() == [
        [4, 3, 1, 1],
        [3, 3, 1, 1],
        [2, 2, 0, 0],
    ]


def test_recipes_are_never_compared_with_each_other() -> None:
    both = pd.concat([SMALL, table(("a", 1, 8, 0.9), ("b", 1, 8, 0.1), recipe="v2")])
    best = tables.grid(both, decimals=2, **STS).set_index(["recipe", "method", "layer", "dim"])["best"]
    assert best[("v1", "a", 1, 8)] and best[("v2", "a", 1, 8)]
    means = tables.marginal_means(tables.grid(both, decimals=2, **STS), "dim")
    assert set(means.loc[means["recipe"] == "v2", "method"]) == {"a", "b"}  # v2's own grid has one dim


def test_variants_are_rows_of_their_own(tmp_path: Path) -> None:
    both = pd.concat([table(("a", 1, 8, 0.5)), table(("a", 1, 8, 0.6), variant="released")])
    tables.write_grid(both, tmp_path / "grid", decimals=1, **STS)
    assert "| v1 | 1 | a | released | **0.6** |" in (tmp_path / "grid.md").read_text()


def test_summary_files_hold_means_shared_means_and_counts(tmp_path: Path) -> None:
    tables.write_summary(SMALL, tmp_path / "sum", decimals=2, titles={"a": "A", "b": "B", "c": "C"}, **STS)
    text = (tmp_path / "sum.md").read_text()
    assert "| v1 | A | paper | **0.60** | 0.60 |" in text  # mean over dims at layers 1 and 2; no rival at layer 2
    assert "| v1 | B | paper | 0.55 | \N{EN DASH} |" in text
    assert "| v1 | A | paper | 4 | 3 | 1 | 1 |" in text
    assert "in the cells that all rows of the recipe have" in text
    assert (tmp_path / "sum.tex").read_text().count(r"\toprule") == 5
    tidy = pd.read_csv(tmp_path / "sum.csv")
    one = tidy[(tidy["statistic"] == "mean_over_dims") & (tidy["scope"] == "all_cells") & (tidy["method"] == "a")]
    assert one.set_index("layer")["value"].to_dict() == pytest.approx({1: 0.6005, 2: 0.6})
    complete = SMALL[SMALL["method"] == "a"]
    tables.write_summary(complete, tmp_path / "full", **STS)
    assert "all rows of the recipe" not in (tmp_path / "full.md").read_text()


def test_a_method_without_a_title_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no title for the method\(s\) b, c"):
        tables.write_grid(SMALL, tmp_path / "grid", titles={"a": "A"}, **STS)
    assert list(tmp_path.iterdir()) == []


def test_published_grid_is_printed_as_published(tmp_path: Path) -> None:
    if not PUBLISHED.exists():
        pytest.skip("../shared/published/sts_grid.csv is not here")
    published = pd.read_csv(PUBLISHED)
    frame = pd.concat(
        table(*own[["method", "layer", "dim", "value"]].itertuples(index=False, name=None), recipe=str(recipe))
        for recipe, own in published.groupby("implementation")
    )
    tables.write_grid(frame, tmp_path / "grid", decimals=3, **STS)
    printed = pd.read_csv(tmp_path / "grid.csv").set_index(["recipe", "layer", "method"])
    for dim, own in published.groupby("dim"):
        expected = own.set_index(["implementation", "layer", "method"])["value"]
        assert printed[str(dim)].to_dict() == expected.to_dict()
    text = (tmp_path / "grid.md").read_text()
    marks = text.count("**") // 2 - 1  # less the title
    wins = tables.wins(tables.grid(frame, decimals=3, **STS))
    assert marks == wins["strictly_best"].sum() + wins["tied_best"].sum()
    best = published.groupby(["implementation", "layer", "dim"])["value"].transform("max") == published["value"]
    assert marks == best.sum()
