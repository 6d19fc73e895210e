"""What a reader of the report is told about each kind of figure and table: its group, its title and how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matryobench.analysis.cells import AVERAGE
from matryobench.figures.theme import METRICS

if TYPE_CHECKING:
    from matryobench.products import Product

TASKS: Mapping[str, str] = {"sts": "Semantic textual similarity", "retrieval": "Retrieval", "mteb": "MTEB tasks"}


@dataclass(frozen=True)
class Kind:
    """A kind of figure or table: the group that it stands in, what it is called and how it is read."""

    group: str
    title: str
    reading: str
    numbers: tuple[str, ...] = ()  # kinds of tables that hold a figure's numbers


CELLS, PUBLISHED, SIZES, TRAINS, COST, AGREE, OTHER = GROUPS = (
    "Every cell of the grid",
    "Beside the published numbers",
    "At smaller sizes",
    "What the losses train",
    "Cost and deployment",
    "This program and the reference implementations",
    "Further results",
)

FIGURES: Mapping[str, Kind] = {
    "panels": Kind(
        CELLS,
        "Quality per layer against dim",
        "One panel per layer, one line per method; higher is better. A dashed line is another variant of the method in"
        " that colour, a gap means that the cell was not evaluated.",
        ("grid",),
    ),
    "heatmaps": Kind(
        CELLS,
        "Quality in every cell",
        "One map per method: rows are layers, columns dims, all maps on one colour scale. Hatched cells were not"
        " evaluated.",
        ("grid",),
    ),
    "differences": Kind(
        CELLS,
        "Difference from {baseline}",
        "The method's score minus that of {baseline} in the same cell: blue is better, red is worse. Hatched cells lack"
        " one of the two.",
        ("grid",),
    ),
    "published-panels": Kind(
        PUBLISHED,
        "Published numbers and ours, per layer",
        "The same panels from the papers' numbers and from this experiment. Look at the order and the shape of the"
        " lines; levels differ where the encoder or the data do.",
        ("agreement", "grid"),
    ),
    "published-heatmaps": Kind(
        PUBLISHED,
        "Published numbers, ours and their difference",
        "Per method the published map, ours and ours minus published. Where the encoders differ in size, cells are"
        " matched by relative depth and width.",
        ("agreement", "grid"),
    ),
    "sizes": Kind(
        SIZES,
        "Quality against size",
        "From the smallest named size to the largest; higher is better. A method that stays level loses little when it"
        " is cut.",
        ("sizes",),
    ),
    "relative": Kind(
        SIZES,
        "Quality relative to full fine-tuning",
        "The scores against dim as they are, as a share of the method's own at full width, and as a share of FF's there.",
        ("relative",),
    ),
    "coverage": Kind(
        TRAINS,
        "Gradient coverage beside quality",
        "Per method the cells at which terms of the base loss and of the alignment are evaluated, with their total"
        " weight, and the score; grey cells are trained only through a wider width of their layer. Layer 0 is the"
        " embedding output.",
        ("coverage", "grid"),
    ),
    "pareto": Kind(
        COST,
        "Quality against cost",
        "Each point is a cell; up and left is better. No cell of any run beats those on the step line in quality and"
        " cost at once, and every other can be replaced by one of them.",
        ("deployment",),
    ),
    "backends": Kind(
        AGREE,
        "Agreement with the reference implementation",
        "The same method trained by this program and by the reference library: points on the diagonal, or differences"
        " near 0, are agreement.",
        ("backends",),
    ),
}

TABLES: Mapping[str, Kind] = {
    "grid": Kind(CELLS, "Scores in every cell", "A row per layer and method, a column per dim; bold is the best."),
    "summary": Kind(
        CELLS,
        "Means and counts of best cells",
        "Means over dims and over layers, and in how many cells a method is best. A mean over all cells hides opposite"
        " effects at small and at large widths: compare the single columns.",
    ),
    "bands": Kind(
        CELLS, "Means over bands of dims", "Means over all layers, apart for narrow and for wide embeddings."
    ),
    "tests": Kind(
        CELLS,
        "Cells that differ from the baselines",
        "Every cell of every method against each baseline, by paired tests of single pairs or queries: cells above or below"
        " beyond chance (after Holm's correction over the grid), equivalent within the margin, or undecided. The explorer"
        " shows each cell's interval.",
    ),
    "variants": Kind(
        CELLS,
        "What a method's variants differ by",
        "Variants of one method compared cell by cell: text against released code, or one list of widths against another.",
    ),
    "sets": Kind(
        CELLS, "Scores on the single test sets", "At the named sizes, a column per test set; bold is the best."
    ),
    "agreement": Kind(
        PUBLISHED,
        "Agreement with the published grid",
        "How far our grid is from the published one (RMSE, bias, largest difference) and whether it orders cells and"
        " methods alike (rank correlations, signs of differences), overall and per band.",
    ),
    "expected": Kind(PUBLISHED, "Expected values and ours", "The values that the experiment names as its anchors."),
    "sizes": Kind(SIZES, "Scores at the named sizes", "A mark after a score says that it differs significantly."),
    "relative": Kind(SIZES, "Scores by dim, absolute and relative to full fine-tuning", "Bold is the best."),
    "coverage": Kind(TRAINS, "Cells that the losses train", "Total weights of the loss terms at each cell."),
    "deployment": Kind(
        COST,
        "What a cell costs and what it gives",
        "The cells that are worth their cost; the machine is named under Cost.",
    ),
    "training-costs": Kind(COST, "What the training of a method costs", "Chains of runs are counted once."),
    "backends": Kind(
        AGREE,
        "Agreement with the reference implementation",
        "Reference minus native, over the cells and per cell; 0 is agreement.",
    ),
}


def kind_of(product: Product, figure: bool) -> Kind:
    """The texts for a product's kind; for one that is not named here, its own name and no reading."""
    known = (FIGURES if figure else TABLES).get(product.kind)
    return known or Kind(OTHER, product.kind.replace("-", " ").capitalize(), "")


