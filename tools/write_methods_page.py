#!/usr/bin/env python3
"""Writes the generated blocks of docs/methods.md from config/methods.yaml: per method its facts and its variants.

    python tools/write_methods_page.py [--check]

The text around the blocks, with the formulas, is written by hand; a block stands between `<!-- method: NAME -->` and
`<!-- end -->`. With --check nothing is written, and the exit code is 1 where a block is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow"))

from matryobench.errors import InputError
from matryobench.files import atomic_path
from matryobench.objectives.registry import load_methods
from matryobench.objectives.spec import (
    Alignment,
    CellGroup,
    Compression,
    CoordinateKL,
    LayerGroup,
    Method,
    ScoreAlignment,
    ScoreKL,
    SizeGroup,
    Variant,
)

PAGE = ROOT / "docs" / "methods.md"
BLOCK = re.compile(r"<!-- method: (?P<name>\S+) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)


def page(text: str, methods: dict[str, Method]) -> str:
    """The page with every block made anew. Raises InputError where a method has no block, or a block no method."""
    found = [match["name"] for match in BLOCK.finditer(text)]
    for name in sorted(set(found) ^ set(methods)):
        fix = (
            "remove its block" if name in found else f"add '<!-- method: {name} -->' and '<!-- end -->' lines with text"
        )
        raise InputError(f"{PAGE.name}: '{name}' is in only one of page and config/methods.yaml; {fix}.")
    return BLOCK.sub(lambda m: f"<!-- method: {m['name']} -->\n{block(methods[m['name']])}<!-- end -->", text)


def block(method: Method) -> str:
    """The facts of a method and the table of its variants."""
    defaults = ", ".join(f"`{method.default_for(task)}` ({task})" for task in method.tasks)
    start = f"the finished run of `{method.starts_from}`" if method.starts_from else "the backbone"
    start = f"the continued pre-training `{method.pretraining}`" if method.pretraining else start
    lines = [
        f"**{method.title}.** {method.description}",
        "",
        f"Tasks: {', '.join(method.tasks)}. Starts from {start}. Default variant: {defaults}. Source: {method.source}.",
        "",
        "| variant | task | what it is | base loss at | alignment | ledger |",
        "| :-- | :-- | :-- | :-- | :-- | :-- |",
    ]
    for name, variant in method.variants.items():
        what = f"{variant.description} *{variant.source}*"
        ledger = ", ".join(f"[{one}](deviations.md#{one.lower()})" for one in variant.deviations) or "–"
        parts = (f"`{name}`", variant.task, what, losses(variant), alignments(variant), ledger)
        lines.append(f"| {' | '.join(part.replace('|', chr(92) + '|') for part in parts)} |")
    return "\n".join([*lines, "", ""])


def losses(variant: Variant) -> str:
    """Where the base loss is evaluated, in words."""
    found = []
    for group in variant.losses:
        if isinstance(group, SizeGroup):
            found.append("every size" if group.sizes == "all" else "every size's d at L and at a drawn size's layer")
        else:
            found.append(f"{cells(group)} × {weight(group, variant)}{drawing(group, variant)}")
    runs = {"one": "", "per-layer": " (a model per layer)", "per-cell": " (a model per cell)"}[variant.runs]
    documents = "; passages always at L" if variant.documents == "last" else ""
    return "<br>".join(found) + runs + documents


def alignments(variant: Variant) -> str:
    """The alignment terms, in words."""
    return "<br>".join(aligned(term, variant) for term in variant.alignments) or "–"


def aligned(term: Alignment, variant: Variant) -> str:
    match term:
        case CoordinateKL():
            students = "(r, H)" if term.students == "sampled" else "every size but the largest"
            teacher = "detached" if term.detach_teacher else "gets gradient"
            return f"KL over coordinates of {students} to layer L × {term.weight:g}; T {term.temperature:g}, teacher {teacher}"
        case Compression():
            how = {"pca": "principal components", "softmax-svd": "softmax SVD"}[term.compress]
            divided = " / texts" if term.divide_by_texts else ""
            return f"MSE + KL of {cells(term)} to the {how} of its layer × {weight(term, variant)}{divided}"
        case ScoreAlignment():
            halves = " + ".join(name for name, factor in (("MSE", term.mse), ("KL", term.kl)) if factor)
            teacher = "S(l, H)" if term.teacher == "own-layer-full" else "S(L, H)"
            divided = " / scores" if term.divide_by_scores else ""
            return f"{halves} of scores at {cells(term)} to {teacher} × {weight(term, variant)}{divided}"
        case ScoreKL():
            students = "every size but the largest" if term.students == "sizes" else "those cells but (L, H)"
            return f"KL of scores at {students} to S(L, H) × {term.weight:g}; teacher detached"


def cells(group: CellGroup) -> str:
    layers = {"last": "L", "below-last": "1..L-1", "input-to-second-last": "0..L-2", "sampled": "r", "cell": "own l"}
    dims = {
        "full": "H", "nested": "nested d", "one-nested": "one nested d", "target": "k", "targets": "target d",
        "list": f"list `{group.dim_list}`", "cell": "own d",
    }  # fmt: skip
    return f"({layers[group.layers]}, {dims[group.dims]})"


def drawing(group: CellGroup, variant: Variant) -> str:
    """What every step draws for the group."""
    layer = f"r from {variant.sample_from}..L-1" if group.layers == "sampled" else ""
    parts = [part for part in (layer, "d" if group.dims == "one-nested" else "") if part]
    return f"; each step draws {' and '.join(parts)}" if parts else ""


def weight(group: LayerGroup, variant: Variant) -> str:
    """The weight of a layer l of the group; the rules count from the group's lowest layer."""
    lowest = {"input-to-second-last": 0, "sampled": variant.sample_from}.get(group.layers, 1)
    layer = "r" if group.layers == "sampled" else "l"
    counted = layer if lowest else f"(1+{layer})"
    rule = {"uniform": "1", "log": f"1/(1+ln {counted})", "linear": f"1/{counted}"}[group.weights]
    return f"{rule}, averaged over the layers" if group.average else rule


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where the page is out of date")
    arguments = parser.parse_args()
    try:
        text = PAGE.read_text(encoding="utf-8")
        made = page(text, load_methods())
    except InputError as error:
        print(f"write_methods_page: {error}", file=sys.stderr)
        return 2
    if arguments.check:
        if made != text:
            print(f"{PAGE.name} is out of date; run python tools/write_methods_page.py", file=sys.stderr)
        return int(made != text)
    with atomic_path(PAGE) as partial:
        partial.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
