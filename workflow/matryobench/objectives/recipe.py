"""Settings of the base losses. Nothing here imports torch, so that planning stays fast."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from matryobench.validation import Settings


class MNRLoss(Settings):
    """Multiple negatives ranking with in-batch and hard negatives."""

    loss: Literal["mnrl"]
    scale: float = Field(20.0, gt=0, description="Factor of the cosine.")


class CoSENTLoss(Settings):
    """CoSENT; needs scored pairs."""

    loss: Literal["cosent"]
    scale: float = Field(20.0, gt=0, description="Factor of the cosine.")


class InstructorLoss(Settings):
    """INSTRUCTOR's loss as released: the own positive against the batch's hard negatives, and the reverse; triplets only."""

    loss: Literal["instructor"]
    temperature: float = Field(0.01, gt=0, description="The cosine is divided by it.")


class AngleLoss(Settings):
    """AnglE: contrastive + angle + cosine terms. Defaults are those of the paper's V2 recipe."""

    loss: Literal["angle"]
    contrastive_weight: float = Field(30.0, ge=0, description="Weight of the contrastive term (triplets only).")
    contrastive_scale: float = Field(20.0, gt=0, description="Factor of the cosine in the contrastive term.")
    angle_weight: float = Field(1.0, ge=0, description="Weight of the angle term; needs even widths.")
    angle_scale: float = Field(20.0, gt=0, description="Factor of the angle difference.")
    cosine_weight: float = Field(0.0, ge=0, description="Weight of the cosine (CoSENT) term.")
    cosine_scale: float = Field(20.0, gt=0, description="Factor of the cosine in the cosine term.")

    @model_validator(mode="after")
    def _some_term(self) -> AngleLoss:
        if not (self.contrastive_weight or self.angle_weight or self.cosine_weight):
            raise ValueError("all three weights are 0; give at least one term a weight")
        return self


class ContrastiveLoss(Settings):
    """Retrieval: cross entropy of every query's scores over all passages of the batch against its own positive."""

    loss: Literal["contrastive"]
    similarity: Literal["dot", "cosine"] = Field(
        "dot", description="dot: of the raw embeddings, as the papers; cosine: normalised after the cut to d."
    )
    temperature: float = Field(1.0, gt=0, description="Scores are divided by it.")
    false_negatives: Literal["keep", "mask"] = Field(
        "keep",
        description="keep: a known positive of a query that another query brought into the batch counts as a negative,"
        " as in the papers; mask: it is left out of the cross entropy.",
    )


BaseLoss = Annotated[MNRLoss | InstructorLoss | CoSENTLoss | AngleLoss, Field(discriminator="loss")]
