"""What an experiment's YAML file may say about a task: recipes, training loop, test sets, grid and runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from pydantic import Field, PositiveInt, field_validator, model_validator

from matryobench.evaluation.instructions import Family
from matryobench.grid import Cell, Grid
from matryobench.objectives.recipe import BaseLoss, ContrastiveLoss
from matryobench.validation import Settings

Backend = Literal["native", "sentence-transformers", "tevatron"]
AnyTask: TypeAlias = "StsTask | RetrievalTask | MtebTask"

FAMILY_METRICS: Mapping[str, str] = {"classification": "accuracy", "retrieval": "ndcg@10"}
"""The metric that each family of mteb's sets is reported by."""

# The kind of training of each task's methods: variants for sts serve mteb too, whose training is the same.
TRAINED_AS = {"sts": "sts", "retrieval": "retrieval", "mteb": "sts"}


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
    gradient_checkpointing: bool = Field(False, description="Recompute each layer's activations in the backward pass.")
    gradient_caching: bool = Field(
        False,
        description="Keep no activations between forward passes and run each again in the backward pass: memory of one"
        " pass whatever the batch, for a third more time.",
    )
    processes: PositiveInt = Field(
        1,
        description="Training processes, with a GPU one card each; they share every batch, whose loss and gradients stay"
        " those of one process.",
    )
    checkpoint_every: PositiveInt = Field(500, description="Optimiser steps between checkpoints.")

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of 'epochs' and 'steps'")
        return self

    @model_validator(mode="after")
    def _rows_for_all(self) -> Training:
        if self.processes > self.batch_size:
            raise ValueError(
                f"'processes' ({self.processes}) is above 'batch_size' ({self.batch_size}), whose rows they share; lower it"
            )
        return self


class StsRecipe(Settings):
    """How an STS run is trained, apart from its method: data, pooling, base loss, widths of the loss, loop."""

    description: str = Field(description="One sentence on the recipe, for readers.")
    train: str = Field(description="Training dataset, from config/datasets.yaml.")
    pooling: Literal["mean", "cls"] = Field(description="How token vectors of a layer become one vector.")
    max_length: PositiveInt = Field(128, description="Texts are cut to this many tokens, special tokens included.")
    base: BaseLoss = Field(description="The base loss.")
    nested_dims: list[PositiveInt] = Field([], description="Widths that MSE and 2DMSE-V1 sum over in the loss.")
    target_dim: PositiveInt | None = Field(None, description="The one target width k of 2DMSE-V2 and MSE v2.")
    one_subset: bool = Field(
        False, description="Whether a batch's rows are all of one subset, as INSTRUCTOR's are; needs a column subset."
    )
    training: Training = Field(description="The training loop.")

    @field_validator("nested_dims")
    @classmethod
    def _descending(cls, dims: list[int]) -> list[int]:
        return sorted(_distinct(dims), reverse=True)  # the order must not matter to any result


class RetrievalRecipe(Settings):
    """How a retrieval run is trained, apart from its method: groups of passages, pooling, base loss, widths, loop."""

    description: str = Field(description="One sentence on the recipe, for readers.")
    train: str = Field(description="Training dataset of kind groups, from config/datasets.yaml.")
    pooling: Literal["mean", "cls"] = Field(description="How token vectors of a layer become one vector.")
    query_max_length: PositiveInt = Field(32, description="Queries are cut to this many tokens.")
    passage_max_length: PositiveInt = Field(196, description="Passages (title and text) are cut to this many tokens.")
    group_size: int = Field(8, ge=1, description="Passages per query: 1 positive, the others hard negatives.")
    base: ContrastiveLoss = Field(description="The base loss.")
    target_dims: list[PositiveInt] = Field([], description="Widths that are trained beside the full one (papers: 128).")
    dim_lists: dict[str, list[PositiveInt]] = Field(
        {}, description="Named lists of widths, for the +dims variants: two, four, six and seven of them."
    )
    training: Training = Field(description="The training loop; batch_size counts queries.")

    @field_validator("target_dims")
    @classmethod
    def _ascending(cls, dims: list[int]) -> list[int]:
        return sorted(_distinct(dims))

    @field_validator("dim_lists")
    @classmethod
    def _ascending_lists(cls, lists: dict[str, list[int]]) -> dict[str, list[int]]:
        return {name: sorted(_distinct(dims)) for name, dims in lists.items()}


class RunEntry(Settings):
    """A method to run: every listed variant x recipe x backend x seed (x cell for bert-s)."""

    method: str = Field(description="Name in config/methods.yaml.")
    variants: list[str] = Field([], description="Its variants; none: the task's default one.")
    recipes: list[str] = Field([], description="Recipes of the task; none: all.")
    cells: list[Cell] = Field([], description="For methods with a model per cell: [layer, dim] pairs; none: the grid.")
    backends: list[Backend] = Field(
        ["native"], min_length=1, description="What trains it: this program, or a reference library to compare with."
    )


