"""What a method is, as data: schedule x base loss x alignment x weights.

Index convention: hidden_states[0] is the embedding output; layer l in 1..L is hidden_states[l]; dimension d is the
first d coordinates.

Nothing here imports torch, so that planning stays fast.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, cast

from pydantic import Discriminator, Field, Tag, model_validator

from matryobench.validation import Settings

TaskName = Literal["sts", "retrieval"]
"""What is trained; methods for sts also serve the task mteb, whose training is the same."""

Layers = Literal["last", "below-last", "input-to-second-last", "sampled", "cell"]
"""last: L. below-last: 1..L-1. input-to-second-last: 0..L-2 (the released AnglE loop, D2). sampled: one layer per
step, uniform over the variant's `sample_from`..L-1, the same for every group of that step. cell: the run's own layer."""

Dims = Literal["full", "nested", "one-nested", "target", "targets", "list", "cell"]
"""full: H. nested: the recipe's list. one-nested: one of that list, drawn uniformly for every step and group. target:
the recipe's one target width k. targets: the recipe's target widths (retrieval). list: the recipe's list of the name
`dim_list` (retrieval). cell: the run's own width."""

LayerWeights = Literal["uniform", "log", "linear"]
"""With i = 0, 1, ... the position in the group's range of layers: uniform 1, log 1/(1+ln(1+i)), linear 1/(1+i).
Over the range 1..L-1 the log rule is eq. 8 of arXiv 2411.17299, 1/(1+ln l)."""

_STS_LAYERS = ("sampled", "input-to-second-last")
_STS_DIMS = ("nested", "one-nested", "target")
_RETRIEVAL_WORDS = ("targets", "list", "sampled-layer")


class LayerGroup(Settings):
    """Layers, every one with its weight."""

    layers: Layers = Field(description="Which layers.")
    weights: LayerWeights = Field("uniform", description="Weight of a layer by its position in the range.")
    average: bool = Field(False, description="Divide the group's sum by its number of layers.")


class CellGroup(LayerGroup):
    """Cells that the base loss is evaluated at, every one with its layer's weight."""

    dims: Dims = Field(description="Which widths of each of these layers.")
    dim_list: str | None = Field(None, description="Name in the recipe's dim_lists; exactly with dims: list.")

    @model_validator(mode="after")
    def _list_is_named(self) -> Self:
        if (self.dims == "list") != (self.dim_list is not None):
            raise ValueError("'dim_list' is needed exactly where dims is 'list'")
        return self


class SizeGroup(Settings):
    """Cells that the recipe's (layer, dim) sizes give, one base loss each, weight 1."""

    sizes: Literal["all", "sampled-layer"] = Field(
        description="all: the sizes, the largest included. sampled-layer: every size's dim at L and at the layer of one"
        " of the smaller sizes, which is drawn for every step (retrieval)."
    )


class CoordinateKL(Settings):
    """KL(softmax(teacher / T) || softmax(student / T)) over embedding coordinates, mean over texts (batchmean).

    In retrieval it is evaluated on the queries and on the passages of a batch and the two are added.
    """

    kind: Literal["coordinate-kl"]
    students: Literal["sampled", "sizes"] = Field(
        description="sampled: the step's layer at full width. sizes: every size but the largest, the teacher cut to its width."
    )
    temperature: float = Field(1.0, gt=0, description="T inside both softmaxes.")
    weight: float = Field(1.0, description="Factor of the term.")
    detach_teacher: bool = Field(True, description="Whether the last layer gets no gradient from this term.")


class Compression(CellGroup):
    """MSE(student, target) + T x KL(softmax(target / T) || softmax(student / T)); target = a layer compressed to k.

    The student is the first k coordinates of the same layer; the target carries no gradient. In STS all texts of a
    batch are one set; in retrieval the term is evaluated on the queries and on the passages, on each for every k.
    """

    kind: Literal["compression"]
    dims: Literal["target", "targets", "list"] = Field("target", description="Which widths k.")
    compress: Literal["pca", "softmax-svd"] = Field(
        description="pca: projection of the batch on its k principal axes. softmax-svd: m (U S) with U, S of a rank-k"
        " SVD of softmax(m'm / sqrt(H)), which the released code calls PCA (D3)."
    )
    temperature: Annotated[float, Field(gt=0)] | Literal["base"] = Field(
        1.0, description="T of the KL half; base: the temperature of the base loss (retrieval)."
    )
    kl_factor: Literal["temperature", "one"] = Field("temperature", description="Factor of the KL half: T or 1.")
    divide_by_texts: bool = Field(False, description="Divide the term by the number of texts of the set (retrieval).")

    @model_validator(mode="after")
    def _fits_task(self) -> Self:
        if self.dims == "target" and (self.divide_by_texts or self.temperature == "base"):
            raise ValueError("'divide_by_texts' and temperature 'base' exist for dims targets or list only")
        return self


