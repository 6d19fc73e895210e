"""Encoding texts of mixed lengths against SentenceTransformer.encode at its default batch size and at its best one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from harness import Agreement, Growth, Outcome, Setting, Target, alternate, median_seconds, peak_mb, row, timed
from machine import encoder_operations
from materials import Texts, load_grid, load_peer

from matryobench.data.tokens import encode_texts, pieces
from matryobench.evaluation.standalone import Model
from matryobench.evaluation.sts import encode

DEFAULT_BATCH = 32
BATCHES = (4, 8, 16, 32, 64, 128)
BUDGETS = (256, 512, 1024, 2048, 4096, 8192)


def run(setting: Setting) -> Outcome:
    """Two rows for each kind of text; growth with the number of texts, and with the batch of both."""
    texts, model, peer = Texts(setting), load_grid(), load_peer()
    columns = texts.sts(setting.size(300, 10)).values()
    kinds = {
        texts.of("SciFact's documents"): texts.documents(setting.size(400, 16)),
        texts.of("STS sentences"): _sentences(columns),
    }  # fmt: skip
    if not texts.real:
        kinds = {"documents and sentences of the demo world": [text for some in kinds.values() for text in some]}
    outcome = Outcome()
    for kind, some in kinds.items():
        sample = some[:: max(1, len(some) // setting.size(200, 16))]
        by_batch = {
            size: timed(
                lambda size=size, sample=sample: peer.encode(sample, batch_size=size, show_progress_bar=False)
            ).seconds
            for size in BATCHES
        }
        best = min(by_batch, key=lambda size: by_batch[size])
        for size, bound in ((DEFAULT_BATCH, 1.2), (best, 1.05)):
            outcome.rows.append(_row(setting, model, peer, kind, some, size, bound, size == best))
        columns_of_table = ("batch size", "SentenceTransformer, texts/s")
        rates = [(size, round(len(sample) / seconds, 1)) for size, seconds in by_batch.items()]
        outcome.growth.append(Growth(f"encoding {kind} by batch ({len(sample)} texts)", columns_of_table, rates))
        outcome.growth += _growth(setting, model, kind, some, sample)
    return outcome


def _sentences(sets: Iterable[dict[str, list[Any]]]) -> list[str]:
    return list(dict.fromkeys(text for one in sets for key in ("sentence1", "sentence2") for text in one[key]))


def embed(model: Model, texts: list[str], budget: int = 1024) -> Any:
    """(n, H) of the last layer, tokenising included, scaled to length 1 as the model's folder says."""
    ids, offsets = encode_texts(pieces(texts), model.tokenizer, model.max_length)
    tokens = [ids[start:stop] for start, stop in pairwise(offsets.tolist())]
    found = encode(model.encoder.eval(), tokens, [model.encoder.depth], budget, progress=False)[0]
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _row(
    setting: Setting, model: Model, peer: Any, kind: str, texts: list[str], size: int, bound: float, best: bool
) -> Any:
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = embed(model, texts)

    def theirs() -> None:
        found["peer"] = peer.encode(texts, batch_size=size, show_progress_bar=False)

    pairs = alternate(ours, theirs, setting.repeats, warm_up=False)
    apart = float(np.abs(found["ours"] - found["peer"]).max())
    lengths = [len(ids) for ids in model.tokenizer(texts, truncation=True, max_length=model.max_length)["input_ids"]]
    tenths = np.quantile(lengths, (0.1, 0.5, 0.9)).astype(int)
    return row(
        "encode", f"{len(texts)} texts: {kind}, {tenths[0]}-{tenths[1]}-{tenths[2]} tokens (tenth, half, nine tenths)",
        f"SentenceTransformer.encode, batch {size} ({'its best' if best else 'its default'})", pairs, Target("times", bound),
        operations=encoder_operations(model.encoder.backbone.config, lengths, model.encoder.depth),
        agreement=Agreement(f"coordinates within {apart:.1e}", apart < 1e-5), ours_mb=peak_mb(ours), peer_mb=peak_mb(theirs),
    )  # fmt: skip


def _growth(setting: Setting, model: Model, kind: str, texts: list[str], sample: list[str]) -> list[Growth]:
    by_budget = [
        (budget, round(len(sample) / timed(lambda budget=budget: embed(model, sample, budget)).seconds, 1))
        for budget in BUDGETS
    ]
    by_count = []
    for part in (8, 4, 2, 1):
        some = texts[::part]
        costs = [timed(lambda some=some: embed(model, some)) for _ in range(setting.repeats)]
        by_count.append((len(some), round(len(some) / median_seconds(costs), 1)))
    return [
        Growth(
            f"encoding {kind} by padded tokens of a pass ({len(sample)} texts)",
            ("tokens of a pass", "ours, texts/s"),
            by_budget,
        ),
        Growth(f"encoding {kind} by number of texts", ("texts", "ours, texts/s"), by_count),
    ]
