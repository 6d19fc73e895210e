"""From a checked experiment to the list of runs: what is trained, from what, in which order, and what is evaluated.

Everything that can be wrong with a config is found here, before any job starts. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from matryobench.backbones import backbone_shape
from matryobench.config import (
    Experiment,
    PretrainedBackbone,
    Recipe,
    RunEntry,
    Seed,
    StsTask,
    load_experiment,
)
from matryobench.data.registry import DatasetSpec, find_dataset, load_datasets
from matryobench.errors import InputError, unknown_name
from matryobench.grid import Cell
from matryobench.objectives.registry import load_methods
from matryobench.objectives.spec import Method, Variant
from matryobench.paths import DATASETS, METHODS


@dataclass(frozen=True)
class Run:
    """One model to train and the cells that it is evaluated at."""

    run_id: str
    task: str
    method: str
    variant: str
    recipe: str
    seed: Seed
    cell: tuple[int, int | None] | None  # the run's own cell (bert-s), dim None for a model per layer
    starts_from: str | None  # run id, or None for the backbone
    evaluated: tuple[Cell, ...]

    @property
    def layers(self) -> int | None:
        """Layers of the trained encoder where it is truncated, else None (all of the backbone's)."""
        return self.cell[0] if self.cell else None


class Plan:
    """An experiment with its registries, fully checked; `runs` is in an order that respects dependencies."""

    def __init__(self, experiment: Experiment, place: str, datasets: Path = DATASETS, methods: Path = METHODS) -> None:
        self.experiment = experiment
        self.place = place
        self.methods: dict[str, Method] = load_methods(methods)
        self.datasets: dict[str, DatasetSpec] = load_datasets(datasets)
        self.shape = backbone_shape(experiment.backbone, experiment.mirror, place)
        self._check_data()
        self._check_cells()
        self.runs: tuple[Run, ...] = tuple(self._ordered(list(self._expand())))

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Reads and checks an experiment file; raises InputError, one sentence with file, key and fix."""
        return cls(load_experiment(path), str(path))

    @property
    def sts(self) -> StsTask:
        """The STS task (the only one so far, so always there)."""
        assert self.experiment.sts is not None
        return self.experiment.sts

    @cached_property
    def by_id(self) -> dict[str, Run]:
        """The runs by id."""
        return {run.run_id: run for run in self.runs}

    def run(self, run_id: str) -> Run:
        """The run of that id; InputError with the nearest ids where there is none."""
        if run_id not in self.by_id:
            raise unknown_name(self.place, "run", run_id, self.by_id)
        return self.by_id[run_id]

    def recipe(self, run: Run) -> Recipe:
        """The run's recipe."""
        return self.sts.recipes[run.recipe]

    def variant(self, run: Run) -> Variant:
        """The definition of the run's objective."""
        return self.methods[run.method].variants[run.variant]

    def training_data(self) -> dict[str, set[int]]:
        """Training datasets in use -> the maximum lengths that their recipes cut texts to."""
        lengths: dict[str, set[int]] = {}
        for run in self.runs:
            recipe = self.recipe(run)
            lengths.setdefault(recipe.train, set()).add(recipe.max_length)
        return lengths

    def dataset_names(self) -> list[str]:
        """Every dataset that the experiment reads: pre-training text, training rows, test sets."""
        names = {*self.training_data(), *self.sts.evaluate}
        if isinstance(self.experiment.backbone, PretrainedBackbone):
            names.add(self.experiment.backbone.text)
        return sorted(names)

    def training_settings(self, run: Run) -> dict[str, Any]:
        """All that determines the run's weights, besides its inputs: what a change of must retrain the run."""
        recipe = self.recipe(run)
        return {
            "variant": self.variant(run).model_dump(mode="json", exclude={"description", "source", "deviations"}),
            "recipe": recipe.model_dump(mode="json", exclude={"description"}),
            "sizes": sorted(self.sts.sizes.values()) if "sizes" in self.variant(run).needs else [],
            "cell": run.cell,
            "seed": run.seed.model_dump(mode="json"),
            "starts_from": run.starts_from,
        }

    def settings_hash(self, run: Run) -> str:
        """Short hash of `training_settings`; the workflow's params, so that only changed runs are trained again."""
        return digest(self.training_settings(run))

    def evaluation_hash(self, run: Run) -> str:
        """Short hash of what determines the run's evaluation, besides its inputs."""
        return digest({"cells": run.evaluated, "sets": self.sts.evaluate, "max_length": self.sts.max_length})

    def _check_data(self) -> None:
        task = self.sts
        for name, recipe in task.recipes.items():
            place = f"{self.place}: sts.recipes.{name}.train"
            spec = find_dataset(self.datasets, recipe.train, place)
            if spec.kind == "text":
                raise InputError(
                    f"{place}: '{recipe.train}' is plain text; name a dataset of triplets or scored pairs."
                )
            self._check_base(name, recipe, spec)
        for number, name in enumerate(task.evaluate):
            place = f"{self.place}: sts.evaluate.{number}"
            spec = find_dataset(self.datasets, name, place)
            if spec.kind != "scored-pairs":
                raise InputError(f"{place}: '{name}' has {spec.kind}; an STS test set needs scored pairs.")
            if task.evaluate.count(name) > 1:
                raise InputError(f"{place}: '{name}' is listed twice; list every test set once.")
        for number, name in enumerate(task.baselines):
            if name not in self.methods:
                raise unknown_name(f"{self.place}: sts.baselines.{number}", "method", name, self.methods)
        backbone = self.experiment.backbone
        if isinstance(backbone, PretrainedBackbone):
            place = f"{self.place}: backbone.text"
            spec = find_dataset(self.datasets, backbone.text, place)
            if spec.kind != "text":
                raise InputError(
                    f"{place}: '{backbone.text}' has {spec.kind}; pre-training needs a dataset of kind text."
                )

    def _check_base(self, name: str, recipe: Recipe, spec: DatasetSpec) -> None:
        place = f"{self.place}: sts.recipes.{name}.base"
        base = recipe.base
        if spec.kind == "triplets" and base.loss == "cosent":
            raise InputError(
                f"{place}: cosent needs scored pairs and '{recipe.train}' has triplets; use mnrl or angle."
            )
        if spec.kind == "scored-pairs" and base.loss == "mnrl":
            raise InputError(
                f"{place}: mnrl needs triplets and '{recipe.train}' has scored pairs; use cosent or angle."
            )
        if spec.kind == "scored-pairs" and base.loss == "angle" and base.contrastive_weight:
            raise InputError(
                f"{place}.contrastive_weight: the contrastive term needs triplets and '{recipe.train}' has scored"
                " pairs; set it to 0."
            )

    def _check_cells(self) -> None:
        task = self.sts
        for layer in task.grid.layers:
            self._check_layer(layer, "sts.grid.layers")
        for dim in task.grid.dims:
            self._check_dim(dim, "sts.grid.dims")
        for name, (layer, dim) in task.sizes.items():
            self._check_layer(layer, f"sts.sizes.{name}")
            self._check_dim(dim, f"sts.sizes.{name}")
        for name, recipe in task.recipes.items():
            for dim in recipe.nested_dims:
                self._check_dim(dim, f"sts.recipes.{name}.nested_dims")
            if recipe.target_dim is not None:
                self._check_dim(recipe.target_dim, f"sts.recipes.{name}.target_dim")

    def _check_layer(self, layer: int, key: str) -> None:
        last = self.shape.layers
        if layer < 1 or (last is not None and layer > last):
            top = f"1..{last}" if last else "1 and above"
            raise InputError(f"{self.place}: {key}: layer {layer} is not in {top}, the backbone's layers; change it.")

    def _check_dim(self, dim: int, key: str) -> None:
        width = self.shape.hidden
        if dim < 1 or (width is not None and dim > width):
            top = f"1..{width}" if width else "1 and above"
            raise InputError(f"{self.place}: {key}: dim {dim} is not in {top}, the backbone's width; change it.")

    def _expand(self) -> Iterator[Run]:
        seen: set[str] = set()
        for number, entry in enumerate(self.sts.runs):
            place = f"{self.place}: sts.runs.{number}"
            if entry.method not in self.methods:
                raise unknown_name(f"{place}.method", "method", entry.method, self.methods)
            method = self.methods[entry.method]
            for variant in entry.variants or [method.default_variant]:
                if variant not in method.variants:
                    raise unknown_name(f"{place}.variants", f"variant of {entry.method}", variant, method.variants)
                for recipe in entry.recipes or list(self.sts.recipes):
                    if recipe not in self.sts.recipes:
                        raise unknown_name(f"{place}.recipes", "recipe", recipe, self.sts.recipes)
                    self._check_needs(place, entry.method, variant, recipe)
                    for run in self._runs_of(place, entry, variant, recipe):
                        if run.run_id in seen:
                            raise InputError(f"{place}: run {run.run_id} is listed twice; remove one of the entries.")
                        seen.add(run.run_id)
                        yield run

    def _check_needs(self, place: str, method: str, variant: str, recipe_name: str) -> None:
        definition = self.methods[method].variants[variant]
        recipe = self.sts.recipes[recipe_name]
        where = f"{self.place}: sts.recipes.{recipe_name}"
        if "nested_dims" in definition.needs and not recipe.nested_dims:
            raise InputError(f"{where}: key 'nested_dims' is missing, which {method} ({variant}) sums over; add it.")
        if "target_dim" in definition.needs and recipe.target_dim is None:
            raise InputError(f"{where}: key 'target_dim' is missing, which {method} ({variant}) trains; add it.")
        if recipe.base.loss == "angle" and recipe.base.angle_weight:
            odd = [d for d in [*recipe.nested_dims, recipe.target_dim or 2, *self.sts.grid.dims] if d % 2]
            if odd:
                raise InputError(f"{where}: the angle term needs even widths and {odd[0]} is odd; change the width.")
        if "sizes" in definition.needs:
            sizes = self.sts.sizes.values()
            if not sizes:
                raise InputError(
                    f"{self.place}: key 'sts.sizes' is missing, which {method} ({variant}) trains; add it."
                )
            full = (self.shape.layers, self.shape.hidden)
            if None not in full and full not in sizes:
                raise InputError(
                    f"{self.place}: sts.sizes: the full size {list(full)} is missing, which {method} aligns the others"
                    " with; add it."
                )
        below_last = any(
            getattr(group, "layers", getattr(group, "students", "")) in ("sampled", "below-last")
            for group in [*definition.losses, *definition.alignments]
        )
        if below_last and self.shape.layers == 1:
            raise InputError(
                f"{place}: {method} ({variant}) trains layers below the last and the backbone has one; remove it."
            )

    def _runs_of(self, place: str, entry: RunEntry, variant: str, recipe: str) -> Iterator[Run]:
        grid = self.sts.grid
        definition = self.methods[entry.method].variants[variant]
        if entry.cells and definition.runs == "one":
            raise InputError(f"{place}.cells: {entry.method} trains one model for all cells; remove 'cells'.")
        cells = entry.cells or list(grid.cells())
        for layer, dim in cells:
            if layer not in grid.layers or dim not in grid.dims:
                raise InputError(f"{place}.cells: [{layer}, {dim}] is not in sts.grid; add it there or remove it here.")
        for seed in self.experiment.seeds:
            stem = f"sts-{slug(entry.method)}-{variant}-{recipe}"
            start = self._start(place, entry.method, recipe, seed)

            def run(run_id: str, cell: tuple[int, int | None] | None, evaluated: list[Cell]) -> Run:
                return Run(run_id, "sts", entry.method, variant, recipe, seed, cell, start, tuple(sorted(evaluated)))  # noqa: B023 - called before the next turn

            if definition.runs == "one":
                yield run(f"{stem}-s{seed.name}", None, list(grid.cells()))
            elif definition.runs == "per-layer":
                for layer in sorted({layer for layer, _ in cells}):
                    own = [cell for cell in cells if cell[0] == layer]
                    yield run(f"{stem}-l{layer}-s{seed.name}", (layer, None), own)
            else:
                for layer, dim in sorted(cells):
                    yield run(f"{stem}-l{layer}-d{dim}-s{seed.name}", (layer, dim), [(layer, dim)])

    def _start(self, place: str, method: str, recipe: str, seed: Seed) -> str | None:
        needed = self.methods[method].starts_from
        if needed is None:
            return None
        for entry in self.sts.runs:
            if entry.method == needed and recipe in (entry.recipes or self.sts.recipes):
                variant = (entry.variants or [self.methods[needed].default_variant])[0]
                return f"sts-{slug(needed)}-{variant}-{recipe}-s{seed.name}"
        raise InputError(
            f"{place}: {method} starts from the run of {needed} with recipe '{recipe}', which this config lacks; add"
            f" '- method: {needed}' to sts.runs."
        )

    @staticmethod
    def _ordered(runs: list[Run]) -> Iterator[Run]:
        """Runs after the runs that they start from, otherwise in the config's order."""
        waiting, done = list(runs), set()
        while waiting:
            ready = [run for run in waiting if run.starts_from is None or run.starts_from in done]
            assert ready, "starts_from chains end at the backbone"
            yield from ready
            done |= {run.run_id for run in ready}
            waiting = [run for run in waiting if run.run_id not in done]


def slug(method: str) -> str:
    """A method's name as part of file names: 'ff->mrl' is ff-to-mrl."""
    return method.replace("->", "-to-")


def digest(value: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
