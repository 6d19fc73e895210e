"""Where Snakemake's own report (`snakemake --report`) puts a figure or table: by task and group, under its title.

Asked for by rules, so nothing heavy is imported before there is a report to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matryobench import products

if TYPE_CHECKING:
    from matryobench.plan import Plan


@dataclass(frozen=True)
class Place:
    """Category, subcategory and labels as the flag `report` of an output takes them."""

    category: str
    subcategory: str
    labels: Mapping[str, str]


def place(plan: Plan, name: str, *, figure: bool) -> Place:
    """The place of a figure or table of the plan; KeyError for one that is none of its."""
    from matryobench.report import captions

    product = (products.figures(plan) if figure else products.tables(plan))[name]
    titles = {name: method.title for name, method in plan.methods.items()}
    labels = {  # the same keys for all, as Snakemake shows none where they differ within a group
        "kind": "figure" if figure else "table",
        "shows": captions.title_of(product, figure, titles),
        "methods": captions.methods_of(product, titles) or "all",
    }
    return Place(captions.task_title(product.task), captions.kind_of(product, figure).group, labels)
