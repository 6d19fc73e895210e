"""What an experiment's YAML file may say about measuring costs."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from matryobench.validation import Settings


class Deployment(Settings):
    """How the cost of a cell is measured on the machine that runs the workflow."""

    batch_size: PositiveInt = Field(32, description="Texts per batch, for texts per second.")
    documents: PositiveInt = Field(100_000, description="Documents that are searched, for searches per second.")
    repeats: int = Field(100, ge=5, description="Single queries that are timed per layer, after a warm-up.")
    max_texts: PositiveInt = Field(
        256, description="Texts that are drawn from a task's first test set: its queries, and as many documents."
    )
