"""The grid of cells: layers x dims. Layer l is hidden_states[l], l = 1..L; dim d is its first d coordinates."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, field_validator

from matryobench.validation import Settings

Cell = tuple[int, int]


class Grid(Settings):
    """Which cells are evaluated: every layer with every dim."""

    layers: list[int] = Field(description="Layers to evaluate, 1 is the first transformer layer.")
    dims: list[int] = Field(description="Widths to evaluate: the first d coordinates, renormalised by the cosine.")

    @field_validator("layers", "dims")
    @classmethod
    def _ascending(cls, values: list[int]) -> list[int]:
        if not values:
            raise ValueError("the grid is empty; list at least one value")
        if min(values) < 1:
            raise ValueError(f"{min(values)} is below 1; layers and dims count from 1")
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"{', '.join(map(str, repeated))} is listed twice; list every value once")
        return sorted(values)  # the order must not matter to any result

    def cells(self) -> Iterator[Cell]:
        """All (layer, dim), layers first."""
        return ((layer, dim) for layer in self.layers for dim in self.dims)
