"""How far a run's grid agrees with the published one, overall and per band of layers and of dims.

The values of a line (a recipe, method and variant) against the published ones: root mean square error, bias (ours minus
published), largest difference, share of cells within a margin, and Kendall's tau-b and Spearman's rho over cells. Pairs of
methods: whether their difference has the published sign, and the effect ratio ER and delta relative improvement DeltaRI
of Breuer et al., How to Measure the Reproducibility of System-oriented IR Experiments (SIGIR 2020, doi
10.1145/3397271.3401036; package repro_eval), with cells in the place of topics:
ER = mean(A - B, ours) / mean(A - B, published); DeltaRI = RI(published) - RI(ours), RI = (mean(A) - mean(B)) / mean(B).
ER 1 and DeltaRI 0 mean the same effect. Where the backbones differ (see `matching`), values have different scales and only
the measures of trends are given: tau, rho, signs, ER and DeltaRI.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from matryobench.analysis import agreement_tables
from matryobench.analysis.matching import CELL, ROW, Scale, matched
from matryobench.analysis.means import bands_of, titles_of
from matryobench.analysis.published import SHAPE
from matryobench.grid import Cell

WITHIN = 0.01
LAYER_ENDS, DIM_ENDS = (6, 10), (32, 64)
ALL, UNFLAGGED = "all cells", "unflagged cells"
ABSOLUTE = ("rmse", "bias", "largest", "within")
TRENDS = ("kendall", "spearman")
PAIR = ("tied", "agreeing", "sign_agreement", "effect_ratio", "delta_ri")


def grid_agreement(rows: pd.DataFrame, rule: Scale, bands: Mapping[str, pd.Series], within: float) -> pd.DataFrame:
    """Per line and band of `matched` rows: cells, ABSOLUTE (NaN unless the scale is the same), its layer, dim, TRENDS.

    `within` is a share of cells; layer and dim are those of the largest absolute difference. The correlations are NaN
    for fewer than three cells and where a side is constant.
    """
    found = []
    for key, line in rows.groupby(ROW, sort=False):
        for band, inside in bands.items():
            own = line[inside[line.index]]
            if own.empty:
                continue
            values: list[float] = [math.nan] * len(ABSOLUTE)
            at: tuple[int | None, int | None] = None, None
            if rule.same:
                difference = (own["ours"] - own["published"]).to_numpy()
                size = np.abs(difference).round(9)  # .816 - .806 is .01 and a bit in binary
                worst = own.iloc[int(size.argmax())]
                near = size <= within
                values = [math.sqrt(float(np.mean(difference**2))), difference.mean(), size.max(), near.mean()]
                at = int(worst["layer"]), int(worst["dim"])
            found.append((*key, band, len(own), *values, *at, *_correlations(own)))
    frame = pd.DataFrame(found, columns=[*ROW, "band", "cells", *ABSOLUTE, *CELL, *TRENDS])
    return frame.astype({"layer": "Int64", "dim": "Int64"})


def pair_agreement(
    rows: pd.DataFrame, bands: Mapping[str, pd.Series], order: Sequence[str] | None = None
) -> pd.DataFrame:
    """Per recipe, pair of lines (method, variant minus baseline, baseline_variant) and band: cells and PAIR.

    The baseline is the method that comes first in `order` (default: alphabetical). Cells where the published
    difference is at most one unit of the last printed decimal are `tied` (it may be rounding); `agreeing` counts those
    others where ours has its sign, and sign_agreement is their share. effect_ratio and delta_ri are NaN where they
    would divide by zero.
    """
    unit = 10.0 ** -decimals_of(rows["published"])
    rank = {method: place for place, method in enumerate(order or sorted(set(rows["method"])))}
    found = []
    for recipe, of_recipe in rows.groupby("recipe", sort=False):
        lines = [(key, line) for key, line in of_recipe.groupby(["method", "variant", "published_variant"], sort=False)]
        lines.sort(key=lambda entry: (rank[entry[0][0]], entry[0][1:]))
        for (base_key, base), (key, line) in combinations(lines, 2):
            if (base_key[0], base_key[2]) == (key[0], key[2]):
                continue  # two of our variants of what was published once
            both = line.reset_index().merge(base, on=CELL, suffixes=("", "_base"))
            for band, inside in bands.items():
                own = both[inside[both["index"]].to_numpy()]
                if not own.empty:
                    found.append((recipe, *key[:2], *base_key[:2], band, len(own), *_effect(own, unit)))
    columns = [*ROW, "baseline", "baseline_variant", "band", "cells", *PAIR]
    return pd.DataFrame(found, columns=columns)


def bands_by_cell(
    rows: pd.DataFrame, layer_ends: Sequence[int] = LAYER_ENDS, dim_ends: Sequence[int] = DIM_ENDS
) -> dict[str, pd.Series]:
    """Bands of `matched` rows by title, each as a boolean per row: all cells, bands of layers, of dims, unflagged ones.

    Layers and dims are the published ones, so a band means the same on every backbone; `layer_ends` and `dim_ends` are
    the upper ends of bands, as in `means.bands_of`.
    """
    found = {ALL: pd.Series(True, index=rows.index)}
    for column, letter, ends in (("published_layer", "l", layer_ends), ("published_dim", "d", dim_ends)):
        for band in bands_of(list(rows[column]), ends)[1:]:
            found[letter + band.title[1:]] = rows[column].between(band.low, band.high)
    if rows["flagged"].any():
        found[UNFLAGGED] = ~rows["flagged"]
    return found


def decimals_of(values: pd.Series, most: int = 6) -> int:
    """The decimals that hold all values, at most `most`: the precision at which a table was printed."""
    return next((n for n in range(most) if np.allclose(values.round(n), values, rtol=0, atol=1e-9)), most)


def write_agreement(
    frame: pd.DataFrame,
    published: pd.DataFrame,
    stem: Path,
    *,
    dataset: str,
    metric: str,
    shape: Cell | None = None,
    published_shape: Cell = SHAPE,
    comparable: bool | None = None,
    within: float = WITHIN,
    layer_ends: Sequence[int] = LAYER_ENDS,
    dim_ends: Sequence[int] = DIM_ENDS,
    decimals: int = 4,
    titles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes the agreement of two cells tables as `stem`.csv (tidy: a row per statistic), .md and .tex.

    `frame` is ours and `published` what it is compared with (`published.load`, or another run). `titles` maps methods to
    titles and gives their order. See `matched` for `shape` and `comparable`, and the functions above for the rest.
    Raises InputError as `matched` does and for a method without a title.
    """
    rows, rule = matched(
        frame, published, dataset=dataset, metric=metric, shape=shape, published_shape=published_shape,
        comparable=comparable,
    )  # fmt: skip
    titles = titles_of(rows["method"], titles)
    rank = {method: place for place, method in enumerate(titles)}
    rows = rows.assign(rank=rows["method"].map(rank)).sort_values(
        ["recipe", "rank", "variant", *CELL], ignore_index=True
    )
    bands = bands_by_cell(rows, layer_ends, dim_ends)
    grid, pairs = grid_agreement(rows, rule, bands, within), pair_agreement(rows, bands, list(titles))
    place = f"{metric}, {dataset}"
    return agreement_tables.write(
        stem, grid, pairs, rows[rows["flagged"]], rule, place=place, within=within, decimals=decimals, titles=titles
    )


def _correlations(own: pd.DataFrame) -> Iterator[float]:
    from scipy.stats import kendalltau, spearmanr

    sides = own[["ours", "published"]].to_numpy()
    known = len(sides) > 2 and not (sides == sides[0]).all(axis=0).any()
    for measure in (kendalltau, spearmanr):
        yield float(measure(*sides.T).statistic) if known else math.nan


def _effect(own: pd.DataFrame, unit: float) -> tuple[int, int, float, float, float]:
    ours = (own["ours"] - own["ours_base"]).to_numpy()
    theirs = (own["published"] - own["published_base"]).to_numpy()
    tied = np.round(np.abs(theirs) / unit, 3) <= 1.0
    agreeing = int((np.sign(ours) == np.sign(theirs))[~tied].sum())
    decided = int((~tied).sum())
    means = own[["ours", "ours_base", "published", "published_base"]].mean()
    effect = _ratio(ours.mean(), theirs.mean())
    relative = _ratio(theirs.mean(), means["published_base"]) - _ratio(ours.mean(), means["ours_base"])
    return int(tied.sum()), agreeing, agreeing / decided if decided else math.nan, effect, relative


def _ratio(above: float, below: float) -> float:
    return math.nan if abs(below) < 1e-12 else float(above / below)
