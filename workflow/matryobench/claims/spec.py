"""What `config/claims.yaml` may say. The vocabulary with examples: docs/claims.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from matryobench.grid import Cell, Grid
from matryobench.validation import Settings

PUBLISHED = "published"
PUBLISHED_VARIANTS = (PUBLISHED, "published-two", "published-four")
"""Variants of published rows, see analysis/published.py; the last two are lists of widths of +dims."""

Direction = Literal["above", "below", "equal", "not-above", "not-below"]
Metric = Literal["spearman_cosine", "mrr@10", "ndcg@10", "recall@100", "accuracy"]
Share = Annotated[float, Field(gt=0, le=1)]
Tolerance = Annotated[float, Field(ge=0)]

_AXIS = re.compile(r"all|last|below-last|(<=|>=|<|>)[1-9]\d*")


class Cells(Settings):
    """Cells of a grid, in the numbers of the paper's backbone: layers x dims, or pairs, or sizes."""

    layers: str | list[PositiveInt] = Field("all", description="all, last, below-last, <=6 (<, >, >= too), or a list.")
    dims: str | list[PositiveInt] = Field("all", description="As layers; last is the full width.")
    pairs: list[Cell] = Field([], description="[layer, dim] pairs in place of layers and dims.")
    sizes: list[str] = Field([], description="Names of the paper's sizes in place of layers and dims.")
    match: Literal["relative", "absolute"] = Field(
        "relative", description="On another backbone: the cells at the same relative depth and width, or these numbers."
    )

    @field_validator("layers", "dims")
    @classmethod
    def _known(cls, value: str | list[int]) -> str | list[int]:
        if isinstance(value, str) and not _AXIS.fullmatch(value):
            raise ValueError("write all, last, below-last, a bound such as <=32, or a list of numbers")
        if value == []:
            raise ValueError("the list is empty; name at least one")
        return value

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = [bool(self.pairs), bool(self.sizes), (self.layers, self.dims) != ("all", "all")]
        if sum(forms) > 1:
            raise ValueError("give layers and dims, or pairs, or sizes, not several of them")
        return self


class Series(Settings):
    """The values of one method over cells. A bare name in the file stands for {method: name}."""

    method: str = Field(description="Name in config/methods.yaml.")
    variants: list[str] = Field([], description="The first of these that was run; none: the task's default, else any.")
    recipes: list[str] = Field([], description="The first of these that was run; none: the claim's.")
    minus: Series | None = Field(None, description="Subtract this series, cell by cell.")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    def parts(self) -> Iterator[Series]:
        """This series and what is subtracted from it."""
        yield self
        if self.minus is not None:
            yield from self.minus.parts()


