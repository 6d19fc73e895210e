"""What an experiment's YAML file may say. The JSON schema and config/default.yaml are generated from these models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, PositiveInt, field_validator, model_validator
from pydantic_core import CoreSchema

from matryobench.grid import Cell, Grid
from matryobench.objectives.recipe import BaseLoss
from matryobench.pretraining.spec import PretrainSpec
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


class Training(Settings):
    """The training loop. Exactly one of `epochs` and `steps` is given."""

    batch_size: PositiveInt = Field(128, description="Rows per micro-batch; in-batch negatives stay inside it.")
    accumulation: PositiveInt = Field(1, description="Micro-batches per optimiser step.")
    epochs: PositiveInt | None = Field(None, description="Passes over the training rows.")
    steps: PositiveInt | None = Field(None, description="Optimiser steps; the data is repeated as needed.")
    learning_rate: float = Field(5e-5, gt=0, description="Peak learning rate of AdamW.")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="Decay after the warm-up, to 0.")
    warmup: float = Field(0.1, ge=0, description="Warm-up: a share of all steps if below 1, else a number of steps.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay (not on biases and norms).")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this global norm.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on a GPU that has it, fp16 on one that has not, fp32 on CPU."
    )
    tokens_per_forward: PositiveInt | None = Field(
        None,
        description="Padded tokens per forward pass (texts of a batch are sorted by length and cut by it);"
        " none: 1024 on CPU, where small passes stay in the cache, 16384 on a GPU.",
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations in the backward pass.")
    checkpoint_every: PositiveInt = Field(500, description="Optimiser steps between checkpoints.")

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of 'epochs' and 'steps'")
        return self


class Recipe(Settings):
    """How a run is trained, apart from its method: data, pooling, base loss, widths of the loss, loop."""

    description: str = Field(description="One sentence on the recipe, for readers.")
    train: str = Field(description="Training dataset, from config/datasets.yaml.")
    pooling: Literal["mean", "cls"] = Field(description="How token vectors of a layer become one vector.")
    max_length: PositiveInt = Field(128, description="Texts are cut to this many tokens, special tokens included.")
    base: BaseLoss = Field(description="The base loss.")
    nested_dims: list[PositiveInt] = Field([], description="Widths that MSE and 2DMSE-V1 sum over in the loss.")
    target_dim: PositiveInt | None = Field(None, description="The one target width k of 2DMSE-V2 and MSE v2.")
    training: Training = Field(description="The training loop.")

    @field_validator("nested_dims")
    @classmethod
    def _descending(cls, dims: list[int]) -> list[int]:
        if len(set(dims)) != len(dims):
            raise ValueError("a width is listed twice; list every width once")
        return sorted(dims, reverse=True)  # the order must not matter to any result


class RunEntry(Settings):
    """A method to run: every listed variant x recipe x seed (x cell for bert-s)."""

    method: str = Field(description="Name in config/methods.yaml.")
    variants: list[str] = Field([], description="Its variants; none: the method's default one.")
    recipes: list[str] = Field([], description="Recipes of the task; none: all.")
    cells: list[Cell] = Field([], description="For methods with a model per cell: [layer, dim] pairs; none: the grid.")


class StsTask(Settings):
    """Semantic textual similarity: training recipes, test sets, grid and runs."""

    recipes: dict[str, Recipe] = Field(
        min_length=1, description="Training recipes by name; figure 1 has a row for each."
    )
    evaluate: list[str] = Field(min_length=1, description="Test sets (scored pairs), from config/datasets.yaml.")
    max_length: PositiveInt = Field(128, description="Evaluation texts are cut to this many tokens.")
    grid: Grid = Field(description="The cells to evaluate.")
    sizes: dict[str, Cell] = Field({}, description="Named (layer, dim) sizes for srl; the largest must be (L, H).")
    runs: list[RunEntry] = Field(min_length=1, description="What is trained.")
    baselines: list[str] = Field(
        ["bert-s", "bert"], description="Methods to draw differences from, where they are run."
    )


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
    seeds: list[Seed] = Field(
        [Seed.model_validate(42)],
        min_length=1,
        description="One repetition of every run per seed.",
    )
    sts: StsTask | None = Field(None, description="The STS task.")

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[Seed]) -> list[Seed]:
        if len({seed.name for seed in seeds}) != len(seeds):
            raise ValueError("a seed is listed twice; list every seed once")
        return seeds

    @model_validator(mode="after")
    def _some_task(self) -> Experiment:
        if self.sts is None:
            raise ValueError("the experiment has no task; add a section 'sts'")
        return self

    @property
    def folder(self) -> Path:
        """Where the experiment's results go."""
        return self.results if self.results is not None else Path("results") / self.name


def load_experiment(path: Path) -> Experiment:
    """Reads and checks an experiment's YAML file. Raises InputError, one sentence naming file, key and fix."""
    return parse(Experiment, read_yaml(path), str(path))
