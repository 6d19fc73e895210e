"""A separate model per layer: encoders cut to the layer against a whole one of which the layer is read, as released."""

from __future__ import annotations

from typing import Any

import torch
from harness import Agreement, Growth, Outcome, Pairs, Setting, Target, alternate, median_seconds, row
from machine import encoder_operations
from materials import Texts, load_grid, model_folder

from matryobench.models.encoder import Encoder
from matryobench.models.folders import load_encoder


def run(setting: Setting) -> Outcome:
    """The time of all layers together, forward alone and with the gradients; growth with the layer."""
    texts, model = Texts(setting), load_grid()
    sentences = texts.triplets(setting.size(128, 8))["anchor"]
    encoded = model.tokenizer(sentences, truncation=True, max_length=model.max_length)["input_ids"]
    tokens = [torch.tensor(one, dtype=torch.int32) for one in encoded]
    whole = load_encoder(model_folder(), "mean").eval()
    depth = whole.depth
    cut = {layer: load_encoder(model_folder(), "mean", layer).eval() for layer in range(1, depth + 1)}
    lengths = [len(one) for one in tokens]
    outcome = Outcome()
    for name, gradients, bound in (("forward", False, 1.6), ("forward and backward", True, None)):
        by_layer = {
            layer: alternate(
                lambda layer=layer, gradients=gradients: _pass(cut[layer], tokens, layer, gradients),
                lambda layer=layer, gradients=gradients: _pass(whole, tokens, layer, gradients), setting.repeats,
            )
            for layer in cut
        }  # fmt: skip
        apart = max(
            float((_pass(cut[at], tokens, at, False) - _pass(whole, tokens, at, False)).abs().max()) for at in cut
        )
        summed = Pairs(*(_summed([getattr(pairs, way) for pairs in by_layer.values()]) for way in ("ours", "peer")))
        passes = 3 if gradients else 1
        line = row(
            f"bert-s, {name}", f"{len(tokens)} texts, {texts.of('NLI')}, layers 1-{depth} one after the other",
            "the whole encoder, of which the layer is read", summed, Target("times", bound or 1.0),
            operations=passes * sum(encoder_operations(whole.backbone.config, lengths, layer) for layer in cut),
            agreement=Agreement(f"embeddings within {apart:.0e}", apart < 1e-5),
        )  # fmt: skip
        if bound is None:
            line.target = None
        outcome.rows.append(line)
        rows = [
            (layer, round(median_seconds(pairs.ours), 4), round(median_seconds(pairs.peer), 4),
             round(median_seconds(pairs.peer) / median_seconds(pairs.ours), 2))
            for layer, pairs in by_layer.items()
        ]  # fmt: skip
        outcome.growth.append(
            Growth(f"bert-s, {name}, by layer", ("layer", "cut, s", "whole, s", "times faster"), rows)
        )
    outcome.notes.append(
        "Backward, both ways go back through the layers below the one that is read, so only the forward half is saved: "
        "for 6 layers (6 + 2 x 3.5) / (3 x 3.5) = 1.24 at most, forward alone 6 / 3.5 = 1.71."
    )
    return outcome


def _pass(encoder: Encoder, tokens: list[torch.Tensor], layer: int, gradients: bool) -> Any:
    """Embeddings (n, H) of the layer, with gradients from their sum where wanted."""
    with torch.set_grad_enabled(gradients):
        found = encoder.embed(tokens, [layer], 1024)[0]
        if gradients:
            encoder.zero_grad(set_to_none=True)
            found.sum().backward()
    return found.detach()


def _summed(costs: list[list[Any]]) -> list[Any]:
    """Repeats of every layer -> per repeat the cost of all layers."""
    kind = type(costs[0][0])
    return [
        kind(sum(one.seconds for one in repeat), sum(one.cpu_seconds for one in repeat))
        for repeat in zip(*costs, strict=True)
    ]
