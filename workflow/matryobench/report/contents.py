"""What stands in the report: the products of the plan by task and group, with their files, or what to run for them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from matryobench import products
from matryobench.products import Product
from matryobench.report import captions, embedding

if TYPE_CHECKING:
    from matryobench.plan import Plan

TRAINING_COSTS = Product("training-costs", "", "", "")  # made beside the products, from the records of the runs


@dataclass(frozen=True)
class Entry:
    """A figure or table in its place; a figure without picture or a table without body (HTML) is missing."""

    name: str
    anchor: str
    label: str  # "Figure 3"
    title: str
    reading: str
    picture: embedding.Picture | None
    body: str | None
    files: Sequence[str]  # where it was looked for, relative to the results folder
    command: str  # what makes it
    numbers: Sequence[tuple[str, str]] = ()  # a figure's: (anchor, name) of the tables, anchor "" for one not shown

    @property
    def missing(self) -> bool:
        """Whether there is nothing to show."""
        return self.picture is None and self.body is None


@dataclass(frozen=True)
class Group:
    """Figures and tables that answer one question."""

    title: str
    anchor: str
    figures: Sequence[Entry]
    tables: Sequence[Entry]


@dataclass(frozen=True)
class Part:
    """A task's share of the report, or that of the whole experiment."""

    task: str
    title: str
    groups: Sequence[Group]


def contents(plan: Plan, results: Path) -> list[Part]:
    """The parts of the report in the plan's order; every product has an entry, made or not."""
    titles = {name: method.title for name, method in plan.methods.items()}
    maker = _Maker(plan, results, titles)
    tables = products.tables(plan)
    tables.setdefault("training-costs", TRAINING_COSTS)
    written = {name: maker.table(name, product) for name, product in tables.items()}
    drawn = {name: maker.figure(name, product, tables) for name, product in products.figures(plan).items()}
    tasks = dict.fromkeys([*plan.tasks, *(one.task for one in [*products.figures(plan).values(), *tables.values()])])
    parts = []
    for task in tasks:
        groups = []
        for title in captions.GROUPS:
            own = [
                [entry for name, entry in made.items() if (of[name].task, _group(of[name], figure)) == (task, title)]
                for made, of, figure in ((drawn, products.figures(plan), True), (written, tables, False))
            ]
            if any(own):
                anchor = f"{task or 'experiment'}-{captions.GROUPS.index(title) + 1}"
                groups.append(Group(title, anchor, *own))
        parts.append(Part(task or "experiment", captions.task_title(task), groups))
    return _numbered([part for part in parts if part.groups])


def command(plan: Plan, file: str = "") -> str:
    """The command that makes a file of the results folder and what it needs, without `file` all of them."""
    # the file first: --configfile takes all names that follow it
    target = f" {shlex.quote((plan.experiment.folder / file).as_posix())}" if file else ""
    return f"snakemake --cores all{target} --configfile {shlex.quote(plan.place)}"


def entries(parts: Sequence[Part]) -> list[Entry]:
    """All figures and tables."""
    return [entry for part in parts for group in part.groups for entry in [*group.figures, *group.tables]]


class _Maker:
    """Makes entries of products."""

    def __init__(self, plan: Plan, results: Path, titles: Mapping[str, str]) -> None:
        self.plan, self.results, self.titles = plan, results, titles

    def figure(self, name: str, product: Product, tables: Mapping[str, Product]) -> Entry:
        picture = embedding.picture(self.results / "figures" / name)
        files = [f"figures/{name}{ending}" for ending in embedding.PICTURES]
        numbers = [(f"table-{table}", table) for table in _numbers(product, tables)] or [("", "tables/cells.csv")]
        return self._entry("figure", name, product, picture, None, files, numbers)

    def table(self, name: str, product: Product) -> Entry:
        path = self.results / "tables" / f"{name}.md"
        text = path.read_text(encoding="utf-8") if path.is_file() else None
        body = embedding.markdown(text, name) if text is not None else None
        return self._entry("table", name, product, None, body, [f"tables/{name}.md"], [])

    def _entry(
        self, what: str, name: str, product: Product, picture: embedding.Picture | None, body: str | None,
        files: list[str], numbers: list[tuple[str, str]],
    ) -> Entry:  # fmt: skip
        figure = what == "figure"
        return Entry(
            name, f"{what}-{name}", what.capitalize(), captions.title_of(product, figure, self.titles),
            captions.reading_of(product, figure, self.titles), picture, body, files,
            command(self.plan, files[0]), numbers,
        )  # fmt: skip


def _numbers(product: Product, tables: Mapping[str, Product]) -> list[str]:
    """The tables that hold a figure's numbers: of its kind's, those of the same task, test set and metric."""
    shown = (product.task, product.dataset, product.metric)
    return [
        name
        for kind in captions.kind_of(product, figure=True).numbers
        for name, table in tables.items()
        if table.kind == kind and (table.task, table.dataset, table.metric) == shown
    ]


def _group(product: Product, figure: bool) -> str:
    return captions.kind_of(product, figure).group


def _numbered(parts: Sequence[Part]) -> list[Part]:
    """The parts with their figures and tables numbered in the order in which they stand."""
    counts = {"Figure": 0, "Table": 0}

    def number(entry: Entry) -> Entry:
        counts[entry.label] += 1
        return replace(entry, label=f"{entry.label} {counts[entry.label]}")

    return [
        replace(part, groups=[
            replace(group, figures=list(map(number, group.figures)), tables=list(map(number, group.tables)))
            for group in part.groups
        ])
        for part in parts
    ]  # fmt: skip
