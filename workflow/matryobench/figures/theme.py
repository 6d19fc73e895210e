"""What all figures share: sizes and fonts, one style per method, and saving with provenance.

Figures are built as `matplotlib.figure.Figure` without pyplot, so drawing has no global state and needs no display.
Sizes are in inches (7 = the text width of a two-column paper), font sizes in points.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.colors import is_color_like, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.markers import MarkerStyle

from matryobench.errors import InputError
from matryobench.files import atomic_path

WIDTH = 7.0
POINTS = 72.0  # per inch
SMALL, NORMAL = 6.0, 7.0
CHARACTER = 0.6  # mean width of a character of the font, in font sizes
FORMATS = ("svg", "png", "pdf")
METRICS = {
    "spearman_cosine": "Spearman's \N{GREEK SMALL LETTER RHO} of cosine similarity",
    "ndcg@10": "nDCG@10",
    "mrr@10": "MRR@10",
    "recall@100": "Recall@100",
    "accuracy": "Accuracy",
}

_RC: dict[str, Any] = {
    "font.family": "sans-serif",  # first DejaVu Sans, which comes with matplotlib: the same figure on every machine
    "font.size": NORMAL,
    "axes.titlesize": NORMAL,
    "axes.labelsize": NORMAL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": NORMAL,
    "figure.labelsize": NORMAL,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.88",
    "grid.linewidth": 0.5,
    "xtick.major.size": 2.0,
    "ytick.major.size": 2.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.linewidth": 0.5,
    "text.parse_math": False,  # a "$" or "_" in a title is just that
    "axes.unicode_minus": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "matryobench",
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}


@dataclass(frozen=True)
class Style:
    """How a method looks in every figure: its title, a colour that matplotlib knows and a marker."""

    title: str
    colour: str
    marker: str


@dataclass(frozen=True)
class Line:
    """One (method, variant) as drawn: variants share hue and marker and differ by dashes, lightness and open markers."""

    method: str
    variant: str
    title: str
    colour: str
    marker: str
    dashes: tuple[float, tuple[float, ...]] | str
    hollow: bool = False


def context() -> AbstractContextManager[None]:
    """The settings under which a figure is drawn and saved; whatever matplotlibrc the user has is left out."""
    # "default" is matplotlib's own style; the backend is not a style parameter and stays untouched
    return matplotlib.style.context(["default", _RC])


def layout() -> ConstrainedLayoutEngine:
    """The tight constrained layout of all figures."""
    return ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.02, hspace=0.02)


def lines(rows: pd.DataFrame, styles: Mapping[str, Style], titles: Mapping[str, str] | None = None) -> list[Line]:
    """The lines that `rows` (with columns method, variant) ask for, in the order of `styles`, variants within.

    The first variant of a method ("paper", then "released", then the rest by name) is solid and in the method's colour,
    the others have dash patterns and shades of it. A variant is named only where its method has several.
    `titles` replaces titles of methods in this figure. Raises InputError for a method without a style and for a style
    that cannot be drawn.
    """
    titles = titles or {}
    held = {str(method): sorted(set(own["variant"]), key=_variant_rank) for method, own in rows.groupby("method")}
    for method in held:
        if method not in styles:
            raise InputError(
                f"figure styles: method {method!r} has no style; give it a title, a colour and a marker as "
                f"{', '.join(styles) or 'no method'} has."
            )
        _check(method, styles[method])
    found = []
    for method, style in styles.items():
        variants = held.get(method, [])
        name = titles.get(method, style.title)
        for place, (variant, colour) in enumerate(zip(variants, shades(style.colour, len(variants)), strict=True)):
            title = name if len(variants) == 1 else f"{name} ({variant})"
            found.append(Line(method, variant, title, colour, style.marker, _dashes(place), place % 2 == 1))
    return found


def shades(colour: str, count: int) -> list[str]:
    """`count` colours of one hue: the colour itself, then alternately darker and lighter ones as "#rrggbb"."""
    base = np.array(to_rgb(colour))
    steps = max(1, math.ceil((count - 1) / 2))
    found = [colour][:count]
    for place in range(1, count):
        end = float(place % 2 == 0)  # black, white
        found.append(to_hex(base + (end - base) * (0.4 + 0.15 * (1 - end)) * math.ceil(place / 2) / steps))
    return found


def metric_title(metric: str, dataset: str) -> str:
    """The axis label of a metric on a dataset."""
    return f"{METRICS.get(metric, metric)}, {dataset}"


def recipe_titles(rows: pd.DataFrame, titles: Mapping[str, str] | None) -> dict[str, str]:
    """The recipes in `rows` with their titles: those in `titles` in its order, then the others under their names."""
    held = sorted(rows["recipe"].unique())
    titles = titles or {}
    order = [name for name in titles if name in held] + [name for name in held if name not in titles]
    return {name: titles.get(name, name) for name in order}


def rows_of(rows: pd.DataFrame, line: Line, recipe: str) -> pd.DataFrame:
    """The rows of a line in a recipe."""
    return rows[(rows["method"] == line.method) & (rows["variant"] == line.variant) & (rows["recipe"] == recipe)]


def line_title(line: Line, recipe: str, recipes: Mapping[str, str]) -> str:
    """The title of a line's own panel, which names its recipe where `recipe_titles` gave several."""
    return f"{line.title}, {recipes[recipe]}" if len(recipes) > 1 else line.title


