"""Micro-batches of a pre-training and their loss, in one process or several.

What is drawn for a text (where it is cut, which words are masked, by what) depends on the masking seed, the step, the
micro-batch and the text's row in it, so several processes draw what one would. Each takes its share of the rows; means
are over the tokens that all of them predict, so loss and gradients are those of one process with the whole micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from matryobench.errors import InputError
from matryobench.pretraining.masking import UNPREDICTED, Masker
from matryobench.pretraining.smae import Pair
from matryobench.pretraining.text import Source, Span, Spans
from matryobench.training.gather import share, world_size


class MaskedTexts:
    """Texts from a source, masked and batched; the next micro-batch is read and tokenised while one is trained on."""

    def __init__(
        self, source: Source, masker: Masker, pairs: Sequence[Pair], batch_size: int, accumulation: int
    ) -> None:
        self.source, self.masker, self.pairs = source, masker, list(pairs)
        self.batch_size = min(batch_size, len(source))
        count = len(source) // self.batch_size
        # Full batches only, and as many as make full steps: so every step has the same number of micro-batches.
        self.count = count // accumulation * accumulation or count
        self.per_step = min(accumulation, self.count)
        self._pool = ThreadPoolExecutor(1)
        self._ahead: dict[tuple[int, int], Future[list[Sequence[int]]]] = {}

    def batches(self, epoch: int) -> Spans:
        """The epoch's micro-batches, in order."""
        return Spans(epoch, self.count, self.batch_size)

    def close(self) -> None:
        """Stops reading ahead."""
        self._pool.shutdown(cancel_futures=True)

    def masked(self, span: Span, seed: int) -> list[Tensor]:
        """This process's rows of a micro-batch: (rows, tokens) ids, attention mask, labels and, with a decoder, its ids
        and labels."""
        if span.size < world_size():
            raise InputError(
                f"pre-training: a micro-batch of {span.size} texts cannot be shared by {world_size()} processes; use fewer."
            )
        rows = share(torch.arange(span.size)).tolist()
        texts = self._read(span, rows)
        drawn = []
        for row, ids in zip(rows, texts, strict=True):
            generator = np.random.default_rng([seed, row])
            text = self.source.finish(ids, generator)
            inputs, *labels = self.masker(text, generator)
            drawn.append([inputs, np.ones_like(text), *labels])
        padding = self.masker.vocabulary.padding
        fills = [padding, 0, UNPREDICTED, padding, UNPREDICTED]
        return [
            nn.utils.rnn.pad_sequence([torch.from_numpy(part) for part in parts], batch_first=True, padding_value=fill)
            for parts, fill in zip(zip(*drawn, strict=True), fills, strict=False)
        ]

    def loss_of(self, module: nn.Module, span: Span, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a micro-batch and its terms: each pair's MLM and MAE loss, and the tokens in it."""
        device = next(module.parameters()).device
        batch = [part.to(device) for part in self.masked(span, generator.initial_seed())]
        sides = [(labels != UNPREDICTED).sum() for labels in batch[2::2]]
        numbers = torch.stack([*sides, batch[1].sum()])
        processes = world_size()
        if processes > 1:
            dist.all_reduce(numbers)
        loss, each = module(*batch, counts=numbers[:-1], processes=processes)
        if processes > 1:
            known = torch.cat([loss.detach()[None], each.flatten()]) / processes
            dist.all_reduce(known)
            loss = loss + (known[0] - loss).detach()  # the whole batch's value, this process's gradient
            each = known[1:].view_as(each)
        terms = {
            f"{side}/l{layer}/d{dim}": value
            for side, values in zip(("mlm", "mae"), each, strict=False)
            for (layer, dim), value in zip(self.pairs, values, strict=True)
        }
        return loss, {**terms, "tokens": numbers[-1]}

    def _read(self, span: Span, rows: list[int]) -> list[Sequence[int]]:
        asked = self._ahead.pop((span.epoch, span.first), None) or self._ask(span, rows)
        after = Span(span.epoch, span.first + span.size, span.size)
        if after.first < self.count * self.batch_size:
            self._ahead = {(after.epoch, after.first): self._ask(after, rows)}
        return asked.result()

    def _ask(self, span: Span, rows: list[int]) -> Future[list[Sequence[int]]]:
        return self._pool.submit(self.source.tokens, span.epoch, [span.first + row for row in rows])