class ScoreAlignment(CellGroup):
    """mse x MSE(S(l,d), sg T) + kl x KL(softmax(T / t) || softmax(S(l,d) / t)) on scores of the batch (retrieval).

    S: scores of all queries over all passages of the batch, undivided; T: the teacher's, without gradient; t: the base
    loss's temperature. MSE: mean over all scores; KL: over the passages, mean over the queries.
    """

    kind: Literal["score-alignment"]
    dims: Literal["targets", "list"] = Field(description="Which widths d of each of these layers.")
    mse: float = Field(1.0, ge=0, description="Factor of the MSE half; 0 leaves it out.")
    kl: float = Field(1.0, ge=0, description="Factor of the KL half; 0 leaves it out.")
    teacher: Literal["own-layer-full", "last-full"] = Field(
        "own-layer-full", description="own-layer-full: S(l,H). last-full: S(L,H), the released compare_to_last_layer."
    )
    divide_by_scores: bool = Field(
        True, description="Divide both halves by queries x passages of the batch, as released (D6)."
    )

    @model_validator(mode="after")
    def _some_half(self) -> Self:
        if not (self.mse or self.kl):
            raise ValueError("'mse' and 'kl' are both 0; give at least one half a factor")
        return self


class ScoreKL(Settings):
    """KL(softmax(sg S(L,H) / t) || softmax(S(l,d) / t)) over passages, mean over queries, for cells other than (L, H).

    t: the base loss's temperature. Retrieval only.
    """

    kind: Literal["score-kl"]
    students: Literal["sizes", "sampled-layer"] = Field(
        description="sizes: every size but the largest. sampled-layer: the cells of such a group of losses."
    )
    weight: float = Field(1.0, gt=0, description="Factor of the term.")


def _kind_of_group(group: object) -> str:
    return "sizes" if isinstance(group, SizeGroup) or (isinstance(group, dict) and "sizes" in group) else "cells"


# Told apart by a key, so that an error is about the one that was meant.
LossGroup = Annotated[
    Annotated[CellGroup, Tag("cells")] | Annotated[SizeGroup, Tag("sizes")], Discriminator(_kind_of_group)
]
Alignment = Annotated[CoordinateKL | Compression | ScoreAlignment | ScoreKL, Field(discriminator="kind")]