class Rule(Settings):
    """From the share of units (cells, layers, baselines, pairs) that agree to a verdict."""

    reproduced: Share = Field(1.0, description="Least share for `reproduced`.")
    partly: Share = Field(0.5, description="Least share for `partly`; below it the verdict is `not reproduced`.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.partly > self.reproduced:
            raise ValueError("'partly' is above 'reproduced'; it must not be")
        return self


class Check(Settings):
    """What all predicates have."""

    cells: Cells = Field(Cells(), description="The cells that are looked at.")
    rule: Rule = Field(Rule(), description="The verdict rule.")

    def series(self) -> list[Series]:
        """All series that the predicate needs."""
        raise NotImplementedError

    def all_cells(self) -> list[Cells]:
        """All selections of cells that the predicate makes."""
        return [self.cells]


class Exceptions(Settings):
    """Cells where another sign is expected."""

    cells: Cells = Field(description="The cells.")
    direction: Direction = Field(description="What holds there.")


class Compare(Check):
    """Cell by cell: the method against every baseline. A cell agrees where all its comparisons do."""

    kind: Literal["compare"]
    method: Series = Field(description="What is compared.")
    against: list[Series] = Field(min_length=1, description="With what.")
    direction: Direction = Field(description="How the method's value stands to each baseline's.")
    margin: Tolerance = Field(0.0, description="above, below: by more than it; equal, not-above, not-below: within it.")
    exceptions: list[Exceptions] = Field(
        [], description="Cells with another direction; the first that has a cell counts."
    )

    def series(self) -> list[Series]:
        """The method, then the baselines."""
        return [self.method, *self.against]

    def all_cells(self) -> list[Cells]:
        """The cells, then those of the exceptions."""
        return [self.cells, *(one.cells for one in self.exceptions)]


class Best(Check):
    """Cell by cell: the method is strictly above all rivals."""

    kind: Literal["best"]
    method: Series = Field(description="The method.")
    among: list[Series] = Field(min_length=1, description="Its rivals.")

    def series(self) -> list[Series]:
        """The method, then its rivals."""
        return [self.method, *self.among]


class Mean(Check):
    """The mean over the cells against that of each baseline. The unit is a baseline."""

    kind: Literal["mean"]
    method: Series = Field(description="What is compared.")
    against: list[Series] = Field(min_length=1, description="With what.")
    direction: Direction = Field(description="How the method's mean stands to each baseline's.")
    margin: Tolerance = Field(0.0, description="As in compare.")

    def series(self) -> list[Series]:
        """The method, then the baselines."""
        return [self.method, *self.against]


class Order(Check):
    """The means over the cells rise from each series to the next. The unit is a pair of neighbours."""

    kind: Literal["order"]
    ascending: list[Series] = Field(min_length=2, description="The series, lowest mean first.")
    margin: Tolerance = Field(0.0, description="Each mean is above the one before by more than this.")

    def series(self) -> list[Series]:
        """The series in their order."""
        return self.ascending


class Trend(Check):
    """From each dim to the next larger one (or layer to the next deeper one) values change within bounds.

    The unit is a layer (or dim), which agrees where all its steps do.
    """

    kind: Literal["trend"]
    method: Series = Field(description="What is followed.")
    along: Literal["dims", "layers"] = Field(description="The axis of the steps.")
    least: float | None = Field(None, description="Least change of a step; 0: never falls. None: no bound.")
    most: float | None = Field(None, description="Largest change of a step; 0: never rises. None: no bound.")
    relative: bool = Field(False, description="Changes are shares of the larger of the two values.")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.least is None and self.most is None:
            raise ValueError("give 'least', 'most' or both")
        return self

    def series(self) -> list[Series]:
        """The one series."""
        return [self.method]


class Dip(Check):
    """At the one dim of `cells` the value is below both neighbouring dims of the grid. The unit is a layer."""

    kind: Literal["dip"]
    method: Series = Field(description="What is looked at.")
    present: bool = Field(True, description="False: that there is no dip.")
    margin: Tolerance = Field(0.0, description="By more than this.")

    @model_validator(mode="after")
    def _one_dim(self) -> Self:
        if not isinstance(self.cells.dims, list) or len(self.cells.dims) != 1:
            raise ValueError("cells.dims must be a list with the one dim of the dip")
        return self

    def series(self) -> list[Series]:
        """The one series."""
        return [self.method]


class Outliers(Check):
    """Which cells fall short of the best cell with no more layers and no larger dim by more than `margin`.

    The unit is a (method, cell) that was found or expected; it agrees where it is both.
    """

    kind: Literal["outliers"]
    methods: list[Series] = Field(min_length=1, description="Whose values are searched.")
    margin: Tolerance = Field(description="How far below makes an outlier.")
    expected: dict[str, list[Cell]] = Field(
        min_length=1, description="Method -> [layer, dim] pairs that should be found."
    )

    @model_validator(mode="after")
    def _searched(self) -> Self:
        stray = [name for name in self.expected if name not in {one.method for one in self.methods}]
        if stray:
            raise ValueError(f"'{stray[0]}' is expected to have outliers but is not in 'methods'")
        return self

    def series(self) -> list[Series]:
        """The series that are searched."""
        return self.methods

    def all_cells(self) -> list[Cells]:
        """The cells, then those that are expected."""
        return [self.cells, *(Cells(pairs=pairs, match=self.cells.match) for pairs in self.expected.values())]


AnyCheck = Annotated[Compare | Best | Mean | Order | Trend | Dip | Outliers, Field(discriminator="kind")]


class Paper(Settings):
    """A paper, and the grid in whose numbers its claims name cells."""

    title: str = Field(description="Its title.")
    source: str = Field(description="Where it is.")
    grid: Grid = Field(description="Its grid; the last layer and the largest dim are those of its backbone.")
    sizes: dict[str, Cell] = Field({}, description="Its named sizes.")


class Claim(Settings):
    """One statement with its predicate."""

    paper: str = Field(description="Key in `papers`.")
    section: str = Field(description="Section, figure or table.")
    origin: Literal["result", "numbers", "aim"] = Field(
        "result", description="The text says it; only its numbers do; it is a question that the text leaves open."
    )
    statement: str = Field(description="The statement, in our words.")
    reading: str = Field("", description="How we read it where the text can be read in several ways.")
    task: Literal["sts", "retrieval", "mteb"] = Field(description="Task of the cells table.")
    dataset: str = Field(description="Test set, or average.")
    metric: Metric = Field(description="Metric of the cells table.")
    recipes: list[str] = Field([], description="The first of these that was run; none: any that has all series.")
    published: Literal["sts", "retrieval", "starbucks"] | None = Field(
        None,
        description="Experiment whose published numbers it is tested on (analysis/published.py); left out: there are none.",
    )
    figure: str = Field(description="Name of the figure that shows it; {dataset} stands for the test set.")
    checks: list[AnyCheck] = Field(min_length=1, description="The predicates; all must hold.")


class Claims(Settings):
    """The whole file."""

    papers: dict[str, Paper] = Field(min_length=1, description="The papers by key.")
    claims: dict[str, Claim] = Field(min_length=1, description="The claims by id, in the order of the verdict table.")
