"""Counts of cells that differ, are equivalent or undecided: by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from matryobench.analysis import grid_tests, tests_table


def of_cells(dataset: str, rows: list[tuple[float, bool, bool]]) -> pd.DataFrame:
    """Grid tests of one pair of methods: (difference, differs, equivalent) per cell."""
    constant = {
        "task": "sts", "metric": "spearman_cosine", "recipe": "v1", "method": "srl", "variant": "paper",
        "reference": "bert", "reference_variant": "paper", "reference_recipe": "v1", "alpha": 0.05, "margin": 0.01,
        "test": "bootstrap over pairs, normal", "low_seeds": float("nan"),
    }  # fmt: skip
    found = [
        {**constant, "dataset": dataset, "layer": 1, "dim": 2**at, "difference": value, "low": value - 0.01,
         "high": value + 0.02, "differs": differs, "equivalent": equivalent}
        for at, (value, differs, equivalent) in enumerate(rows)
    ]  # fmt: skip
    return pd.DataFrame(found).reindex(columns=list(grid_tests.COLUMNS))


CELLS = [(0.03, True, False), (-0.02, True, False), (0.008, True, True), (0.001, False, True), (0.005, False, False)]


def test_every_cell_is_counted_once_and_averages_come_first() -> None:
    found = tests_table.summary(pd.concat([of_cells("stsb", CELLS), of_cells("average", CELLS[:2])]))
    assert found["dataset"].to_list() == ["average", "stsb"]
    one = found.iloc[1]
    assert one[["cells", "above", "below", "equivalent", "undecided"]].to_list() == [5, 2, 1, 1, 1]
    assert (round(one["mean_difference"], 6), one["low"], one["high"]) == (0.0048, -0.03, 0.05)


def test_the_table_says_what_was_tested(tmp_path: Path) -> None:
    paths = tests_table.write(of_cells("stsb", CELLS), tmp_path / "tests", {"srl": "SRL", "bert": "BERT"})
    text = paths[1].read_text(encoding="utf-8")
    assert "| stsb | v1 | BERT | SRL | paper | 5 | 2 | 1 | 1 | 1 | +0.0048 |" in text
    assert "after Holm's correction over the cells of a grid" in text and "single seed" in text
    assert [path.suffix for path in paths] == [".csv", ".md", ".tex"]
