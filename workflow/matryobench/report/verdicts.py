"""The verdicts on the papers' claims as the page shows them, from the experiment's claims table."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from matryobench.claims.evaluate import VERDICTS
from matryobench.claims.registry import load_claims
from matryobench.errors import InputError

OWN = ("claim", "paper", "section", "statement", "reading")
SIDE = ("verdict", "counts", "failing", "evidence", "figure")


@dataclass(frozen=True)
class Side:
    """What one side's numbers (published, ours) say of a claim."""

    verdict: str
    counts: str
    evidence: str
    failing: Sequence[str]
    figure: str  # name of the figure to look at, "" for none


@dataclass(frozen=True)
class Row:
    """A claim with what each side says of it."""

    claim: str
    paper: str
    section: str
    statement: str
    reading: str
    sides: Sequence[Side]


@dataclass(frozen=True)
class Verdicts:
    """The table: titles of the sides, claims by paper (its title), and how often each verdict was given."""

    sides: Sequence[str]
    papers: Mapping[str, Sequence[Row]]
    counts: Mapping[str, Sequence[int]]  # of VERDICTS, by side
    verdicts: Sequence[str] = VERDICTS

    @property
    def total(self) -> int:
        """Number of claims."""
        return sum(len(rows) for rows in self.papers.values())


def read(path: Path) -> Verdicts:
    """The claims table (.csv) that `matryobench claims` wrote. Raises InputError where it is another table."""
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        names = list(reader.fieldnames or ())
        sides = [name.removesuffix(" verdict") for name in names if name.endswith(" verdict")]
        wanted = [*OWN, *(f"{side} {name}" for side in sides for name in SIDE)]
        missing = [name for name in wanted if name not in names]
        if missing or not sides:
            problem = f"lacks the column {missing[0]!r}" if sides else "has no column of verdicts"
            raise InputError(f"{path} {problem}; write it with 'matryobench claims'.")
        rows = [_row(line, sides) for line in reader]
    counted = {title: Counter(row.sides[at].verdict for row in rows) for at, title in enumerate(sides)}
    titles = {name: f"{paper.title} ({paper.source})" for name, paper in load_claims().papers.items()}
    papers: dict[str, list[Row]] = {}
    for row in rows:
        papers.setdefault(titles.get(row.paper, row.paper), []).append(row)
    return Verdicts(sides, papers, {title: [counts[one] for one in VERDICTS] for title, counts in counted.items()})


def _row(line: Mapping[str, str], sides: Sequence[str]) -> Row:
    said = []
    for side in sides:
        verdict, counts, failing, evidence, figure = (line[f"{side} {name}"] or "" for name in SIDE)
        cells = [cell for cell in failing.split("; ") if cell]
        said.append(Side(verdict, counts, evidence, cells, PurePosixPath(figure).stem))
    return Row(**{name: line[name] for name in OWN}, sides=said)
