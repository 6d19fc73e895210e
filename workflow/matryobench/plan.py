"""From a checked experiment to the list of runs: what is trained, from what, in which order, and what is evaluated.

Everything that can be wrong with a config is found here, before any job starts. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from matryobench import checks
from matryobench.backbones import backbone_shape
from matryobench.config import Experiment, PretrainedBackbone, Seed, load_experiment
from matryobench.data.classifications import Classification
from matryobench.data.collections import Collection
from matryobench.data.registry import load_classifications, load_collections, load_datasets, mined_inputs
from matryobench.data.specs import DatasetSpec
from matryobench.errors import InputError, unknown_name
from matryobench.evaluation.instructions import Family
from matryobench.expected import check as check_expected
from matryobench.grid import Cell
from matryobench.objectives.registry import load_methods
from matryobench.objectives.spec import Method, Variant
from matryobench.paths import DATASETS, METHODS
from matryobench.sizes import spread
from matryobench.tasks import (
    TRAINED_AS,
    AnyTask,
    MtebTask,
    RetrievalRecipe,
    RetrievalTask,
    RunEntry,
    StsRecipe,
    StsTask,
)


@dataclass(frozen=True)
class Run:
    """One model to train and the cells that it is evaluated at."""

    run_id: str
    task: str
    method: str
    variant: str
    recipe: str
    backend: str
    seed: Seed
    cell: tuple[int, int | None] | None  # the run's own cell (bert-s), dim None for a model per layer
    starts_from: str | None  # run id, or None for an encoder that is no run
    pretraining: str | None  # the continued pre-training that it starts from, else None
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
        self.collections: dict[str, Collection] = load_collections(datasets)
        self.classifications: dict[str, Classification] = load_classifications(datasets)
        self.shape = backbone_shape(experiment.backbone, experiment.mirror, place)
        checks.check_names(self)
        checks.check_pretraining(self)
        for name in self.tasks:
            checks.check_task(self, name)
        check_expected(experiment.expected, self.tasks, place)
        self.runs: tuple[Run, ...] = tuple(_ordered([run for name in self.tasks for run in self._expand(name)]))
        for name in self.tasks:
            checks.check_shown(self, name)
            checks.check_published(self, name)

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Reads and checks an experiment file; raises InputError, one sentence with file, key and fix."""
        return cls(load_experiment(path), str(path))

    def known_shape(self) -> tuple[int, int] | None:
        """(L, H) of the backbone; None where they are known only after it was fetched."""
        layers, hidden = self.shape.layers, self.shape.hidden
        return (layers, hidden) if layers is not None and hidden is not None else None

    @property
    def tasks(self) -> dict[str, AnyTask]:
        """The experiment's tasks by name."""
        return self.experiment.tasks

    @property
    def sts(self) -> StsTask:
        """The STS task; only to be asked for where a run or a file says that there is one."""
        assert self.experiment.sts is not None
        return self.experiment.sts

    @property
    def retrieval(self) -> RetrievalTask:
        """The retrieval task; only to be asked for where a run or a file says that there is one."""
        assert self.experiment.retrieval is not None
        return self.experiment.retrieval

    @property
    def mteb(self) -> MtebTask:
        """The mteb task; only to be asked for where a run or a file says that there is one."""
        assert self.experiment.mteb is not None
        return self.experiment.mteb

    def sizes(self, task: str) -> dict[str, Cell]:
        """The task's named sizes, smallest first; names without sizes are spread over the backbone."""
        return spread(self.tasks[task].sizes, self.shape, f"{self.place}: {task}.sizes")

    def pretraining_sizes(self, name: str) -> dict[str, Cell]:
        """The sizes that a continued pre-training trains; (L, H) alone where it names none."""
        sizes = self.experiment.pretraining[name].sizes
        return spread(sizes or ["full"], self.shape, f"{self.place}: pretraining.{name}.sizes")

    @cached_property
    def by_id(self) -> dict[str, Run]:
        """The runs by id."""
        return {run.run_id: run for run in self.runs}

    def run(self, run_id: str) -> Run:
        """The run of that id; InputError with the nearest ids where there is none."""
        if run_id not in self.by_id:
            raise unknown_name(self.place, "run", run_id, self.by_id)
        return self.by_id[run_id]

    def runs_of(self, task: str) -> list[Run]:
        """The runs of one task, in training order."""
        return [run for run in self.runs if run.task == task]

    def recipe(self, run: Run) -> StsRecipe | RetrievalRecipe:
        """The run's recipe."""
        return self.tasks[run.task].recipes[run.recipe]

    def variant(self, run: Run) -> Variant:
        """The definition of the run's objective."""
        return self.methods[run.method].variants[run.variant]

    def corpora(self) -> dict[str, list[Collection]]:
        """The retrieval task's test sets by the corpus that they search, in the config's order."""
        found: dict[str, list[Collection]] = {}
        for name in self.retrieval.evaluate:
            collection = self.collections[name]
            found.setdefault(collection.corpus, []).append(collection)
        return found

    def shards(self, corpus: str) -> int:
        """Number of jobs that search a corpus; 1 where its number of documents is not known."""
        documents = self.corpora()[corpus][0].documents
        return math.ceil(documents / self.retrieval.shard_documents) if documents else 1

    def dataset_names(self) -> list[str]:
        """Every dataset that the experiment reads: pre-training text, training rows, test sets, what groups are mined from."""
        names = {recipe.train for run in self.runs for recipe in [self.recipe(run)]}
        if self.experiment.sts is not None:
            names.update(self.sts.evaluate)
        if self.experiment.retrieval is not None:
            names.update(self._collection_tables(self.retrieval.evaluate))
        if self.experiment.mteb is not None:
            names.update(self.mteb_tables())
        names.update(spec.text for spec in self.experiment.pretraining.values())
        for name in sorted(names):
            names.update(mined_inputs(self.datasets[name]))
        if isinstance(self.experiment.backbone, PretrainedBackbone):
            names.add(self.experiment.backbone.text)
        return sorted(names)

    def mteb_tables(self) -> list[str]:
        """The datasets that the mteb task is evaluated on."""
        tables = self._collection_tables(self.mteb.evaluate.get("retrieval", []))
        for name in self.mteb.evaluate.get("classification", []):
            tables += [self.classifications[name].train, self.classifications[name].test]
        return tables

    def _collection_tables(self, names: Iterable[str]) -> list[str]:
        found = [self.collections[name] for name in names]
        return [table for one in found for table in (one.corpus, one.queries, one.qrels)]

    def training_settings(self, run: Run, defaults: bool = True) -> dict[str, Any]:
        """All that determines the run's weights, besides its inputs: what a change of must retrain the run.

        Hashes are of the settings without those that have their default value, so that a new release with one more
        setting retrains nothing.
        """
        needs = self.variant(run).needs
        recipe = self.recipe(run).model_dump(mode="json", exclude={"description"}, exclude_defaults=not defaults)
        if "dim_lists" not in needs:
            recipe.pop("dim_lists", None)  # a list for other variants
        settings = {
            "variant": self.variant(run).model_dump(
                mode="json", exclude={"description", "source", "deviations"}, exclude_defaults=not defaults
            ),
            "recipe": recipe,
            "backend": run.backend,
            "sizes": sorted(self.sizes(run.task).values()) if "sizes" in needs else [],
            "cell": run.cell,
            "seed": run.seed.model_dump(mode="json"),
            "starts_from": run.starts_from,
        }
        return settings | ({"pretraining": run.pretraining} if run.pretraining else {})

    def settings_hash(self, run: Run) -> str:
        """Short hash of `training_settings`; the workflow's params, so that only changed runs are trained again."""
        return digest(self.training_settings(run, defaults=False))

    def evaluation_hash(self, run: Run) -> str:
        """Short hash of what determines the run's evaluation, besides its inputs."""
        task = self.tasks[run.task]
        settings: dict[str, Any] = {"cells": run.evaluated, "sets": task.evaluate}
        if task.encode_precision != "fp32":
            settings["encode_precision"] = task.encode_precision
        if isinstance(task, StsTask):
            settings["max_length"] = task.max_length
        elif isinstance(task, MtebTask):
            settings |= {"max_length": task.max_length, "instructions": task.instructions}
            classified, searched = (task.evaluate.get(family, []) for family in get_args(Family))
            settings["mteb"] = [self.classifications[name].mteb_task for name in classified]
            found = [self.collections[name] for name in searched]
            settings["mteb"] += [(one.mteb_task, one.exclude_own_id) for one in found]
        else:
            settings |= {
                "lengths": [task.query_max_length, task.passage_max_length],
                "top_k": task.top_k,
                "run_files": task.run_files,
                "documents": self.variant(run).documents,
                "own_id": [self.collections[name].exclude_own_id for name in task.evaluate],
            }
        return digest(settings)

    def _expand(self, name: str) -> Iterator[Run]:
        task = self.tasks[name]
        seen: set[str] = set()
        for number, entry in enumerate(task.runs):
            place = f"{self.place}: {name}.runs.{number}"
            checks.check_entry(self, place, name, entry)
            for variant in entry.variants or [self.methods[entry.method].default_for(TRAINED_AS[name])]:
                for recipe in entry.recipes or list(task.recipes):
                    checks.check_variant(self, place, name, entry, variant, recipe)
                    for run in self._runs_of(place, name, entry, variant, recipe):
                        if run.run_id in seen:
                            raise InputError(f"{place}: run {run.run_id} is listed twice; remove one of the entries.")
                        seen.add(run.run_id)
                        yield run

    def _runs_of(self, place: str, task: str, entry: RunEntry, variant: str, recipe: str) -> Iterator[Run]:
        grid = self.tasks[task].grid
        definition = self.methods[entry.method].variants[variant]
        cells = entry.cells or list(grid.cells())
        for backend in entry.backends:
            for seed in self.experiment.seeds:
                stem = f"{task}-{slug(entry.method)}-{variant}-{recipe}{'' if backend == 'native' else f'-{backend}'}"
                start = self._start(place, task, entry.method, recipe, seed)
                pretraining = self.methods[entry.method].pretraining

                def run(suffix: str, cell: tuple[int, int | None] | None, evaluated: Iterable[Cell]) -> Run:
                    run_id = f"{stem}{suffix}-s{seed.name}"  # noqa: B023 - called before the next turn
                    cells = tuple(sorted(evaluated))
                    own = (run_id, task, entry.method, variant, recipe, backend, seed, cell)  # noqa: B023
                    return Run(*own, start, pretraining, cells)  # noqa: B023

                if definition.runs == "one":
                    yield run("", None, grid.cells())
                elif definition.runs == "per-layer":
                    for layer in sorted({layer for layer, _ in cells}):
                        yield run(f"-l{layer}", (layer, None), [cell for cell in cells if cell[0] == layer])
                else:
                    for layer, dim in sorted(cells):
                        yield run(f"-l{layer}-d{dim}", (layer, dim), [(layer, dim)])

    def _start(self, place: str, task: str, method: str, recipe: str, seed: Seed) -> str | None:
        needed = self.methods[method].starts_from
        if needed is None:
            return None
        for entry in self.tasks[task].runs:
            if entry.method == needed and recipe in (entry.recipes or self.tasks[task].recipes):
                variant = (entry.variants or [self.methods[needed].default_for(TRAINED_AS[task])])[0]
                return f"{task}-{slug(needed)}-{variant}-{recipe}-s{seed.name}"
        raise InputError(
            f"{place}: {method} starts from the run of {needed} with recipe '{recipe}', which this config lacks; add"
            f" '- method: {needed}' to {task}.runs."
        )


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
    """A method's name as part of file names: 'ff->mrl' is ff-to-mrl, '+dims+full-dim' is dims-plus-full-dim."""
    return method.replace("->", "-to-").removeprefix("+").replace("+", "-plus-")


def digest(value: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