def title_of(product: Product, figure: bool, titles: Mapping[str, str]) -> str:
    """The product's title with what it shows: test sets, metric, and where there is one the method compared with."""
    title = _with_baseline(kind_of(product, figure).title, product, titles)
    return ", ".join([title, *shown(product)])


def reading_of(product: Product, figure: bool, titles: Mapping[str, str]) -> str:
    """How the product is read, in a sentence or two; may be empty."""
    text = _with_baseline(kind_of(product, figure).reading, product, titles)
    methods = methods_of(product, titles)
    return " ".join([text, *([f"Methods: {methods}."] if methods else [])]).strip()


def methods_of(product: Product, titles: Mapping[str, str]) -> str:
    """The titles of the methods that the product is restricted to, "" where it shows all."""
    return ", ".join(titles.get(method, method) for method in product.methods or ())


def shown(product: Product) -> list[str]:
    """The test set and the metric of a product, as far as it has one of each."""
    found = [set_title(product.dataset)] if product.dataset and (product.metric or product.dataset != AVERAGE) else []
    return found + ([metric_title(product.metric)] if product.metric else [])


def set_title(dataset: str) -> str:
    """The title of a test set; the cells table calls the mean over several "average"."""
    return "mean of the test sets" if dataset == AVERAGE else dataset


def metric_title(metric: str) -> str:
    """The title of a metric, as the figures have it."""
    return METRICS.get(metric, metric)


def task_title(task: str) -> str:
    """The title of a task; products of no single task are those of the whole experiment."""
    return TASKS.get(task, task) or "The whole experiment"


def _with_baseline(text: str, product: Product, titles: Mapping[str, str]) -> str:
    baseline = product.baseline or "the baseline"
    return text.replace("{baseline}", titles.get(baseline, baseline))
