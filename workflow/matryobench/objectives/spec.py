"""What a method is, as data: schedule x base loss x alignment x weights.

Index convention: hidden_states[0] is the embedding output; layer l in 1..L is hidden_states[l]; dimension d is the
first d coordinates.

Nothing here imports torch, so that planning stays fast.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from matryobench.validation import Settings

Layers = Literal["last", "below-last", "input-to-second-last", "sampled", "cell"]
"""last: L. below-last: 1..L-1. input-to-second-last: 0..L-2 (the released AnglE loop, D2). sampled: one layer per
step, uniform over the variant's `sample_from`..L-1, the same for every group of that step. cell: the run's own layer."""

Dims = Literal["full", "nested", "one-nested", "target", "cell"]
"""full: H. nested: the recipe's list. one-nested: one of that list, drawn uniformly for every step and group. target:
the recipe's one target width k. cell: the run's own width."""

LayerWeights = Literal["uniform", "log", "linear"]
"""With i = 0, 1, ... the position in the group's range of layers: uniform 1, log 1/(1+ln(1+i)), linear 1/(1+i).
Over the range 1..L-1 the log rule is eq. 8 of arXiv 2411.17299, 1/(1+ln l)."""


class CellGroup(Settings):
    """Cells that the base loss is evaluated at, every one with its weight."""

    layers: Layers = Field(description="Which layers.")
    dims: Dims = Field(description="Which widths of each of these layers.")
    weights: LayerWeights = Field("uniform", description="Weight of a layer by its position in the range.")
    average: bool = Field(False, description="Divide the group's sum by its number of layers.")


class SizeGroup(Settings):
    """The recipe's (layer, dim) sizes, one base loss each, weight 1."""

    sizes: Literal["all"] = Field(description="All sizes of the recipe, the largest included.")


class CoordinateKL(Settings):
    """KL(softmax(teacher / T) || softmax(student / T)) over embedding coordinates, mean over texts (batchmean)."""

    kind: Literal["coordinate-kl"]
    students: Literal["sampled", "sizes"] = Field(
        description="sampled: the step's layer at full width. sizes: every size but the largest, the teacher cut to its width."
    )
    temperature: float = Field(1.0, gt=0, description="T inside both softmaxes.")
    weight: float = Field(1.0, description="Factor of the term.")
    detach_teacher: bool = Field(True, description="Whether the last layer gets no gradient from this term.")


class Compression(Settings):
    """MSE(student, target) + T x KL(softmax(target / T) || softmax(student / T)); target = a layer compressed to k.

    The student is the first k coordinates of the same layer; the target carries no gradient.
    """

    kind: Literal["compression"]
    layers: Layers = Field(description="Which layers are compressed.")
    weights: LayerWeights = Field("uniform", description="Weight of a layer by its position in the range.")
    average: bool = Field(False, description="Divide the group's sum by its number of layers.")
    compress: Literal["pca", "softmax-svd"] = Field(
        description="pca: projection of the batch on its k principal axes. softmax-svd: m (U S) with U, S of a rank-k"
        " SVD of softmax(m'm / sqrt(H)), which the released code calls PCA (D3)."
    )
    temperature: float = Field(1.0, gt=0, description="T of the KL half.")


class Variant(Settings):
    """One definition of a method: as written (`paper`), as released, or a named repair."""

    description: str = Field(min_length=20, description="What this variant computes and where it differs.")
    source: str = Field(min_length=5, description="Paper section or equation, or repository, commit and file.")
    deviations: list[str] = Field([], description="Ids of the deviations ledger (D1-D16) that this variant shows.")
    runs: Literal["one", "per-layer", "per-cell"] = Field(
        "one", description="one: one model for the grid. per-layer / per-cell: a model for each layer / cell (BERT-S)."
    )
    losses: list[CellGroup | SizeGroup] = Field(min_length=1, description="Where the base loss is evaluated.")
    alignments: list[Annotated[CoordinateKL | Compression, Field(discriminator="kind")]] = Field(
        [], description="Terms that pull cells towards others."
    )
    sample_from: int | None = Field(
        None, ge=0, le=1, description="Lowest layer that may be sampled; only where a group uses 'sampled'."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Variant:
        sampled = any(
            (isinstance(group, CellGroup) and group.layers == "sampled")
            or (isinstance(group, CoordinateKL) and group.students == "sampled")
            or (isinstance(group, Compression) and group.layers == "sampled")
            for group in [*self.losses, *self.alignments]
        )
        if sampled != (self.sample_from is not None):
            raise ValueError("'sample_from' is needed exactly where a group uses the sampled layer")
        uses_cell = any(isinstance(g, CellGroup) and "cell" in (g.layers, g.dims) for g in self.losses)
        if uses_cell != (self.runs != "one"):
            raise ValueError("'runs' must be per-layer or per-cell exactly where a group uses the run's own cell")
        if self.runs == "per-layer" and any(isinstance(g, CellGroup) and g.dims == "cell" for g in self.losses):
            raise ValueError("a per-layer variant has no width of its own; use dims full, nested or target")
        return self

    @property
    def needs(self) -> set[str]:
        """Which of the recipe's fields the variant reads: nested_dims, target_dim, sizes."""
        dims = {group.dims for group in self.losses if isinstance(group, CellGroup)}
        fields = {"nested": "nested_dims", "one-nested": "nested_dims", "target": "target_dim"}
        needs = {fields[dim] for dim in dims if dim in fields}
        if any(isinstance(group, SizeGroup) for group in self.losses) or any(
            isinstance(group, CoordinateKL) and group.students == "sizes" for group in self.alignments
        ):
            needs.add("sizes")
        if any(isinstance(group, Compression) for group in self.alignments):
            needs.add("target_dim")
        return needs


class Method(Settings):
    """A named objective, where it starts from, and how it is drawn."""

    title: str = Field(min_length=1, description="Name in figures and tables.")
    description: str = Field(min_length=20, description="One sentence: what is trained.")
    source: str = Field(min_length=5, description="Where the method comes from.")
    colour: str = Field(pattern=r"^#[0-9A-Fa-f]{6}$", description="Its colour in every figure.")
    marker: Literal["o", "s", "^", "v", "D", "P", "X", "*", "<", ">", "p", "h"] = Field(description="Its marker.")
    tasks: list[Literal["sts"]] = Field(min_length=1, description="Tasks that the method is defined for.")
    starts_from: str | None = Field(None, description="Method whose run it starts from; none: the backbone.")
    default_variant: str = Field(description="The variant that a config gets when it names none.")
    variants: dict[str, Variant] = Field(min_length=1, description="The definitions, by name.")

    @model_validator(mode="after")
    def _default_exists(self) -> Method:
        if self.default_variant not in self.variants:
            raise ValueError(f"default_variant '{self.default_variant}' is not one of: {', '.join(self.variants)}")
        return self
