"""Every cell of two methods' grids compared from per-item scores: difference, interval, tests, equivalence, effect.

Retrieval: the paired t-test over queries, or the randomisation test. STS: the bootstrap over pairs, whose standard error
is that of a normal difference; p read off its percentiles instead takes at least 4 x cells / alpha resamples to be
resolved at all (see `intervals`). A method's score is the mean of its seeds, and tests, `low` and `high` speak about
further items for these trained models; `low_seeds` and `high_seeds` also about further trainings, and are empty where
one of the methods has a single seed. Rows of dataset "average" test the mean over the sets, the sets being fixed.

The family of Holm and Benjamini-Hochberg is a grid: the cells of one set, metric and pair of methods. `equivalent` is by
p_tost alone: that all cells of a grid are is an intersection-union test and needs no correction (R. L. Berger,
Technometrics 24, 1982), while of cells whose difference is just the margin a share of alpha is called so wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matryobench.analysis import frames, paired
from matryobench.analysis.set_scores import Line, Source, read_sets
from matryobench.analysis.set_tests import NAMES, Comparison, Options, Pair, average, compare_on
from matryobench.errors import InputError, unknown_name
from matryobench.grid import Cell

COLUMNS = (
    *("task", "dataset", "metric", "recipe", "layer", "dim", "method", "variant"),
    *("reference", "reference_variant", "reference_recipe", "difference", "low", "high", "low_seeds", "high_seeds"),
    *("p", "p_holm", "p_bh", "p_tost", "alpha", "margin", "differs", "equivalent", "effect", "effect_name"),
    *("n_items", "seeds", "reference_seeds", "tests", "test"),
)
"""low .. high are 1 - alpha intervals; `differs` is p_holm < alpha, `equivalent` p_tost < alpha, `tests` the family."""

GRID = [
    "task",
    "dataset",
    "metric",
    "recipe",
    "method",
    "variant",
    "reference",
    "reference_variant",
    "reference_recipe",
]
"""What is constant within one grid, the family of corrections."""

_KIND = "a table of grid tests"


def lines_of(frame: pd.DataFrame, source: int = 0) -> list[Line]:
    """The lines of a cells table, in its order."""
    held = frame[["recipe", "method", "variant"]].drop_duplicates()
    return [Line(str(recipe), str(method), str(variant), source) for recipe, method, variant in held.to_numpy()]


def compare_with(
    frame: pd.DataFrame,
    items: Sequence[Path],
    gold: Mapping[str, NDArray[np.float64]],
    *,
    sets: Mapping[str, str],
    reference: str,
    variant: str | None = None,
    averaged: Sequence[str] | None = None,
    options: Options,
) -> pd.DataFrame:
    """Every native method of the cells table against the reference, recipe by recipe; see `compare_lines`.

    Recipes without the reference are left out, and lines that share no cell with it. `variant` is the reference's, which
    may be left out where it has one. Raises InputError as `compare_lines` and where the reference, or anything to compare
    it with, is missing.
    """
    source = Source(frame, items)
    lines = lines_of(frame[(frame["backend"] == source.backend) & frame["dataset"].isin(list(sets))])
    of_reference = [line for line in lines if line.method == reference]
    if not of_reference:
        raise unknown_name("comparison", "reference method", reference, {line.method for line in lines})
    held = sorted({line.variant for line in of_reference})
    if variant is None and len(held) > 1:
        raise InputError(f"comparison: the reference {reference!r} has the variants {', '.join(held)}; name one.")
    if variant is not None and variant not in held:
        raise unknown_name("comparison", f"variant of the reference {reference!r}", variant, held)
    base = {line.recipe: line for line in of_reference if variant in (None, line.variant)}
    cells = {line: _cells(frame, line) for line in lines}
    pairs = [
        (line, base[line.recipe])
        for line in lines
        if line.recipe in base and line != base[line.recipe] and cells[line] & cells[base[line.recipe]]
    ]
    if not pairs:
        raise InputError("comparison: only the reference was evaluated; run a method to compare it with.")
    return compare_lines([source], pairs, gold, sets=sets, averaged=averaged, options=options)


def compare_lines(
    sources: Sequence[Source],
    pairs: Sequence[Pair],
    gold: Mapping[str, NDArray[np.float64]],
    *,
    sets: Mapping[str, str],
    averaged: Sequence[str] | None = None,
    options: Options,
) -> pd.DataFrame:
    """Each pair (line, its reference) on the cells that both have of each set, as a table with COLUMNS.

    `sets` maps test sets to their metric, `gold` STS sets to their (n,) gold scores in the order of the pairs. Two or
    more sets of one metric and the same cells and seeds also give their average; `averaged` names the sets that enter it,
    as `cells.collect` was told (default: all). Raises InputError as `set_scores.read_sets` and `set_tests.compare_on` do,
    and for a set to average that is not compared.
    """
    unknown = next((name for name in averaged or () if name not in sets), None)
    if unknown is not None:
        raise unknown_name("comparison", "set to average", unknown, sets)
    by_pair: dict[tuple[Pair, str], list[Comparison]] = {}
    for one in read_sets(sources, sets, [line for pair in pairs for line in pair], gold):
        for tested in compare_on(one, pairs, options):
            by_pair.setdefault((tested.pair, tested.metric), []).append(tested)
    blocks = []
    for results in by_pair.values():
        blocks += [_block(one, options) for one in results]
        chosen = [one for one in results if averaged is None or one.dataset in averaged]
        alike = {(one.cells, one.first.shape, one.second.shape) for one in chosen}
        if len(chosen) > 1 and len(alike) == 1:
            blocks.append(_block(average(chosen), options))
    return pd.concat(blocks, ignore_index=True)


def write(table: pd.DataFrame, path: Path) -> None:
    """Writes the table to `path` (.parquet) and beside it as .csv, each whole or not at all."""
    frames.write(table, path, _KIND)


def read(path: Path) -> pd.DataFrame:
    """The table that `write` left at `path` (.parquet); InputError where it is missing or is another table."""
    return frames.read(path, _KIND, COLUMNS, "run the step that compares the grids first")


def note(table: pd.DataFrame) -> str:
    """Sentences for readers of figures and tables made from it: tests, family, margin, and what intervals cover."""
    tests = ", ".join(f"{task}: {test}" for task, test in table[["task", "test"]].drop_duplicates().to_numpy())
    alpha, margin = float(table["alpha"].iloc[0]), float(table["margin"].iloc[0])
    single = bool(table["low_seeds"].isna().any())
    seeds = (
        "Intervals are over items only: with a single seed, nothing is known about other trainings."
        if single and table["low_seeds"].isna().all()
        else "Intervals over seeds x items stand beside those over items"
        + (", except where a method has a single seed." if single else ".")
    )
    return (
        f"Per-item tests ({tests}); differs: p < {alpha:g} after Holm's correction over the cells of a grid; equivalent: "
        f"within {margin:g} by two one-sided tests at {alpha:g}. {seeds}"
    )


def _cells(frame: pd.DataFrame, line: Line) -> set[Cell]:
    """The (query) layer and dim of the cells of a line."""
    names = (line.recipe, line.method, line.variant)
    own = frame[(frame[["recipe", "method", "variant"]] == list(names)).all(axis=1)]
    return set(zip(own["query_layer"], own["dim"], strict=True))


def _block(tested: Comparison, options: Options) -> pd.DataFrame:
    """The rows of one grid, corrected as a family."""
    from scipy.stats import false_discovery_control

    line, reference = tested.pair
    p, p_tost = tested.p(), tested.result.tost(options.margin)
    p_holm = paired.holm(p)
    low, high = tested.result.interval(options.alpha)
    low_seeds, high_seeds = tested.seeds_interval(options.alpha)
    columns = {
        "task": tested.task, "dataset": tested.dataset, "metric": tested.metric, "recipe": line.recipe,
        "layer": [layer for layer, _ in tested.cells], "dim": [dim for _, dim in tested.cells],
        "method": line.method, "variant": line.variant,
        "reference": reference.method, "reference_variant": reference.variant, "reference_recipe": reference.recipe,
        "difference": tested.result.difference, "low": low, "high": high,
        "low_seeds": low_seeds, "high_seeds": high_seeds,
        "p": p, "p_holm": p_holm, "p_bh": false_discovery_control(p), "p_tost": p_tost,
        "alpha": options.alpha, "margin": options.margin,
        "differs": p_holm < options.alpha, "equivalent": p_tost < options.alpha,
        "effect": tested.effect, "effect_name": tested.effect_name,
        "n_items": tested.n_items, "seeds": tested.first.shape[1], "reference_seeds": tested.second.shape[1],
        "tests": len(p), "test": NAMES[tested.test],
    }  # fmt: skip
    return pd.DataFrame(columns)[list(COLUMNS)]