class Variant(Settings):
    """One definition of a method: as written (`paper`), as released, or a named repair."""

    description: str = Field(min_length=20, description="What this variant computes and where it differs.")
    source: str = Field(min_length=5, description="Paper section or equation, or repository, commit and file.")
    deviations: list[str] = Field([], description="Ids of the deviations ledger (D1-D16) that this variant shows.")
    task: TaskName | Literal["any"] = Field("any", description="The task that it is defined for.")
    runs: Literal["one", "per-layer", "per-cell"] = Field(
        "one", description="one: one model for the grid. per-layer / per-cell: a model for each layer / cell (BERT-S)."
    )
    documents: Literal["same", "last"] = Field(
        "same",
        description="Layer of the document side in the loss and in evaluation: that of the query side, or always L"
        " (fix-doc, retrieval).",
    )
    losses: list[LossGroup] = Field(min_length=1, description="Where the base loss is evaluated.")
    alignments: list[Alignment] = Field([], description="Terms that pull cells towards others.")
    sample_from: int | None = Field(
        None, ge=0, le=1, description="Lowest layer that may be sampled; only where a group uses 'sampled'."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if ("sampled" in self._used) != (self.sample_from is not None):
            raise ValueError("'sample_from' is needed exactly where a group uses the sampled layer")
        uses_cell = any(isinstance(g, CellGroup) and "cell" in (g.layers, g.dims) for g in self.losses)
        if uses_cell != (self.runs != "one"):
            raise ValueError("'runs' must be per-layer or per-cell exactly where a group uses the run's own cell")
        if self.runs == "per-layer" and any(isinstance(g, CellGroup) and g.dims == "cell" for g in self.losses):
            raise ValueError("a per-layer variant has no width of its own; use dims full, nested or target")
        aligned = {a.students for a in self.alignments if isinstance(a, ScoreKL)}
        if "sampled-layer" in aligned and not any(
            g.sizes == "sampled-layer" for g in self.losses if isinstance(g, SizeGroup)
        ):
            raise ValueError("students 'sampled-layer' need a group of losses with sizes 'sampled-layer'; add it")
        for task, terms in (("sts", self._sts_terms()), ("retrieval", self._retrieval_terms())):
            if terms and self.task != task:
                raise ValueError(f"{terms[0]} exists for {task} only; set 'task' to {task} or leave the term out")
        return self

    @property
    def _used(self) -> set[str]:
        """The words for layers and widths that the variant's groups use."""
        used: set[str] = set()
        for group in [*self.losses, *self.alignments]:
            if isinstance(group, CellGroup):
                used |= {group.layers, group.dims}
            elif isinstance(group, CoordinateKL | ScoreKL):
                used.add(group.students)
            else:
                used.add("sizes" if group.sizes == "all" else group.sizes)
        return used

    def _sts_terms(self) -> list[str]:
        return [f"'{word}'" for word in (*_STS_LAYERS, *_STS_DIMS) if word in self._used]

    def _retrieval_terms(self) -> list[str]:
        found = [f"'{word}'" for word in _RETRIEVAL_WORDS if word in self._used]
        found += [f"'{a.kind}'" for a in self.alignments if isinstance(a, ScoreAlignment | ScoreKL)]
        return found + (["'documents: last'"] if self.documents == "last" else [])

    @property
    def needs(self) -> set[str]:
        """Which settings of the run the variant reads: nested_dims, target_dim, target_dims, dim_lists, sizes."""
        fields = {
            "nested": "nested_dims", "one-nested": "nested_dims", "target": "target_dim", "targets": "target_dims",
            "list": "dim_lists", "sizes": "sizes", "sampled-layer": "sizes",
        }  # fmt: skip
        return {fields[word] for word in self._used if word in fields}

    @property
    def dim_lists(self) -> set[str]:
        """Names of the recipe's lists of widths that the variant reads."""
        groups = [*self.losses, *self.alignments]
        return {group.dim_list for group in groups if isinstance(group, CellGroup) and group.dim_list is not None}

    @property
    def uses_lower_layers(self) -> bool:
        """Whether it trains layers 1..L-1, so that the backbone needs more than one."""
        return not self._used.isdisjoint({"sampled", "below-last", "sampled-layer"})


class Method(Settings):
    """A named objective, where it starts from, and how it is drawn."""

    title: str = Field(min_length=1, description="Name in figures and tables.")
    description: str = Field(min_length=20, description="One sentence: what is trained.")
    source: str = Field(min_length=5, description="Where the method comes from.")
    colour: str = Field(pattern=r"^#[0-9A-Fa-f]{6}$", description="Its colour in every figure.")
    marker: Literal["o", "s", "^", "v", "D", "P", "X", "*", "<", ">", "p", "h", "d", "H", "8", "x", "+", "1"] = Field(
        description="Its marker."
    )
    tasks: list[TaskName] = Field(min_length=1, description="Tasks that the method is defined for.")
    starts_from: str | None = Field(None, description="Method whose run it starts from; none: the backbone.")
    pretraining: str | None = Field(
        None, description="Entry of the experiment's `pretraining` that it starts from; none: the backbone."
    )
    default_variant: str = Field(description="The variant that a config gets when it names none.")
    task_defaults: dict[TaskName, str] = Field(
        {}, description="Default variants of single tasks, where `default_variant` is not defined for them."
    )
    variants: dict[str, Variant] = Field(min_length=1, description="The definitions, by name.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.starts_from is not None and self.pretraining is not None:
            raise ValueError("'starts_from' and 'pretraining' are both given; keep the one that it starts from")
        for name, variant in self.variants.items():
            if variant.task not in ("any", *self.tasks):
                raise ValueError(f"variant '{name}' is for {variant.task}, which is not in 'tasks'; add it there")
        chosen = {"default_variant": self.default_variant}
        chosen |= {f"task_defaults.{task}": self.default_for(task) for task in (*self.tasks, *self.task_defaults)}
        for key, name in chosen.items():
            if name not in self.variants:
                raise ValueError(f"{key} '{name}' is not one of: {', '.join(self.variants)}")
        for task in self.tasks:
            if self.variants[self.default_for(task)].task not in ("any", task):
                raise ValueError(
                    f"the default variant '{self.default_for(task)}' is not for {task}; add task_defaults.{task}"
                )
        return self

    def default_for(self, task: str) -> str:
        """The variant that a config of this task gets when it names none; `task` is one that is trained."""
        return self.task_defaults.get(cast(TaskName, task), self.default_variant)
