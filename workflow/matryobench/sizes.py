"""Named sizes: (layer, dim) cells on the diagonal of the grid, after the coffee cups of Starbucks (arXiv 2410.13230)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matryobench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matryobench.backbones import Shape
    from matryobench.grid import Cell


def spread(sizes: Mapping[str, Cell] | Sequence[str], shape: Shape, place: str) -> dict[str, Cell]:
    """Sizes by name, smallest first; names alone get the layers i L / n, rounded, and the n largest of H, 2^k, 2^(k-1) ...

    2^k is the largest power of two below H. For BERT-base and six names that is the paper's list: (2, 32), (4, 64),
    (6, 128), (8, 256), (10, 512), (12, 768). Raises InputError where the backbone is not known yet, or has fewer layers
    or widths than there are names.
    """
    if not isinstance(sizes, Sequence):
        return dict(sorted(sizes.items(), key=lambda item: item[1]))
    if not sizes:
        return {}
    if len(set(sizes)) != len(sizes):
        raise InputError(f"{place}: a name is listed twice; list every name once.")
    if shape.layers is None or shape.hidden is None:
        raise InputError(
            f"{place}: sizes cannot be spread over a backbone that is not fetched yet; run `matryobench fetch` first"
            " or give every size as [layer, dim]."
        )
    halvings = [2**power for power in range(shape.hidden.bit_length()) if 2**power < shape.hidden]
    dims = [*halvings, shape.hidden][-len(sizes) :]
    if len(dims) < len(sizes) or shape.layers < len(sizes):
        raise InputError(
            f"{place}: {len(sizes)} sizes do not fit a backbone of {shape.layers} layers and width {shape.hidden}; name"
            " fewer."
        )
    layers = [(2 * (number + 1) * shape.layers + len(sizes)) // (2 * len(sizes)) for number in range(len(sizes))]
    return dict(zip(sizes, zip(layers, dims, strict=True), strict=True))
