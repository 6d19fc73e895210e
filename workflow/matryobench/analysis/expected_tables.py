"""The table of an experiment's expected values beside what was found, as csv, markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matryobench.analysis import blocks
from matryobench.analysis.blocks import MISSING, Block
from matryobench.expected import Outcome

COLUMNS = (
    *("task", "dataset", "metric", "method", "variant", "recipe", "layer", "dim", "expected", "tolerance", "found"),
    *("seeds", "difference", "verdict", "source"),
)


def write(outcomes: Sequence[Outcome], stem: Path, titles: Mapping[str, str], decimals: int = 4) -> list[Path]:
    """Writes a row per outcome (see `expected.compare`), what is outside its tolerance in bold; returns the paths."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows, bold = [], set()
    for at, one in enumerate(outcomes):
        anchor = one.anchor
        place = (anchor.task, anchor.dataset, anchor.metric, anchor.method, one.variant or "", anchor.recipe)
        cell = (anchor.layer, anchor.dim, anchor.value, anchor.tolerance)
        found = ("" if one.found is None else one.found, one.seeds, "" if one.difference is None else one.difference)
        writer.writerow([*place, *cell, *found, one.verdict, anchor.source])
        shown = [anchor.dataset, anchor.metric, titles[anchor.method], one.variant or MISSING, anchor.recipe]
        numbers = [f"({anchor.layer}, {anchor.dim})", f"{anchor.value:.{decimals}f}", f"{anchor.tolerance:g}"]
        if one.found is None or one.difference is None:
            numbers += [MISSING, MISSING]
        else:
            numbers += [f"{one.found:.{decimals}f}", f"{one.difference:+.{decimals}f}"]
        rows.append((*shown, *numbers, one.verdict, anchor.source))
        if one.verdict == "outside":
            bold.add((at, len(shown) + len(numbers)))
    header = ("dataset", "metric", "method", "variant", "recipe", "cell", "expected", "tolerance", "found", "difference",
              "verdict", "source")  # fmt: skip
    within = sum(one.verdict == "within" for one in outcomes)
    title = f"Expected values: {within} of {len(outcomes)} within their tolerance"
    return blocks.write(stem, text.getvalue(), [Block(title, header, tuple(rows), 5, 1, frozenset(bold))])
