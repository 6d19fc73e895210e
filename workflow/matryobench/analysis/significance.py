"""Which methods differ significantly from a reference method at the named sizes, per test set.

STS: paired bootstrap over the pairs of a set (see `paired`); a method's score is the mean of its seeds' correlations,
and all seeds are resampled together. Retrieval: paired t-test over the queries of a set, whose metric is averaged over
seeds first. So in both the difference is that of the printed means, and the tests speak about further pairs or queries
for these trained models, not about further trainings. Pairs and queries count as independent, which sentences that
occur in several pairs stretch. p values are corrected over all comparisons of one table (Holm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matryobench.analysis import frames, paired
from matryobench.analysis.cells import NATIVE
from matryobench.analysis.items import Key, check_lengths, check_values, read_items
from matryobench.analysis.sizes import at_sizes
from matryobench.errors import InputError, unknown_name
from matryobench.grid import Cell

COLUMNS = (
    *("task", "dataset", "metric", "recipe", "size", "layer", "dim", "method", "variant", "reference"),
    *("reference_variant", "difference", "p", "p_holm", "significant", "n_items", "test"),
)
_KIND = "a significance table"
BOOTSTRAP, T_TEST = "paired bootstrap over pairs", "paired t-test over queries"


def compare_sts(
    frame: pd.DataFrame,
    items: Sequence[Path],
    gold: Mapping[str, NDArray[np.float64]],
    *,
    sizes: Mapping[str, Cell],
    sets: Mapping[str, str],
    reference: str,
    variant: str | None = None,
    seed: int,
    alpha: float = 0.05,
    replicates: int | None = None,
) -> pd.DataFrame:
    """Every method against the reference at each size on each STS set, as a table with COLUMNS.

    `frame` is the cells table of the runs, `items` their items.parquet, `gold` the (n,) gold scores of each set in the
    order of its pairs. `sets` maps the sets to their metric, `sizes` the named sizes to (layer, dim), and together they
    are one family of tests. `variant` is the reference's and may be left out where it has one. The same `seed` and
    number of `replicates` give a set the same resamples, whatever else is tested; by default there are 10,000, more in a
    family of more than 125 tests.
    Raises InputError where the reference, a set or a file is missing or items do not give the values of `frame`.
    """
    rows = _rows(frame, sizes, sets, reference, variant)
    tests = sum(len(_comparisons(own, reference, variant)) for _, own in rows.groupby("dataset", sort=False))
    count = paired.enough(tests, alpha, replicates)
    vectors = read_items(items, _keys(rows, "similarity"), item="item", layer="layer")
    found = []
    for dataset, own in rows.groupby("dataset", sort=False):
        if dataset not in gold:
            raise unknown_name("significance", "gold scores of set", str(dataset), gold)
        scores = gold[str(dataset)]
        similarities = [vectors[key].to_numpy() for key in own["key"]]
        check_lengths(own, similarities, len(scores))
        stack = np.stack(similarities)
        observed = paired.resampled_spearman(np.ones((1, len(scores)), dtype=np.int64), scores, stack)[:, 0]
        check_values(own, observed)
        generator = np.random.default_rng([seed, *str(dataset).encode()])
        drawn = paired.replicates(scores, stack, generator, count)
        for first, second, row in _comparisons(own, reference, variant):
            p = paired.bootstrap_p(drawn[first].mean(axis=0) - drawn[second].mean(axis=0))
            found.append({**row, "p": p, "n_items": len(scores), "test": BOOTSTRAP})
    return _table(found, alpha)


def compare_retrieval(
    frame: pd.DataFrame,
    items: Sequence[Path],
    *,
    sizes: Mapping[str, Cell],
    sets: Mapping[str, str],
    reference: str,
    variant: str | None = None,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """As `compare_sts` for retrieval: `sets` maps each collection to the metric that its column of the table shows.

    A size's layer is the query layer. Raises InputError as there, and where two runs were scored on other queries.
    """
    rows = _rows(frame, sizes, sets, reference, variant)
    found = []
    for metric, of_metric in rows.groupby("metric", sort=False):
        vectors = read_items(items, _keys(of_metric, str(metric)), item="query", layer="query_layer")
        for dataset, own in of_metric.groupby("dataset", sort=False):
            values = [vectors[key].sort_index() for key in own["key"]]
            for key, one in zip(own["key"], values, strict=True):
                if not one.index.equals(values[0].index):
                    raise InputError(
                        f"{dataset}: runs {own['run_id'].iloc[0]} and {key.run_id} were scored on different queries;"
                        " evaluate both on the same collection."
                    )
            stack = np.stack([one.to_numpy(dtype=np.float64) for one in values])
            check_values(own, stack.mean(axis=1))
            for first, second, row in _comparisons(own, reference, variant):
                p = paired.t_test(stack[first].mean(axis=0), stack[second].mean(axis=0))
                found.append({**row, "p": p, "n_items": stack.shape[1], "test": T_TEST})
    return _table(found, alpha)


def note(table: pd.DataFrame, titles: Mapping[str, str], alpha: float = 0.05) -> str:
    """One sentence for readers of a table that carries the marks: what differs from what, by which test."""
    tests = ", ".join(f"{task}: {test}" for task, test in table[["task", "test"]].drop_duplicates().to_numpy())
    reference = ", ".join(titles.get(name, name) for name in table["reference"].unique())
    return (
        f"Differs from {reference} at the same size, p < {alpha:g} after Holm's correction over the {len(table)} "
        f"comparisons of the table ({tests})."
    )


def write(table: pd.DataFrame, path: Path) -> None:
    """Writes the table to `path` (.parquet) and beside it as .csv, each whole or not at all."""
    frames.write(table, path, _KIND)


def read(path: Path) -> pd.DataFrame:
    """The table that `write` left at `path` (.parquet); InputError where it is missing or is another table."""
    return frames.read(path, _KIND, COLUMNS, "run the step that compares the methods first")


def _rows(
    frame: pd.DataFrame, sizes: Mapping[str, Cell], sets: Mapping[str, str], reference: str, variant: str | None
) -> pd.DataFrame:
    """The cells table's native rows at the sizes, with `size` and the `key` of their items, per set and size in order.

    Recipes without the reference are left out.
    """
    frame = frame[frame["backend"] == NATIVE]
    frame = frame[frame["recipe"].isin(frame.loc[frame["method"] == reference, "recipe"])]
    if frame.empty:
        raise InputError(f"significance: the reference method {reference!r} has no run; run it, or name another one.")
    found = at_sizes(frame, sizes, sets)
    found["key"] = [Key(*key) for key in found[["run_id", "dataset", "layer", "dim"]].itertuples(index=False)]
    held = sorted(set(found.loc[found["method"] == reference, "variant"]))
    if variant is None and len(held) > 1:
        raise InputError(f"significance: the reference {reference!r} has the variants {', '.join(held)}; name one.")
    if variant is not None and variant not in held:
        raise unknown_name("significance", f"variant of the reference {reference!r}", variant, held)
    return found


def _keys(rows: pd.DataFrame, column: str) -> dict[Key, str]:
    return dict.fromkeys(rows["key"], column)


def _comparisons(
    rows: pd.DataFrame, reference: str, variant: str | None
) -> list[tuple[NDArray[np.intp], NDArray[np.intp], dict[str, object]]]:
    """(places of the method's seeds, places of the reference's seeds, what names and measures the comparison)."""
    rows = rows.reset_index(drop=True)
    is_reference = rows["method"] == reference
    if variant is not None:
        is_reference &= rows["variant"] == variant
    found = []
    for (recipe, size), own in rows.groupby(["recipe", "size"], sort=False):
        base = own[is_reference[own.index]]
        if base.empty:
            raise InputError(
                f"significance: the reference {reference!r} was not evaluated at size {size} of recipe {recipe} on "
                f"{own['dataset'].iloc[0]}; add the size to its grid or leave it out."
            )
        others = own[~is_reference[own.index]]
        for (method, its_variant), one in others.groupby(["method", "variant"], sort=False):
            row = {
                **one.iloc[0][["task", "dataset", "metric", "recipe", "size", "layer", "dim"]].to_dict(),
                "method": method, "variant": its_variant,
                "reference": reference, "reference_variant": base["variant"].iloc[0],
                "difference": float(one["value"].mean() - base["value"].mean()),
            }  # fmt: skip
            found.append((one.index.to_numpy(), base.index.to_numpy(), row))
    return found


def _table(rows: Sequence[Mapping[str, object]], alpha: float) -> pd.DataFrame:
    if not rows:
        raise InputError(
            "significance: only the reference was evaluated at the sizes; run a method to compare it with."
        )
    table = pd.DataFrame(list(rows))
    table["p_holm"] = paired.holm(table["p"])
    table["significant"] = table["p_holm"] < alpha
    return table[list(COLUMNS)]
