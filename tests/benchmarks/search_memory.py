"""The memory of a streamed search against itself on a twenty times smaller corpus."""

from __future__ import annotations

import torch
from harness import Agreement, Growth, Outcome, Row, Setting, Target, peak_mb
from search_time import DIMS, K

from matryobench.evaluation.rankings import Rankings
from matryobench.evaluation.search import TopK

PIECE = 4096
QUERIES = 200


def run(setting: Setting) -> Outcome:
    """The ratio of the peaks; growth with documents."""
    sizes = [setting.size(size, size // 100) for size in (100_000, 500_000, 2_000_000)]
    stream(PIECE)  # libraries take their own buffers once
    found: dict[int, Rankings] = {}
    peaks = {size: peak_mb(lambda size=size: found.update({size: stream(size)})) for size in sizes}
    whole = {size: size * DIMS[-1] * 4 / 2**20 for size in sizes}
    first, last = sizes[0], sizes[-1]
    # Each corpus begins with the same documents, so the smaller search can be found again in the larger one.
    small, large = found[first], found[last]
    known = torch.where(large.documents < first, large.documents, -1)
    subset = all(
        set(row[row >= 0].tolist()) <= set(mine.tolist())
        for cell, ours in zip(known, small.documents, strict=True)
        for row, mine in zip(cell, ours, strict=True)
    )
    line = Row(
        "search memory", f"{QUERIES} queries, {len(DIMS)} dims, k = {K}: {last} documents", f"itself at {first} documents",
        [peaks[last] / peaks[first]], Target("share", 1.1), ours_mb=peaks[last], peer_mb=peaks[first],
        agreement=Agreement("what is left of the first documents was found among them alone", subset),
    )  # fmt: skip
    rows = [(size, round(peaks[size], 1), round(whole[size], 1)) for size in sizes]
    return Outcome(
        [line], [Growth("search memory by documents", ("documents", "peak MiB", "the corpus itself, MiB"), rows)]
    )


def stream(documents: int) -> Rankings:
    """Searches random documents that are made piece by piece and dropped."""
    generator = torch.Generator().manual_seed(1)
    asked = torch.randn(QUERIES, DIMS[-1], generator=generator)
    best = TopK([(1, 1, dim) for dim in DIMS], {1: asked}, K)
    for start in range(0, documents, PIECE):
        best.add({1: torch.randn(min(PIECE, documents - start), DIMS[-1], generator=generator)}, start)
    return best.result()
