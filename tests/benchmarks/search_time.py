"""The search of all widths of a layer against FAISS at the full width, and against FAISS once per width."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from harness import Agreement, Growth, Outcome, Setting, Target, alternate, median_seconds, peak_mb, row, timed

from matryobench.evaluation.search import TopK

DIMS = (8, 16, 32, 64, 128, 256, 512, 768)
K = 100
PIECE = 4096  # documents that the evaluation hands over at a time


def run(setting: Setting) -> Outcome:
    """Rows against one and against eight FAISS searches; growth with documents, widths and queries."""
    documents, queries = setting.size(100_000, 3000), setting.size(1000, 50)
    corpus, asked = vectors(documents, queries)
    index = _index(corpus)
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = search(corpus, asked, DIMS)

    def one() -> None:
        found["one"] = index.search(asked.numpy(), K)

    operations = 2.0 * documents * queries * DIMS[-1]
    work = f"{documents} x {DIMS[-1]} documents, {queries} queries, {len(DIMS)} dims, k = {K}"
    first = row(
        "grid search, one layer", work, "one FAISS IndexFlatIP search at full width",
        alternate(ours, one, setting.repeats), Target("share", 1.3), operations=operations,
        agreement=_agreement(found["ours"], {DIMS[-1]: found["one"]}), ours_mb=peak_mb(ours), peer_mb=peak_mb(one),
    )  # fmt: skip
    indices = {dim: index if dim == DIMS[-1] else _index(corpus[:, :dim]) for dim in DIMS}

    def eight() -> None:
        found["eight"] = {
            dim: held.search(np.ascontiguousarray(asked.numpy()[:, :dim]), K) for dim, held in indices.items()
        }

    second = row(
        "grid search, one layer", work, f"{len(DIMS)} FAISS searches, one per width, indices ready",
        alternate(ours, eight, setting.repeats), Target("times", 2.5), operations=operations,
        agreement=_agreement(found["ours"], found["eight"]), ours_mb=peak_mb(ours), peer_mb=peak_mb(eight),
    )  # fmt: skip
    return Outcome([first, second], _growth(setting, corpus, asked, index))


def vectors(documents: int, queries: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random documents and queries (n, 768), float32; an exact search looks at every number, whatever it is."""
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(count, DIMS[-1], generator=generator) for count in (documents, queries))


def search(corpus: torch.Tensor, asked: torch.Tensor, dims: tuple[int, ...]) -> Any:
    """The rankings of every width."""
    best = TopK([(1, 1, dim) for dim in dims], {1: asked}, K)
    for start in range(0, len(corpus), PIECE):
        best.add({1: corpus[start : start + PIECE]}, start)
    return best.result()


def _index(corpus: torch.Tensor) -> Any:
    import faiss

    index = faiss.IndexFlatIP(corpus.shape[1])
    index.add(np.ascontiguousarray(corpus.numpy()))
    return index


def _agreement(rankings: Any, peers: dict[int, Any]) -> Agreement:
    """Scores rank by rank, and the share of equal documents: rounding may exchange neighbours."""
    furthest, same, total = 0.0, 0, 0
    for dim, (scores, documents) in peers.items():
        cell = [cell[2] for cell in rankings.cells].index(dim)
        furthest = max(furthest, float(np.abs(rankings.scores[cell].numpy() / scores - 1).max()))
        same += int((rankings.documents[cell].numpy() == documents).sum())
        total += documents.size
    share = same / total
    return Agreement(
        f"scores within {furthest:.0e}, {share:.4%} of ranks the same document", furthest < 1e-4 and share > 0.999
    )


def _growth(setting: Setting, corpus: torch.Tensor, asked: torch.Tensor, index: Any) -> list[Growth]:
    tables = []
    rows: list[tuple[Any, ...]] = []
    for part in (8, 4, 2, 1):
        some = corpus[: len(corpus) // part]
        held = index if part == 1 else _index(some)
        costs = alternate(
            lambda some=some: search(some, asked, DIMS),
            lambda held=held: held.search(asked.numpy(), K),
            setting.repeats,
        )
        mine, other = median_seconds(costs.ours), median_seconds(costs.peer)
        rows.append((len(some), round(mine, 3), round(other, 3), round(mine / other, 2)))
    columns = ("documents", "all widths, s", "FAISS at full width, s", "ratio")
    tables.append(Growth(f"grid search by documents ({len(asked)} queries)", columns, rows))
    rows = []
    for count in (1, 2, 4, 8):
        dims = DIMS[-count:]
        costs = [timed(lambda dims=dims: search(corpus, asked, dims)) for _ in range(setting.repeats)]
        rows.append((count, round(median_seconds(costs), 3)))
    tables.append(Growth(f"grid search by widths, the widest ones ({len(corpus)} documents)", ("dims", "s"), rows))
    rows = []
    for part in (100, 10, 1):
        some = asked[: max(1, len(asked) // part)]
        costs = alternate(
            lambda some=some: search(corpus, some, DIMS),
            lambda some=some: index.search(some.numpy(), K),
            setting.repeats,
        )
        mine, other = median_seconds(costs.ours), median_seconds(costs.peer)
        rows.append((len(some), round(mine, 3), round(other, 3), round(mine / other, 2)))
    columns = ("queries", "all widths, s", "FAISS at full width, s", "ratio")
    return [*tables, Growth(f"grid search by queries ({len(corpus)} documents)", columns, rows)]
