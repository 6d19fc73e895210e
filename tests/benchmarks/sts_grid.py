"""The whole STS grid against one plain encoding of the same sentences, and against the usual loop over cells."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from harness import Agreement, Growth, Outcome, Pairs, Setting, Target, alternate, median_seconds, peak_mb, row, timed
from machine import encoder_operations
from materials import Texts, load_grid, load_peer

from matryobench.evaluation.standalone import Model, evaluate_pairs

LOOP_DIMS = (8, 384)  # a cell of the loop costs what its layer costs; two dims show that


def run(setting: Setting) -> Outcome:
    """Rows against the plain encoding and the loop; growth with the grid's layers and dims."""
    texts = Texts(setting)
    sets = texts.sts(setting.size(10**9, 10))
    model, peer = load_grid(), load_peer()
    sentences = [text for columns in sets.values() for key in ("sentence1", "sentence2") for text in columns[key]]
    distinct = list(dict.fromkeys(sentences))
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = evaluate_pairs(model, sets)

    def plain() -> None:
        found["peer"] = peer.encode(sentences, show_progress_bar=False)

    def plain_distinct() -> None:
        peer.encode(distinct, show_progress_bar=False)

    pairs = alternate(ours, plain, setting.repeats, warm_up=False)
    size = f"{len(sentences)} sentences ({len(distinct)} distinct)"
    work = f"{len(sets)} sets, {size} of {texts.of('STS')}, {len(model.cells)} cells"
    memory = {"ours_mb": peak_mb(ours), "peer_mb": peak_mb(plain)}
    lengths = [len(ids) for ids in model.tokenizer(distinct, truncation=True, max_length=model.max_length)["input_ids"]]
    first = row(
        "whole STS grid", work, "one SentenceTransformer.encode of the sentences, full depth", pairs, Target("share", 0.75),
        operations=encoder_operations(model.encoder.backbone.config, lengths, model.encoder.depth),
        agreement=_agreement(model, found["ours"], found["peer"], sets), **memory,
    )  # fmt: skip
    only = [timed(plain_distinct) for _ in pairs.ours]
    second = row(
        "whole STS grid", work, "one SentenceTransformer.encode of the distinct sentences alone", Pairs(pairs.ours, only),
        Target("share", 1.1),
    )  # fmt: skip
    second.target = None  # for information: the peer is spared what nobody spares it
    return Outcome([first, second, _against_loop(setting, model, peer, sets)], [_growth(setting, model, sets)])


def _agreement(model: Model, results: list[Any], embeddings: Any, sets: Any) -> Agreement:
    """Our full cell against the correlation of the peer's cosines, set by set."""
    from scipy.stats import spearmanr

    largest, start = 0.0, 0
    full = model.cells.index((model.encoder.depth, model.encoder.width))
    for result, columns in zip(results, sets.values(), strict=True):
        count = len(columns["score"])
        left, right = embeddings[start : start + count], embeddings[start + count : start + 2 * count]
        start += 2 * count
        cosines = (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
        largest = max(
            largest, abs(float(spearmanr(columns["score"], cosines).statistic) - float(result.spearman[full]))
        )
    return Agreement(f"Spearman of the full cell within {largest:.1e}", largest < 1e-4)


def _against_loop(setting: Setting, model: Model, peer: Any, sets: Any) -> Any:
    """The loop on one set: every layer at two widths is run, and their time taken for all widths."""
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    name = next(name for name in ("stsb", *sets) if name in sets)
    columns = sets[name]
    cut = {layer: _truncated(peer, layer) for layer in range(1, model.encoder.depth + 1)}
    dims = sorted({dim for _, dim in model.cells})
    scores: dict[tuple[int, int], float] = {}
    results: list[Any] = []

    def loop() -> None:
        for layer, one in cut.items():
            for dim in LOOP_DIMS:
                evaluator = EmbeddingSimilarityEvaluator(
                    columns["sentence1"], columns["sentence2"], columns["score"], truncate_dim=dim,
                    similarity_fn_names=["cosine"], write_csv=False,
                )  # fmt: skip
                scores[layer, dim] = evaluator(one)["spearman_cosine"]

    def ours() -> None:
        results[:] = evaluate_pairs(model, {name: columns})

    pairs = alternate(ours, loop, setting.repeats, warm_up=False)
    factor = len(dims) / len(LOOP_DIMS)
    scaled = Pairs(pairs.ours, [type(cost)(factor * cost.seconds, factor * cost.cpu_seconds) for cost in pairs.peer])
    mine = dict(zip(results[0].cells, results[0].spearman, strict=True))
    largest = max(abs(float(mine[cell]) - value) for cell, value in scores.items())
    return row(
        "whole STS grid", f"{name}, {len(columns['score'])} pairs, {len(model.cells)} cells",
        "the usual loop: the model cut to a layer, EmbeddingSimilarityEvaluator per dim", scaled, Target("times", 40),
        agreement=Agreement(f"Spearman of {len(scores)} cells within {largest:.1e}", largest < 1e-4),
        scaled=f"measured at {len(LOOP_DIMS)} of {len(dims)} dims of every layer",
    )  # fmt: skip


def _truncated(peer: Any, layer: int) -> Any:
    """The library's model with its first layers only."""
    one = copy.deepcopy(peer)
    backbone = one[0].model if hasattr(one[0], "model") else one[0].auto_model
    backbone.encoder.layer = backbone.encoder.layer[:layer]
    return one


def _growth(setting: Setting, model: Model, sets: Any) -> Growth:
    """Seconds of a part of the sets by grid."""
    few = {
        name: {key: values[: setting.size(300, 5)] for key, values in columns.items()} for name, columns in sets.items()
    }
    dims, depth = sorted({dim for _, dim in model.cells}), model.encoder.depth
    rows = []
    for layers, widths in (
        ([depth], dims[-1:]),
        ([depth], dims),
        (list(range(1, depth + 1)), dims[-1:]),
        (list(range(1, depth + 1)), dims),
    ):
        one = Model(
            model.encoder, model.tokenizer, model.max_length, [(layer, dim) for layer in layers for dim in widths]
        )
        costs = [timed(lambda one=one: evaluate_pairs(one, few)) for _ in range(setting.repeats)]
        rows.append((len(layers), len(widths), round(median_seconds(costs), 3)))
    pairs = sum(len(columns["score"]) for columns in few.values())
    return Growth(f"STS grid: {pairs} pairs by the grid", ("layers", "dims", "seconds"), rows)
