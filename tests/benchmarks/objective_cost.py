"""Retrieval losses, forward and backward, against the form that holds a product of layers x queries x documents x dims.

The peer multiplies the embeddings of every query and passage at all layers into one tensor, adds each block of coordinates
up once, and takes the same cross entropies and divergences of the sums. It does not fit at full size, so that it is run on
fewer queries (of which its cost is a multiple) and scaled.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from harness import (
    Agreement,
    Cost,
    Growth,
    Outcome,
    Pairs,
    Setting,
    Target,
    alternate,
    median_seconds,
    peak_mb,
    row,
    timed,
)
from torch import Tensor

from matryobench.objectives.recipe import ContrastiveLoss
from matryobench.objectives.registry import load_methods
from matryobench.objectives.retrieval import RetrievalObjective

METHODS = (("2dmse", "released"), ("+dims", "six"), ("srl", "released-retrieval"))
BASE = ContrastiveLoss(loss="contrastive")
Sides = tuple[dict[int, Tensor], dict[int, Tensor]]


def run(setting: Setting) -> Outcome:
    """A row of time and one of memory per method; growth with layers, dims and queries."""
    layers, width = setting.size(12, 3), setting.size(768, 96)
    queries, passages = setting.size(128, 8), setting.size(1024, 64)
    few = max(1, queries // setting.size(16, 4))
    outcome = Outcome()
    for method, variant in METHODS:
        objective = objective_of(method, variant, layers, width)
        whole, part = sides(layers, queries, passages, width), sides(layers, few, passages, width)
        factor = queries / few
        apart = _apart(objective, part)
        pairs = alternate(lambda: loss(objective, whole), lambda: materialised(objective, part), setting.repeats)  # noqa: B023
        scaled = Pairs(pairs.ours, [Cost(factor * one.seconds, factor * one.cpu_seconds) for one in pairs.peer])
        work = f"{method} ({variant}): {layers} layers x {queries} queries x {passages} passages x {width}"
        agreement = Agreement(f"loss and gradients within {apart:.0e} on {few} queries", apart < 1e-4)
        told = f"run on {few} of {queries} queries"
        # Every layer once, to its widest trained width: the product of the scores and its two gradients.
        widest: dict[int, int] = {}
        for term in objective.coverage():
            widest[term.layer] = max(term.dim, widest.get(term.layer, 0))
        operations = 3 * 2.0 * sum(widest.values()) * queries * passages
        mine = peak_mb(lambda: loss(objective, whole))  # noqa: B023
        theirs = factor * peak_mb(lambda: materialised(objective, part))  # noqa: B023
        peer = "layers x queries x docs x dims at once"
        line = row("loss, forward and backward", work, peer, scaled, Target("times", 10), operations=operations,
                   agreement=agreement, ours_mb=mine, peer_mb=theirs, scaled=told)  # fmt: skip
        memory = row("loss, peak memory", work, peer, Pairs([Cost(mine, mine)], [Cost(theirs, theirs)]), Target("times", 50),
                     agreement=agreement, scaled=told)  # fmt: skip
        memory.ours_seconds = memory.peer_seconds = None
        memory.cpu_values = []
        memory.ours_mb, memory.peer_mb = mine, theirs
        outcome.rows += [line, memory]
    outcome.growth = _growth(setting, layers, queries, passages, width)
    return outcome


def objective_of(method: str, variant: str, layers: int, width: int) -> RetrievalObjective:
    """The method's objective: target width a sixth of the full one, six widths by halving, a size every other layer."""
    six = tuple(width // 2**power for power in range(6, 0, -1))
    sizes = tuple((max(1, layers * step // 6), width // 2 ** (6 - step)) for step in range(1, 7))
    return RetrievalObjective(
        variant=load_methods()[method].variants[variant], base=BASE, depth=layers, width=width, target_dims=(width // 6,),
        dim_lists={"six": six}, sizes=tuple(dict.fromkeys(sizes)),
    )  # fmt: skip


def sides(layers: int, queries: int, passages: int, width: int) -> Sides:
    """Embeddings of both sides by layer, small enough that no softmax is a step."""
    source = torch.Generator().manual_seed(1)
    found = [
        {
            layer: (torch.randn(rows, width, generator=source) / width**0.5).requires_grad_()
            for layer in range(1, layers + 1)
        }
        for rows in (queries, passages)
    ]
    return found[0], found[1]


def loss(objective: RetrievalObjective, given: Sides) -> float:
    """Our loss; its gradients are left in the embeddings."""
    _clear(given)
    value, _ = objective(*given, None, torch.Generator().manual_seed(1))
    value.backward()
    return float(value.detach())


def materialised(objective: RetrievalObjective, given: Sides) -> float:
    """The same loss from one product of layers x queries x docs x dims."""
    _clear(given)
    queries, passages = given
    layers = objective.query_layers()
    terms = objective.coverage()
    dims = sorted({term.dim for term in terms} | {objective.width})
    products = (
        torch.stack([queries[at] for at in layers])[:, :, None] * torch.stack([passages[at] for at in layers])[:, None]
    )
    sizes = [stop - start for start, stop in zip([0, *dims], dims, strict=False)]
    scores = torch.stack([block.sum(dim=-1) for block in products.split(sizes, dim=-1)], dim=-1).cumsum(dim=-1)
    of = {(layer, dim): scores[i, :, :, j] for i, layer in enumerate(layers) for j, dim in enumerate(dims)}
    full = of[objective.depth, objective.width].detach()
    count, candidates = full.shape
    targets = torch.arange(count) * (candidates // count)
    value = torch.zeros(())
    for term in terms:
        student = of[term.layer, term.dim]
        if term.term == "base":
            value = value + term.weight * F.cross_entropy(student, targets)
        else:
            assert term.term == "score-kl", term
            value = value + term.weight * F.kl_div(
                student.log_softmax(dim=-1), full.log_softmax(dim=-1), reduction="batchmean", log_target=True
            )
    value.backward()
    return float(value.detach())


def _apart(objective: RetrievalObjective, given: Sides) -> float:
    """The relative difference of both ways' losses, or of their gradients at the layer where that is largest."""
    mine = loss(objective, given)
    gradients = [one.grad for side in given for one in side.values()]
    differences = [abs(mine / materialised(objective, given) - 1)]
    for one, other in zip(gradients, (one.grad for side in given for one in side.values()), strict=True):
        if one is None or other is None:
            assert one is other, "one way trains a layer that the other does not"
        else:
            differences.append(float((one - other).abs().max() / other.abs().max()))
    return max(differences)


def _clear(given: Sides) -> None:
    for side in given:
        for embeddings in side.values():
            embeddings.grad = None


def _growth(setting: Setting, layers: int, queries: int, passages: int, width: int) -> list[Growth]:
    def seconds(method: str, variant: str, depth: int, asked: int) -> float:
        objective, given = objective_of(method, variant, depth, width), sides(depth, asked, passages, width)
        loss(objective, given)
        return round(median_seconds([timed(lambda: loss(objective, given)) for _ in range(setting.repeats)]), 4)

    by_layers = [
        (depth, *(seconds(*method, depth, queries) for method in METHODS))
        for depth in (layers // 3, 2 * layers // 3, layers)
    ]
    by_queries = [
        (asked, *(seconds(*method, layers, asked) for method in METHODS))
        for asked in (queries // 4, queries // 2, queries)
    ]
    every: list[tuple[str, str]] = [("+dims", name) for name in ("two", "four", "six")]
    lists = {"two": (32, 128), "four": (8, 32, 128, 512), "six": (8, 16, 32, 64, 128, 512)}
    by_dims: list[tuple[Any, ...]] = []
    for method, name in every:
        dims = tuple(sorted({max(1, dim * width // 768) for dim in lists[name]}))
        objective = RetrievalObjective(
            variant=load_methods()[method].variants[name], base=BASE, depth=layers, width=width, dim_lists={name: dims}
        )
        given = sides(layers, queries, passages, width)
        loss(objective, given)
        costs = [timed(lambda objective=objective, given=given: loss(objective, given)) for _ in range(setting.repeats)]
        by_dims.append((len(dims) + 1, round(median_seconds(costs), 4)))
    names = tuple(f"{method}, s" for method, _ in METHODS)
    return [
        Growth(f"loss by layers ({queries} queries, {passages} passages)", ("layers", *names), by_layers),
        Growth(f"loss by queries ({layers} layers, {passages} passages)", ("queries", *names), by_queries),
        Growth(f"loss by widths a layer ({layers} layers, {queries} queries)", ("dims", "+dims, s"), by_dims),
    ]
