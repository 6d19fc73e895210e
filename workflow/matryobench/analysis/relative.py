"""Performance against width: absolute, relative to a model's own full width, and relative to a baseline's full width.

Ratios are taken per test set and then averaged over the sets of a family. Intervals are 95 % t-intervals over sets: they
take the sets as a sample of tasks, and say nothing about seeds, over which values are averaged first. The full width is
the largest dim of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from matryobench.analysis.blocks import Block, write
from matryobench.analysis.cells import AVERAGE, LINE, over_seeds, select
from matryobench.analysis.frames import csv_text
from matryobench.analysis.means import mark, titles_of
from matryobench.analysis.tables import block_of
from matryobench.errors import InputError, unknown_name
from matryobench.tasks import FAMILY_METRICS

STATISTICS = {
    "absolute": "absolute",
    "own": "relative to own full width",
    "baseline": "relative to {baseline} at full width",
}
"""Kinds of performance with what titles say."""

_SET = ["family", "dataset", "metric"]
_ROW = ["recipe", "family", "dataset", "method", "variant"]


def relative(
    frame: pd.DataFrame,
    families: Mapping[str, Sequence[str]],
    *,
    baseline: str = "ff",
    variant: str | None = None,
    layer: int | None = None,
    metrics: Mapping[str, str] = FAMILY_METRICS,
) -> pd.DataFrame:
    """Per statistic (of STATISTICS), family, dataset, metric, recipe, method, variant, layer, dim: mean, sd, seeds.

    `families` maps task families to their datasets, `metrics` families to the metric. `layer` is the query layer
    (default: the deepest). The absolute mean is over seeds of the native runs, with its sd (NaN for one seed); ratios
    are of such means, and those to the baseline are within a recipe. `variant` is the baseline's and may be left out
    where it has one.
    Raises InputError as `cells.select` does, for a family without a metric, a layer or baseline that the table lacks,
    a method without the full width and a full width at which the score is 0.
    """
    parts = []
    for family, datasets in families.items():
        if family not in metrics:
            raise unknown_name("relative performance", "task family", family, metrics)
        for dataset in datasets:
            rows = over_seeds(select(frame, dataset, metrics[family]))
            parts.append(rows.assign(family=family, dataset=dataset, metric=metrics[family]))
    if not parts:
        raise InputError("relative performance: no test set is named; give each family at least one.")
    values = pd.concat(parts, ignore_index=True)
    at = int(values["layer"].max()) if layer is None else layer
    if at not in set(values["layer"]):
        raise unknown_name("relative performance", "layer", str(at), map(str, values["layer"].unique()))
    values = values[values["layer"] == at].drop(columns=["low", "high"])
    chosen = _chosen(values, baseline, variant)
    full = values[values["dim"] == values["dim"].max()]
    own = _ratios(values, full, [*_SET, *LINE], "its own")
    of_baseline = full[(full["method"] == baseline) & (full["variant"] == chosen)]
    against = _ratios(values, of_baseline, [*_SET, "recipe"], f"{baseline}'s")
    found = [values.assign(statistic="absolute"), own.assign(statistic="own"), against.assign(statistic="baseline")]
    columns = ["statistic", *_SET, *LINE, "layer", "dim", "mean", "sd", "seeds"]
    return pd.concat(found, ignore_index=True)[columns]


def over_sets(values: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Means of `relative` over the sets of a family: mean, low, high (t-interval; NaN for one set), sets.

    Only rows that have all sets of their family.
    """
    from scipy.stats import t

    by = ["statistic", "family", "metric", *LINE, "layer", "dim"]
    groups = values.groupby(by, sort=False)["mean"]
    means = pd.DataFrame({"mean": groups.mean(), "sd": groups.std(), "sets": groups.size()}).reset_index()
    sets = means["sets"]
    half = t.ppf((1 + confidence) / 2, (sets - 1).where(sets > 1)) * means["sd"] / sets**0.5
    means = means.assign(low=means["mean"] - half, high=means["mean"] + half)
    whole = means["family"].map(values.groupby("family")["dataset"].nunique())
    return means.loc[sets == whole, [*by, "mean", "low", "high", "sets"]].reset_index(drop=True)


