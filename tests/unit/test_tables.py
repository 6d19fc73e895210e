"""The printed tables: every number, bold mark and count against grids small enough to work out by hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from matryobench.analysis import cells, means, tables
from matryobench.errors import InputError

STS: dict[str, Any] = {"dataset": "average", "metric": "spearman_cosine"}
PUBLISHED = Path(__file__).parents[2].parent / "shared" / "published" / "sts_grid.csv"
PUBLISHED_RETRIEVAL = PUBLISHED.with_name("retrieval_grid.csv")


def table(
    *rows: tuple[str, int, int, float], variant: str = "paper", recipe: str = "v1", seed: int = 0
) -> pd.DataFrame:
    """A cells table from (method, layer, dim, value)."""
    full = [
        (
            "tiny",
            "sts",
            "average",
            "spearman_cosine",
            m,
            variant,
            recipe,
            "native",
            seed,
            la,
            la,
            d,
            v,
            10,
            f"{m}-{seed}",
        )
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
    by_cell = means.grid(SMALL, decimals=3, **STS).set_index(["method", "layer", "dim"])
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
    grid = means.grid(SMALL, decimals=2, **STS)
    layers = means.marginal_means(grid, "dim").set_index(["method", "layer"])["mean"]
    assert layers.to_dict() == pytest.approx(
        {("a", 1): 0.6005, ("b", 1): 0.552, ("c", 1): 0.15, ("a", 2): 0.6}
    )  # b at layer 2 has one dim of two
    dims = means.marginal_means(grid, "layer").set_index(["method", "dim"])["mean"]
    assert dims.to_dict() == pytest.approx({("a", 8): 0.4, ("a", 16): 0.8005, ("b", 8): 0.5})
    shared = means.marginal_means(grid, "layer", shared=True).set_index(["method", "dim"])["mean"]
    assert shared.to_dict() == pytest.approx(  # all three share (1, 8) and (1, 16)
        {("a", 8): 0.5, ("a", 16): 0.701, ("b", 8): 0.4, ("b", 16): 0.704, ("c", 8): 0.1, ("c", 16): 0.2}
    )


def test_wins_count_strict_bests_and_ties_among_compared_cells() -> None:
    wins = means.wins(means.grid(SMALL, decimals=2, **STS)).set_index("method")
    assert wins[["cells", "compared", "strictly_best", "tied_best"]].to_numpy().tolist() == [
        [4, 3, 1, 1],
        [3, 3, 1, 1],
        [2, 2, 0, 0],
    ]


def test_recipes_are_never_compared_with_each_other() -> None:
    both = pd.concat([SMALL, table(("a", 1, 8, 0.9), ("b", 1, 8, 0.1), recipe="v2")])
    best = means.grid(both, decimals=2, **STS).set_index(["recipe", "method", "layer", "dim"])["best"]
    assert best[("v1", "a", 1, 8)] and best[("v2", "a", 1, 8)]
    of_dims = means.marginal_means(means.grid(both, decimals=2, **STS), "dim")
    assert set(of_dims.loc[of_dims["recipe"] == "v2", "method"]) == {"a", "b"}  # v2's own grid has one dim


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
    wins = means.wins(means.grid(frame, decimals=3, **STS))
    assert marks == wins["strictly_best"].sum() + wins["tied_best"].sum()
    best = published.groupby(["implementation", "layer", "dim"])["value"].transform("max") == published["value"]
    assert marks == best.sum()


def test_bands_hold_the_dims_of_the_grid_under_true_titles() -> None:
    def titles(dims: list[int], ends: list[int]) -> list[str]:
        return [band.title for band in means.bands_of(dims, ends)]

    dims = [8, 16, 32, 64, 128, 256, 512, 768]
    assert titles(dims, [32, 64]) == ["all dims", "d ≤ 32", "d = 64", "d ≥ 128"]
    assert titles(dims, [8, 48, 256]) == ["all dims", "d = 8", "d = 16\N{EN DASH}32", "d = 64\N{EN DASH}256", "d ≥ 512"]
    assert titles(dims, [64, 32, 1000]) == ["all dims", "d ≤ 32", "d = 64", "d ≥ 128"]
    assert titles(dims[:2], [32, 64]) == titles([128], [32, 64]) == ["all dims"]  # one band says nothing more


def test_band_means_are_over_the_cells_of_the_band_and_shared_where_rows_lack_some(tmp_path: Path) -> None:
    full = table(*((name, layer, dim, layer / 10 + dim / 1000 + shift) for name, shift in (("a", 0.0), ("b", 0.05))
                   for layer in (1, 2) for dim in (8, 16, 64)))  # fmt: skip
    frame = pd.concat([full, table(("c", 1, 8, 0.9), ("c", 2, 16, 0.8))])
    tables.write_bands(frame, tmp_path / "bands", bands=[16], decimals=3, titles={"a": "A", "c": "C", "b": "B"}, **STS)
    assert lines(tmp_path / "bands.md") == [
        "**spearman_cosine, average, mean over layers and bands of dims**",
        "",
        "| recipe | method | variant | all dims | d ≤ 16 | d = 64 |",
        "| :-- | :-- | :-- | --: | --: | --: |",
        "| v1 | A | paper | 0.179 | 0.162 | 0.214 |",
        "| v1 | C | paper | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} |",
        "| v1 | B | paper | **0.229** | **0.212** | **0.264** |",
        "",
        "**spearman_cosine, average, mean over layers and bands of dims in the cells that all rows of the recipe have "
        "(compare within a column)**",
        "",
        "| recipe | method | variant | all dims | d ≤ 16 | d = 64 |",
        "| :-- | :-- | :-- | --: | --: | --: |",
        "| v1 | A | paper | 0.162 | 0.162 | \N{EN DASH} |",  # (1, 8) and (2, 16)
        "| v1 | C | paper | **0.850** | **0.850** | \N{EN DASH} |",
        "| v1 | B | paper | 0.212 | 0.212 | \N{EN DASH} |",
    ]
    tidy = pd.read_csv(tmp_path / "bands.csv")
    assert list(tidy.columns) == [
        "statistic", "scope", "recipe", "method", "variant", "band", "low", "high", "value", "cells"
    ]  # fmt: skip
    one = tidy[(tidy["scope"] == "all_cells") & (tidy["method"] == "b") & (tidy["band"] == "d ≤ 16")].iloc[0]
    assert (one["low"], one["high"], one["cells"]) == (8, 16, 4) and one["value"] == pytest.approx(0.212)
    assert r"d $\leq$ 16" in (tmp_path / "bands.tex").read_text(encoding="utf-8")


def test_rows_without_any_common_cell_give_a_table_of_gaps(tmp_path: Path) -> None:
    frame = table(("a", 1, 8, 0.1), ("b", 2, 16, 0.2))
    tables.write_bands(frame, tmp_path / "bands", bands=[8], **STS)
    tables.write_summary(frame, tmp_path / "summary", **STS)
    gap = "\N{EN DASH}"
    assert lines(tmp_path / "bands.md").count(f"| v1 | a | paper | {gap} | {gap} | {gap} |") == 1
    assert lines(tmp_path / "summary.md").count(f"| v1 | a | paper | {gap} | {gap} |") == 4


def published_retrieval(metric: str) -> pd.DataFrame:
    """Every method of the published retrieval grids once (figures 4 and 5 repeat lines of figure 2)."""
    if not PUBLISHED_RETRIEVAL.exists():
        pytest.skip("../shared/published/retrieval_grid.csv is not here")
    raw = pd.read_csv(PUBLISHED_RETRIEVAL)
    raw = raw[raw["metric"] == metric].drop_duplicates(["method", "layer", "dim"])
    rows = table(*raw[["method", "layer", "dim", "value"]].itertuples(index=False, name=None))
    return rows.assign(task="retrieval", metric=metric, dataset=raw["task"].to_list())


def test_bands_of_the_published_grid_are_those_of_the_research_notes(tmp_path: Path) -> None:
    frame = published_retrieval("mrr@10")
    # shared/research/reference-implementations.md, C.2; the paper's text prints MRR@10 as figures only
    expected = {  # mean, d <= 32, d >= 128
        "2dmse": (0.1544, 0.0037, 0.2726), "score": (0.1471, 0.0005, 0.2899), "full-dim": (0.1614, 0.0031, 0.2904),
        "+dims[8,16,32,64,128,512]": (0.1764, 0.0938, 0.2302), "+dims[8,32,128,512]": (0.1635, 0.0853, 0.2165),
        "+dims[8,16,32,64,128,512]+full-dim": (0.1748, 0.0915, 0.2288), "+dims[32,128]": (0.1625, 0.0639, 0.2275),
        "fix-doc": (0.1499, 0.0037, 0.2640), "paired-doc": (0.1544, 0.0037, 0.2726), "bert-s": (0.2468, 0.1546, 0.3068),
    }  # fmt: skip
    tables.write_bands(frame, tmp_path / "bands", dataset="msmarco-dev", metric="mrr@10", bands=[32, 64])
    tidy = pd.read_csv(tmp_path / "bands.csv")
    assert set(tidy["scope"]) == {"all_cells"}
    wide = tidy.pivot(index="method", columns="band", values="value")
    for method, values in expected.items():
        found = tuple(wide.loc[method, ["all dims", "d ≤ 32", "d ≥ 128"]])
        assert found == pytest.approx(values, rel=0, abs=5.001e-5), method  # the mean of score is .28995 exactly
    counts = tidy.drop_duplicates("band").set_index("band")["cells"].to_dict()
    assert counts == {"all dims": 48, "d ≤ 32": 18, "d = 64": 6, "d ≥ 128": 24}


def test_sets_have_a_column_each_and_the_average_last(tmp_path: Path) -> None:
    def on(dataset: str, shift: float) -> pd.DataFrame:
        rows = table(("a", 2, 16, 0.1 + shift), ("a", 1, 8, 0.3 + shift), ("b", 2, 16, 0.2), ("c", 1, 8, 0.05 + shift))
        return rows.assign(dataset=dataset, task="retrieval", metric="ndcg@10")

    frame = pd.concat([on("average", 0.1), on("scifact", 0.2), on("arguana", 0.0)])
    other = frame[frame["dataset"] == "scifact"].assign(metric="mrr@10", value=0.99)
    frame = pd.concat([frame, other])
    wanted = {"metric": "ndcg@10", "decimals": 2}
    tables.write_sets(frame, tmp_path / "sets", cells=[(2, 16), (9, 9), (1, 8)], **wanted)
    assert lines(tmp_path / "sets.md") == [
        "**ndcg@10 per set**",
        "",
        "| recipe | layer | dim | method | variant | arguana | scifact | average |",
        "| :-- | :-- | :-- | :-- | :-- | --: | --: | --: |",
        "| v1 | 2 | 16 | a | paper | 0.10 | **0.30** | **0.20** |",
        "| v1 | 2 | 16 | b | paper | **0.20** | 0.20 | **0.20** |",
        "| v1 | 1 | 8 | a | paper | **0.30** | **0.50** | **0.40** |",
        "| v1 | 1 | 8 | c | paper | 0.05 | 0.25 | 0.15 |",
    ]
    assert lines(tmp_path / "sets.tex").count(r"\midrule") == 2
    assert lines(tmp_path / "sets.csv")[0] == "recipe,layer,dim,method,variant,arguana,scifact,average"
    tables.write_sets(frame, tmp_path / "full", datasets=["scifact"], titles={"b": "B", "a": "A", "c": "C"}, **wanted)
    assert lines(tmp_path / "full.md")[4:] == [
        "| v1 | 2 | 16 | B | paper | 0.20 |",
        "| v1 | 2 | 16 | A | paper | **0.30** |",
    ]
    with pytest.raises(InputError, match=r"no run was evaluated at \(layer 3, dim 8\); name cells of the grid"):
        tables.write_sets(frame, tmp_path / "none", cells=[(3, 8)], **wanted)
    with pytest.raises(InputError, match="unknown dataset 'scifct'; did you mean scifact"):
        tables.write_sets(frame, tmp_path / "none", datasets=["scifct"], **wanted)
    with pytest.raises(InputError, match="unknown metric 'ndcg@1'; did you mean ndcg@10"):
        tables.write_sets(frame, tmp_path / "none", metric="ndcg@1")


def test_tables_hold_native_rows_under_the_query_layer(tmp_path: Path) -> None:
    fixed = table(("fix-doc", 1, 8, 0.3), ("fix-doc", 2, 8, 0.4)).assign(layer=2)
    frame = pd.concat([fixed, table(("fix-doc", 1, 8, 0.9), ("fix-doc", 2, 8, 0.9)).assign(backend="tevatron")])
    tables.write_grid(frame, tmp_path / "grid", decimals=1, **STS)
    assert lines(tmp_path / "grid.csv")[1:] == ["v1,1,fix-doc,paper,0.3", "v1,2,fix-doc,paper,0.4"]