def legend_columns(titles: Sequence[str], width: float) -> int:
    """How many legend columns fit into `width` inches, with handles; at least one, filled evenly."""
    widest = max(len(title) for title in titles) * CHARACTER * NORMAL + 5 * NORMAL
    most = min(len(titles), max(1, int(width * POINTS / widest)))
    rows = -(-len(titles) // most)
    return -(-len(titles) // rows)


def wrapped(title: str, points: float, size: float = NORMAL) -> str:
    """`title` broken into lines that fit into a width in points."""
    return textwrap.fill(title, max(8, int(points / (CHARACTER * size))), break_long_words=True)


def thinned(positions: Sequence[float], gap: float) -> list[int]:
    """Indices of ascending positions that are at least `gap` apart; the last is always kept, then as many as fit."""
    kept = [len(positions) - 1]
    for at in range(len(positions) - 2, -1, -1):
        if positions[kept[-1]] - positions[at] >= gap:
            kept.append(at)
    return kept[::-1]


def closest(positions: Sequence[float]) -> float:
    """The smallest distance between neighbours of ascending positions; infinite for a single one."""
    return min((after - before for before, after in pairwise(positions)), default=float("inf"))


def save(figure: Figure, stem: Path, provenance: Mapping[str, Any]) -> list[Path]:
    """Writes `stem`.svg, .png (200 dpi) and .pdf, each whole or not at all; the same figure gives the same bytes.

    `provenance` (JSON values, such as the hash of the input table and the experiment) stands as one JSON text in each
    file: Description of svg and png, Subject of pdf. No file holds a date. Raises ValueError for NaN in it.
    """
    note = json.dumps(dict(provenance), sort_keys=True, ensure_ascii=True, allow_nan=False)
    metadata: dict[str, dict[str, str | None]] = {
        "svg": {"Description": note, "Creator": "matryobench", "Date": None},
        "png": {"Description": note, "Software": "matryobench"},
        "pdf": {"Subject": note, "Creator": "matryobench", "Producer": None, "CreationDate": None},
    }
    paths = []
    with context():
        for name in FORMATS:
            path = stem.with_name(f"{stem.name}.{name}")
            with atomic_path(path) as partial:
                figure.savefig(partial, format=name, metadata=metadata[name])
            paths.append(path)
    return paths


def _check(method: str, style: Style) -> None:
    problem = ""
    if not style.title.strip():
        problem = "an empty title; write the name that readers should see"
    elif not is_color_like(style.colour):
        problem = f"the colour {style.colour!r}, which matplotlib does not know; use a form like '#0072B2'"
    elif style.marker not in MarkerStyle.markers or style.marker in ("", " ", "None", "none"):
        problem = f"the marker {style.marker!r}, which matplotlib does not know; use one like 'o', 's' or '^'"
    if problem:
        raise InputError(f"figure styles: method {method!r} has {problem}.")


def _variant_rank(name: str) -> tuple[int, str]:
    return {"paper": 0, "released": 1}.get(name, 2), name


def _dashes(place: int) -> tuple[float, tuple[float, ...]] | str:
    """Solid, dashed, dotted, then dash and n dots: any number of patterns that differ."""
    if place < 3:
        return ("solid", (0, (4.0, 1.6)), (0, (1.0, 1.4)))[place]
    return (0, (5.0, 1.4, *((1.0, 1.4) * (place - 2))))