def write_relative(
    frame: pd.DataFrame,
    stem: Path,
    families: Mapping[str, Sequence[str]],
    *,
    baseline: str = "ff",
    variant: str | None = None,
    layer: int | None = None,
    metrics: Mapping[str, str] = FAMILY_METRICS,
    decimals: int = 4,
    titles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes every set and each family's mean by dim, absolute and relative, as `stem`.csv (tidy), .md and .tex.

    Printed ratios are percentages with one decimal; the best printed value of a set and dim is bold. In the csv, means
    have dataset "average" with their interval and number of sets. Methods are ordered as in `titles` (-> titles).
    Raises InputError as `relative` does, and for a method without a title.
    """
    values = relative(frame, families, baseline=baseline, variant=variant, layer=layer, metrics=metrics)
    means = over_sets(values)
    titles = titles_of(values["method"], titles)
    several = means[means["sets"] > 1].assign(dataset=AVERAGE, sd=math.nan)
    both = pd.concat([values, several], ignore_index=True)
    at = f"layer {values['layer'].iloc[0]}"
    blocks = []
    for statistic, words in STATISTICS.items():
        own = both[both["statistic"] == statistic]
        words = words.format(baseline=titles[baseline])
        title = f"{', '.join(own['metric'].unique())} by dim, {at}, {words}"
        seeds = int(values["seeds"].max())
        title += ", in percent" if statistic != "absolute" else f" (mean ± sd over {seeds} seeds)" * (seeds > 1)
        blocks.append(_printed(title, own, families, titles, decimals))
    means = means.assign(dataset=AVERAGE)
    exact = pd.concat([values.assign(sets=1), means], ignore_index=True).rename(columns={"mean": "value"})
    columns = ["statistic", *_SET, *LINE, "layer", "dim", "value", "sd", "low", "high", "seeds", "sets"]
    return write(stem, csv_text(exact.astype({"seeds": "Int64"}), columns), blocks)


def _chosen(values: pd.DataFrame, baseline: str, variant: str | None) -> str:
    held = sorted(values.loc[values["method"] == baseline, "variant"].unique())
    if not held:
        raise unknown_name("relative performance", "baseline method", baseline, values["method"].unique())
    if variant is None and len(held) > 1:
        raise InputError(f"relative performance: {baseline!r} has the variants {', '.join(held)}; name one of them.")
    if variant is not None and variant not in held:
        raise unknown_name("relative performance", f"variant of {baseline!r}", variant, held)
    return held[0] if variant is None else variant


def _ratios(values: pd.DataFrame, full: pd.DataFrame, by: list[str], whose: str) -> pd.DataFrame:
    """`values` divided by the mean in `full` with the same `by`; no deviation."""
    merged = values.merge(full[[*by, "mean"]].rename(columns={"mean": "whole"}), on=by, how="left")
    bad = merged[~(merged["whole"] > 0)]
    if not bad.empty:
        row = bad.iloc[0]
        problem = "was not evaluated" if math.isnan(row["whole"]) else f"scores {row['whole']:g}"
        raise InputError(
            f"relative performance of {row['method']} ({row['variant']}, {row['recipe']}) on {row['dataset']}: {whose} "
            f"full width {problem}, so there is no ratio; evaluate it, or leave the set out."
        )
    return merged.assign(mean=merged["mean"] / merged["whole"], sd=math.nan).drop(columns="whole")


def _printed(
    title: str, values: pd.DataFrame, families: Mapping[str, Sequence[str]], titles: Mapping[str, str], decimals: int
) -> Block:
    """A row per recipe, family, set (its mean last) and method, a column per dim."""
    percent = set(values["statistic"]) != {"absolute"}
    family = {name: place for place, name in enumerate(families)}
    dataset = {name: place for names in families.values() for place, name in enumerate(names)}
    rank = {method: place for place, method in enumerate(titles)}
    decimals = 1 if percent else decimals
    values = values.assign(
        mean=values["mean"] * (100 if percent else 1),
        title=values["method"].map(titles),
        at=values["family"].map(family),
        place=values["dataset"].map(dataset).fillna(len(dataset)),
        rank=values["method"].map(rank),
    ).sort_values(["recipe", "at", "place", "rank", "variant", "dim"], ignore_index=True)
    values = mark(values, ["recipe", "family", "dataset", "dim"], decimals)
    dims = {dim: str(dim) for dim in sorted(values["dim"].unique())}
    return block_of(title, values, values, _ROW, 3, "dim", dims, decimals)