class Task(Settings):
    """What all tasks have."""

    grid: Grid = Field(description="The cells to evaluate.")
    sizes: dict[str, Cell] | list[str] = Field(
        {},
        description="Named (layer, dim) sizes for srl; the largest must be (L, H). Or names only: they are spread over"
        " the backbone, layers evenly, dims by halving (the powers of two below H).",
    )
    runs: list[RunEntry] = Field(min_length=1, description="What is trained.")
    baselines: list[str] = Field(
        ["bert-s", "bert"], description="Methods to draw differences from, where they are run."
    )
    encode_precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="Precision of the encoder in evaluation; pooling and scores are float32 always. bf16 and fp16 are"
        " several times faster on a GPU, and move scores by their rounding.",
    )
    published: Literal["sts", "retrieval", "starbucks"] | None = Field(
        None,
        description="Published numbers that the task's grid is compared with; on a backbone of another shape by relative"
        " depth and width.",
    )
    reference: str | None = Field(
        None,
        description="Method that the others are compared with at the sizes, by paired tests; none: starbucks, where it"
        " is run.",
    )

    @property
    def sets(self) -> list[str]:
        """Names of all test sets."""
        raise NotImplementedError


class StsTask(Task):
    """Semantic textual similarity: training recipes, test sets (scored pairs), grid and runs."""

    recipes: dict[str, StsRecipe] = Field(
        min_length=1, description="Training recipes by name; figure 1 has a row for each."
    )
    evaluate: list[str] = Field(min_length=1, description="Test sets (scored pairs), from config/datasets.yaml.")
    max_length: PositiveInt = Field(128, description="Evaluation texts are cut to this many tokens.")

    @property
    def sets(self) -> list[str]:
        """Names of all test sets."""
        return self.evaluate


class MtebTask(Task):
    """Classification and retrieval as mteb evaluates them. Training is that of STS: triplets, best with instructions."""

    recipes: dict[str, StsRecipe] = Field(min_length=1, description="Training recipes by name.")
    evaluate: dict[Family, list[str]] = Field(
        min_length=1,
        description="Test sets by family, from config/datasets.yaml: classification sets and retrieval collections.",
    )
    instructions: dict[str, str] = Field(
        {},
        description="Instruction before the texts of a set or of a family, left out of the pooling: by"
        " classification, retrieval-query, retrieval-passage, or <set>, <set>-query, <set>-passage; none: no instruction.",
    )
    max_length: PositiveInt = Field(512, description="Texts (with instruction) are cut to this many tokens.")

    @property
    def sets(self) -> list[str]:
        """Names of all test sets, family by family."""
        return [name for names in self.evaluate.values() for name in names]


class RetrievalTask(Task):
    """Passage retrieval: training recipes, test collections, grid and runs."""

    recipes: dict[str, RetrievalRecipe] = Field(min_length=1, description="Training recipes by name.")
    evaluate: list[str] = Field(min_length=1, description="Test collections, from config/datasets.yaml.")
    average: list[str] = Field(
        [], description="Test sets of the average, e.g. the zero-shot ones (figure 3); none: all."
    )
    stand_ins: Mapping[str, str] = Field(
        {},
        description="Test set of a paper's claim, and the test set (or average) that stands in for it here, e.g."
        " msmarco-dev: average; the verdicts say so.",
    )
    query_max_length: PositiveInt = Field(32, description="Queries are cut to this many tokens in evaluation.")
    passage_max_length: PositiveInt = Field(196, description="Documents are cut to this many tokens in evaluation.")
    top_k: int = Field(100, ge=100, description="Documents that are ranked per query and cell; recall@100 needs 100.")
    shard_documents: PositiveInt = Field(
        1_024_000,
        description="A corpus with more documents is searched by several jobs, each with this many; a multiple of 4096"
        " gives the rankings of one job to the last bit.",
    )
    run_files: list[Cell] = Field([], description="Cells whose rankings are written as TREC run files.")
    bands: list[PositiveInt] = Field(
        [32, 64], description="Upper ends of the bands of dims that tables report beside the mean."
    )
    panels: Mapping[str, list[str]] = Field(
        {
            "methods": ["bert", "bert-s", "mse", "2dmse", "srl"],
            "losses": ["bert-s", "2dmse", "score", "full-dim", "+dims", "+dims+full-dim"],
            "documents": ["bert-s", "2dmse", "paired-doc", "fix-doc"],
        },
        description="Figures by name and the methods in each; those that are not run are left out.",
    )

    @property
    def sets(self) -> list[str]:
        """Names of all test collections."""
        return self.evaluate

    @field_validator("bands")
    @classmethod
    def _ascending(cls, dims: list[int]) -> list[int]:
        return sorted(_distinct(dims))


def _distinct(dims: list[int]) -> list[int]:
    if len(set(dims)) != len(dims):
        raise ValueError("a width is listed twice; list every width once")
    return dims
