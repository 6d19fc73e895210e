"""What an experiment's YAML file may say. The JSON schema and config/default.yaml are generated from these models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, PositiveInt, field_validator, model_validator
from pydantic_core import CoreSchema

from matryobench.compute import Compute
from matryobench.deployment.settings import Deployment
from matryobench.expected import Anchor
from matryobench.pretraining.spec import ContinueSpec, PretrainSpec
from matryobench.tasks import AnyTask, MtebTask, RetrievalTask, StsTask
from matryobench.validation import Settings, parse, read_yaml


class HubBackbone(Settings):
    """A transformers encoder from the Hugging Face hub, through the mirror."""

    source: Literal["hub"]
    id: str = Field(description="Hub id, e.g. google-bert/bert-base-uncased.")
    revision: str | None = Field(
        description="Commit on the hub (40 hexadecimal digits); null: the newest at the first fetch, kept in the mirror.",
        pattern=r"^[0-9a-f]{40}$",
    )


class PathBackbone(Settings):
    """A transformers (or sentence-transformers) folder on this disk."""

    source: Literal["path"]
    path: Path = Field(description="Folder with config.json and model.safetensors; relative to the working folder.")


class PackageBackbone(Settings):
    """A model folder that an installed Python package carries."""

    source: Literal["package"]
    package: str = Field(description="Import name of the package; it is located, not imported.")
    folder: str = Field(description="Folder of the model inside the package.")


class PretrainedBackbone(Settings):
    """A small encoder that this experiment pre-trains itself by masked-language modelling."""

    source: Literal["pretrain"]
    text: str = Field(description="Dataset of kind text, from config/datasets.yaml.")
    spec: PretrainSpec = Field(description="Architecture and schedule of the pre-training.")


Backbone = Annotated[HubBackbone | PathBackbone | PackageBackbone | PretrainedBackbone, Field(discriminator="source")]


class Seed(Settings):
    """Separate seeds of one repetition. An integer in the list means that integer for all four."""

    name: int = Field(description="Name of the repetition in run ids and tables.")
    init: int = Field(description="New parameters (none when the backbone has all weights).")
    data: int = Field(description="Order of the training rows.")
    dropout: int = Field(description="Dropout masks.")
    cells: int = Field(description="Sampled layers and randomised SVDs.")

    @model_validator(mode="before")
    @classmethod
    def _from_integer(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"name": value, "init": value, "data": value, "dropout": value, "cells": value}
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        mapping = handler.resolve_ref_schema(handler(core_schema))
        description = mapping.pop("description")
        return {"description": description, "anyOf": [{"type": "integer"}, mapping]}


class Experiment(Settings):
    """One experiment: the runs, grids, figures and tables that belong together."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Name of the experiment and of its results folder.")
    description: str = Field(description="What it is for; `plan` prints it.")
    results: Path | None = Field(None, description="Folder for results; none: results/<name>.")
    mirror: Path = Field(Path("mirror"), description="Local mirror of hub models and datasets.")
    offline: bool = Field(False, description="Never ask the hub, not even in fetch; use what the mirror has.")
    threads: PositiveInt = Field(1, description="CPU threads of a pre-training, training or evaluation job.")
    backbone: Backbone = Field(description="The encoder that every run starts from.")
    pretraining: dict[str, ContinueSpec] = Field(
        {},
        description="Pre-trainings that go on from the backbone, by name; starbucks starts from the one called smae.",
    )
    seeds: list[Seed] = Field(
        [Seed.model_validate(42)],
        min_length=1,
        description="One repetition of every run per seed.",
    )
    sts: StsTask | None = Field(None, description="The STS task.")
    retrieval: RetrievalTask | None = Field(None, description="The retrieval task.")
    mteb: MtebTask | None = Field(None, description="Classification and retrieval through mteb.")
    expected: list[Anchor] = Field(
        [], description="Values that the results are expected to reach, each with its tolerance and source."
    )
    deployment: Deployment = Field(Deployment(), description="How the costs of cells are measured.")
    compute: Compute = Field(Compute(), description="What the jobs run on.")

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[Seed]) -> list[Seed]:
        if len({seed.name for seed in seeds}) != len(seeds):
            raise ValueError("a seed is listed twice; list every seed once")
        return seeds

    @model_validator(mode="after")
    def _some_task(self) -> Experiment:
        if not self.tasks:
            raise ValueError("the experiment has no task; add a section 'sts', 'retrieval' or 'mteb'")
        return self

    @property
    def tasks(self) -> dict[str, AnyTask]:
        """The tasks that the experiment has, by name."""
        named: dict[str, AnyTask | None] = {"sts": self.sts, "retrieval": self.retrieval, "mteb": self.mteb}
        return {name: task for name, task in named.items() if task is not None}

    @property
    def folder(self) -> Path:
        """Where the experiment's results go."""
        return self.results if self.results is not None else Path("results") / self.name


def load_experiment(path: Path) -> Experiment:
    """Reads and checks an experiment's YAML file. Raises InputError, one sentence naming file, key and fix."""
    return parse(Experiment, read_yaml(path), str(path))
