"""Printed tables: text cells with labels, groups and bold marks, written as csv, markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matryobench.files import write_text

MISSING = "\N{EN DASH}"


@dataclass(frozen=True)
class Block:
    """A printed table of text cells.

    The first `labels` columns name a row, the first `group` of these bind rows together; `bold` holds (row, column).
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int
    group: int
    bold: frozenset[tuple[int, int]] = frozenset()


def to_markdown(blocks: Sequence[Block]) -> str:
    """The blocks as pipe tables under their titles, numbers right-aligned."""
    parts = []
    for block in blocks:
        lines = [f"**{_one_line(block.title)}**", "", _pipe([_plain(entry) for entry in block.header])]
        lines.append(_pipe([":--"] * block.labels + ["--:"] * (len(block.header) - block.labels)))
        for at, row in enumerate(block.rows):
            plain = [_plain(entry) for entry in row]
            lines.append(_pipe(f"**{e}**" if (at, place) in block.bold else e for place, e in enumerate(plain)))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def to_latex(blocks: Sequence[Block]) -> str:
    """The blocks as tabulars for the package booktabs, a rule between groups, repeated group labels blank."""
    parts = []
    for block in blocks:
        columns = "l" * block.labels + "r" * (len(block.header) - block.labels)
        lines = [f"% {_one_line(block.title)}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines += [" & ".join(map(_escaped, block.header)) + r" \\", r"\midrule"]
        before: tuple[str, ...] = ()
        for at, row in enumerate(block.rows):
            key = row[: block.group]
            if before and key != before:
                lines.append(r"\midrule")
            texts = [_escaped(entry) for entry in row]
            texts = [rf"\textbf{{{e}}}" if (at, place) in block.bold else e for place, e in enumerate(texts)]
            shared = [place for place in range(block.group) if before[: place + 1] == key[: place + 1]]
            texts = ["" if place in shared else entry for place, entry in enumerate(texts)]
            lines.append(" & ".join(texts) + r" \\")
            before = key
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n")
    return "\n".join(parts)


def write(stem: Path, exact: str, blocks: Sequence[Block]) -> list[Path]:
    """Writes `exact` as `stem`.csv and the blocks as .md and .tex; returns the three paths."""
    texts = {".csv": exact, ".md": to_markdown(blocks), ".tex": to_latex(blocks)}
    paths = [stem.with_name(stem.name + suffix) for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths


def number(mean: float, decimals: int, sd: float = math.nan) -> str:
    """The printed form of a mean, with its deviation if it is known."""
    text = f"{mean:.{decimals}f}"
    return text if math.isnan(sd) else f"{text} ± {sd:.{decimals}f}"


def signed(difference: float, decimals: int) -> str:
    """The printed form of a difference: "+0.012" or "-0.012"; what is printed as zero has no sign."""
    text = f"{difference:+.{decimals}f}"
    return text if float(text) else text[1:]


def _plain(text: str) -> str:
    """The text of a cell of a pipe table: markup in it is text, but for the line ends that a table may have."""
    return re.sub(r"<(?=[A-Za-z/!?])(?!br>)", "&lt;", _one_line(text)).replace("|", "\\|")


def _one_line(text: str) -> str:
    """What ends a line of markdown or a comment of LaTeX becomes a space."""
    return " ".join(text.split())


def _pipe(entries: Iterator[str] | Sequence[str]) -> str:
    return "| " + " | ".join(entries) + " |"


def _escaped(text: str) -> str:
    special = {c: rf"\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
    special |= {"^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    special |= {"±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\rightarrow$", MISSING: "--"}
    return "".join(special.get(letter, letter) for letter in _one_line(text))
