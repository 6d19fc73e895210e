"""Anchor values of an experiment: numbers that its results are expected to reach, each with its tolerance and source.

expected:
  - {task: sts, dataset: average, metric: spearman_cosine, method: bert, recipe: v1, layer: 12, dim: 768,
     value: 0.816, tolerance: 0.01, source: "arXiv 2411.17299, figure 1"}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from matryobench.errors import InputError, unknown_name
from matryobench.validation import Settings

if TYPE_CHECKING:
    import pandas as pd

    from matryobench.tasks import AnyTask

AVERAGE = "average"


class Anchor(Settings):
    """A value that a cell is expected to have."""

    task: Literal["sts", "retrieval", "mteb"] = Field(description="Task of the experiment.")
    dataset: str = Field(description="Test set of the task, or average.")
    metric: str = Field(description="Metric, as in the cells table, e.g. spearman_cosine.")
    method: str = Field(description="Method that the experiment runs.")
    variant: str | None = Field(None, description="Its variant; none: every variant that is run.")
    recipe: str = Field(description="Recipe of the task.")
    layer: PositiveInt = Field(description="Layer of the query side.")
    dim: PositiveInt = Field(description="Width.")
    value: float = Field(allow_inf_nan=False, description="Expected value, mean over seeds.")
    tolerance: float = Field(gt=0, allow_inf_nan=False, description="Largest absolute difference that still agrees.")
    source: str = Field(min_length=1, description="Where the value was read.")

    def name(self) -> str:
        """The anchor in words."""
        variant = f" ({self.variant})" if self.variant else ""
        at = f"layer {self.layer}, dim {self.dim}"
        return f"{self.dataset} {self.metric} of {self.method}{variant}, recipe {self.recipe}, at {at}"


@dataclass(frozen=True)
class Outcome:
    """An anchor beside what was found: the mean over `seeds` native runs of a variant; None and 0 where there is none."""

    anchor: Anchor
    variant: str | None
    found: float | None
    seeds: int

    @property
    def difference(self) -> float | None:
        """Found minus expected."""
        return None if self.found is None else self.found - self.anchor.value

    @property
    def verdict(self) -> Literal["within", "outside", "missing"]:
        """Whether the difference is at most the tolerance."""
        if self.difference is None:
            return "missing"
        # .816 - .806 is .01 and a bit in binary
        return "within" if round(abs(self.difference), 9) <= self.anchor.tolerance else "outside"


def check(anchors: Sequence[Anchor], tasks: Mapping[str, AnyTask], place: str) -> None:
    """Refuses anchors that the experiment's tasks (by name) cannot meet; `place` names the config in errors.

    Raises InputError for a task, dataset, recipe or method that is not there, a cell off the grid, and an anchor twice.
    """
    seen = set()
    for count, anchor in enumerate(anchors):
        at = f"{place}: expected.{count}"
        if anchor.task not in tasks:
            raise unknown_name(at, "task", anchor.task, tasks)
        task = tasks[anchor.task]
        entries = [entry for entry in task.runs if not entry.recipes or anchor.recipe in entry.recipes]
        entries = [entry for entry in entries if "native" in entry.backends]
        for kind, name, valid in (
            ("dataset", anchor.dataset, {*task.sets, AVERAGE}),
            ("recipe", anchor.recipe, set(task.recipes)),
            ("method", anchor.method, {entry.method for entry in entries}),
        ):
            if name not in valid:
                raise unknown_name(at, kind, name, valid)
        variants = [entry.variants for entry in entries if entry.method == anchor.method]
        listed = {name for names in variants for name in names}
        if anchor.variant is not None and all(variants) and anchor.variant not in listed:
            raise unknown_name(at, f"variant of {anchor.method}", anchor.variant, listed)
        for kind, number, held in (("layer", anchor.layer, task.grid.layers), ("dim", anchor.dim, task.grid.dims)):
            if number not in held:
                names = ", ".join(map(str, held))
                raise InputError(f"{at}: {kind} {number} is not on the grid of {anchor.task}; use one of {names}.")
        key = anchor.model_dump_json(exclude={"value", "tolerance", "source"})
        if key in seen:
            raise InputError(f"{at}: {anchor.name()} is expected twice; keep one of the two.")
        seen.add(key)


def compare(frame: pd.DataFrame, anchors: Sequence[Anchor]) -> list[Outcome]:
    """The anchors against the native rows of a cells table, in order; one without a variant once for each it has."""
    native = frame[frame["backend"] == "native"]
    found = []
    for anchor in anchors:
        wanted: dict[str, str | int] = {"query_layer": anchor.layer}
        wanted |= {name: getattr(anchor, name) for name in ("task", "dataset", "metric", "method", "recipe", "dim")}
        wanted |= {"variant": anchor.variant} if anchor.variant is not None else {}
        rows = native
        for name, value in wanted.items():
            rows = rows[rows[name] == value]
        values: dict[str, list[float]] = {}
        for variant, value in zip(rows["variant"], rows["value"], strict=True):
            values.setdefault(str(variant), []).append(float(value))
        if not values:
            found.append(Outcome(anchor, anchor.variant, None, 0))
        for variant, own in sorted(values.items()):
            found.append(Outcome(anchor, variant, math.fsum(own) / len(own), len(own)))
    return found


def sentence(outcome: Outcome, decimals: int = 4) -> str:
    """One line for a reader: expected, found, and whether that is within the tolerance."""
    anchor, found = outcome.anchor, outcome.found
    expected = f"{anchor.name()}: expected {anchor.value:.{decimals}f} ± {anchor.tolerance:g} ({anchor.source})"
    if found is None:
        return f"{expected}, not evaluated."
    which = f" by {outcome.variant}" if anchor.variant is None else ""
    return f"{expected}, found {found:.{decimals}f}{which}, {outcome.verdict}."
