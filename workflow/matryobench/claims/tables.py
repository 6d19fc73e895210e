"""The verdict table: a row per claim, and for each side (published, ours) the verdict with its evidence."""

from __future__ import annotations

import csv
import html
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matryobench.analysis.blocks import MISSING, Block, to_markdown
from matryobench.claims.evaluate import VERDICTS, Verdict
from matryobench.claims.spec import Claim, Claims
from matryobench.files import write_text

SHOWN = 12  # failing cells that a printed table names; the csv has all

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5rem; color: #222; }
table.claims { border-collapse: collapse; }
table.claims th, table.claims td { border: 1px solid #ccc; padding: .4rem .55rem; text-align: left; vertical-align: top; }
table.claims thead th { background: #f3f3f3; position: sticky; top: 0; }
.claims .verdict { font-weight: 600; white-space: nowrap; }
.claims .reproduced .verdict { color: #11651f; }
.claims .partly .verdict { color: #8a5a00; }
.claims .not-reproduced .verdict { color: #a11212; }
.claims .cannot-be-tested-here .verdict { color: #666; }
.claims .evidence, .claims .reading { color: #555; font-size: 12px; }
"""


@dataclass(frozen=True)
class Side:
    """A column: its title, the verdicts in the order of the claims, and where the figures are (name -> link)."""

    title: str
    verdicts: Sequence[Verdict]
    figures: Mapping[str, str] = field(default_factory=dict)


def write(claims: Claims, sides: Sequence[Side], stem: Path) -> list[Path]:
    """Writes the verdict table as `stem`.csv (all evidence), .md and .html (a page of its own); returns the paths."""
    texts = {".csv": to_csv(claims, sides), ".md": to_md(claims, sides), ".html": to_page(claims, sides)}
    paths = [stem.with_name(stem.name + suffix) for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths


def to_csv(claims: Claims, sides: Sequence[Side]) -> str:
    """One line per claim; per side the columns verdict, counts, failing, evidence and figure (a link, if there is one)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("verdict", "counts", "failing", "evidence", "figure")
    own = ("claim", "paper", "section", "origin", "statement", "reading", "task", "dataset", "metric")
    writer.writerow([*own, *(f"{side.title} {name}" for side in sides for name in names)])
    for at, (name, claim) in enumerate(claims.claims.items()):
        row = [name, *(getattr(claim, key) for key in own[1:])]
        for side in sides:
            one = side.verdicts[at]
            link = side.figures.get(one.figure, "")
            row += [one.verdict, one.counts, "; ".join(one.failing), one.evidence, link]
        writer.writerow(row)
    return text.getvalue()


def to_md(claims: Claims, sides: Sequence[Side]) -> str:
    """The counts of verdicts, then a pipe table per paper."""
    blocks = [_summary(claims, sides)]
    for paper, rows in _by_paper(claims).items():
        header = ("claim", "section", "statement", *(side.title for side in sides), "figure")
        lines = []
        for at, name, claim in rows:
            entries = [_md_verdict(side.verdicts[at]) for side in sides]
            lines.append((name, claim.section, _stated(claim), *entries, _md_links(sides, at)))
        blocks.append(Block(claims.papers[paper].title, header, tuple(lines), len(header), 1))
    return to_markdown(blocks)


def to_page(claims: Claims, sides: Sequence[Side]) -> str:
    """A whole HTML page that needs no other file but the figures that it links to."""
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Claims</title>\n'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>Claims</h1>\n{to_html(claims, sides)}</body>\n</html>\n"
    )


def to_html(claims: Claims, sides: Sequence[Side]) -> str:
    """The tables alone, for a page that has its own style: class claims, rows with id claim-<id>, a class per verdict."""
    summary = _summary(claims, sides)
    parts = [_html_table(summary.header, [[html.escape(entry) for entry in row] for row in summary.rows])]
    head = ("claim", "statement", *(side.title for side in sides))
    for paper, rows in _by_paper(claims).items():
        one = claims.papers[paper]
        parts.append(f"<h2>{html.escape(one.title)}</h2>\n<p>{html.escape(one.source)}</p>\n")
        lines = []
        for at, name, claim in rows:
            sided = "".join(_html_verdict(side, side.verdicts[at]) for side in sides)
            reading = f'<div class="reading">{html.escape(claim.reading)}</div>' if claim.reading else ""
            lines.append(
                f'<tr id="claim-{html.escape(name)}"><th scope="row">{html.escape(name)}<br><small>'
                f"{html.escape(claim.section)}</small></th><td>{html.escape(claim.statement)}{reading}</td>{sided}</tr>\n"
            )
        titles = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in head)
        parts.append(
            f'<table class="claims">\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{"".join(lines)}</tbody>\n</table>\n'
        )
    return "".join(parts)


def _summary(claims: Claims, sides: Sequence[Side]) -> Block:
    rows = []
    for side in sides:
        counts = Counter(one.verdict for one in side.verdicts)
        rows.append((side.title, *(str(counts[verdict]) for verdict in VERDICTS)))
    return Block(f"Verdicts on {len(claims.claims)} claims", ("numbers", *VERDICTS), tuple(rows), 1, 1)


def _by_paper(claims: Claims) -> dict[str, list[tuple[int, str, Claim]]]:
    found: dict[str, list[tuple[int, str, Claim]]] = {}
    for at, (name, claim) in enumerate(claims.claims.items()):
        found.setdefault(claim.paper, []).append((at, name, claim))
    return found


def _stated(claim: Claim) -> str:
    return f"{claim.statement} (Read as: {claim.reading})" if claim.reading else claim.statement


def _failing(one: Verdict) -> str:
    if not one.failing:
        return ""
    more = len(one.failing) - SHOWN
    return "Not so: " + "; ".join(one.failing[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _md_verdict(one: Verdict) -> str:
    parts = [f"**{one.verdict}**" + f" {one.counts}" * bool(one.outcomes), one.evidence, _failing(one)]
    return "<br>".join(part for part in parts if part)


def _md_links(sides: Sequence[Side], at: int) -> str:
    found = []
    for side in sides:
        figure = side.verdicts[at].figure
        if figure in side.figures:
            found.append(f"[{side.title}]({side.figures[figure]})")
    return ", ".join(found) or MISSING


def _html_verdict(side: Side, one: Verdict) -> str:
    counts = f" {html.escape(one.counts)}" if one.outcomes else ""
    lines = [f'<div><span class="verdict">{one.verdict}</span>{counts}</div>']
    lines += [f'<div class="evidence">{html.escape(text)}</div>' for text in (one.evidence, _failing(one)) if text]
    if one.figure in side.figures:
        link = html.escape(side.figures[one.figure], quote=True)
        lines.append(f'<div><a href="{link}">{html.escape(one.figure)}</a></div>')
    return f'<td class="{one.verdict.replace(" ", "-")}">{"".join(lines)}</td>'


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(entry)}</th>" for entry in header)
    body = "".join("<tr>" + "".join(f"<td>{entry}</td>" for entry in row) + "</tr>\n" for row in rows)
    return f'<table class="claims">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n'
