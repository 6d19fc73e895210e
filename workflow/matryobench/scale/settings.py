"""What is simulated, and the arguments that cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matryobench.errors import InputError
from matryobench.scale.vectors import CHUNK, MAX_WIDTH, PLANTED, FakeVectors

if TYPE_CHECKING:
    from matryobench.evaluation.rankings import SearchCell


@dataclass(frozen=True)
class Simulation:
    """What is simulated. Raises InputError where it cannot be."""

    documents: int
    queries: int
    layers: int
    width: int
    dims: tuple[int, ...]
    top_k: int
    seed: int
    shards: int

    def __post_init__(self) -> None:
        if not self.dims or list(self.dims) != sorted(set(self.dims)) or not 1 <= self.dims[0] <= self.dims[-1]:
            raise InputError(f"--dims: {list(self.dims)} is not an ascending list of widths; e.g. 8,64,768.")
        if self.dims[-1] > self.width:
            raise InputError(f"--dims: {self.dims[-1]} is above --width {self.width}; leave it out or widen.")
        if self.width > MAX_WIDTH:
            raise InputError(f"--width: {self.width} is above {MAX_WIDTH}, to which scores are exact; lower it.")
        if self.top_k < 100:
            raise InputError(f"--top-k: {self.top_k} is below 100, which recall@100 needs; raise it.")
        if self.documents < self.queries * PLANTED + self.top_k:
            raise InputError(
                f"--documents: {self.documents} cannot hold the {PLANTED} planted per query and {self.top_k} more; give at"
                f" least {self.queries * PLANTED + self.top_k}."
            )
        if self.shards > -(-self.documents // CHUNK):
            raise InputError(
                f"--shards: {self.documents} documents are {-(-self.documents // CHUNK)} pieces of {CHUNK}, which do not"
                f" make {self.shards} shards; ask for fewer."
            )

    @property
    def cells(self) -> tuple[SearchCell, ...]:
        """Every layer with every width."""
        return tuple((layer, layer, dim) for layer in range(1, self.layers + 1) for dim in self.dims)

    def vectors(self) -> FakeVectors:
        """The embeddings."""
        return FakeVectors(self.documents, self.queries, self.width, self.seed)

    def shard(self, number: int) -> tuple[int, int]:
        """(start, stop) of a shard's documents, whole pieces but for the last."""
        pieces = -(-self.documents // CHUNK)
        start, stop = (pieces * at // self.shards * CHUNK for at in (number, number + 1))
        return start, min(stop, self.documents)


def widths(text: str) -> tuple[int, ...]:
    """The widths of --dims. Raises InputError where one is not a whole number."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--dims: '{text}' is not a comma-separated list of whole numbers; e.g. 8,64,768.") from None
