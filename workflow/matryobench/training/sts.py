"""STS training: batches of rows of texts, and their loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from matryobench.data.tokens import Tokens
from matryobench.objectives.objective import Objective, Trained
from matryobench.training.loop import epoch_order


class StsTraining:
    """Triplets or scored pairs under an objective; a batch is a tensor of row numbers."""

    def __init__(self, tokens: Tokens, objective: Objective, batch_size: int, data_seed: int) -> None:
        self.tokens = tokens
        self.objective = objective
        self.batch_size = batch_size
        self.data_seed = data_seed
        self.meta = tokens.meta
        self.layers = objective.layers()
        self._lengths = tokens.offsets.diff()[tokens.rows.long()].sum(dim=1)  # (rows,)

    def batches(self, epoch: int) -> list[Tensor]:
        """The epoch's micro-batches, in order; a last batch of a single row is left out, having no negatives."""
        order = torch.from_numpy(epoch_order(len(self.tokens.rows), self.data_seed, epoch))
        cut = list(torch.split(order, self.batch_size))
        return cut if len(cut[-1]) > 1 else cut[:-1]

    def loss_of(self, module: nn.Module, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and named terms of one micro-batch."""
        columns = self.tokens.rows.shape[1]
        # Column by column: all first columns, then all second ones, ...
        texts = [self.tokens.text(int(number)) for number in self.tokens.rows[rows].T.flatten()]
        pooled = module(texts, self.layers).unflatten(1, (columns, len(rows)))  # (layers, columns, B, H)
        scores = self.tokens.scores[rows].to(pooled.device) if self.tokens.scores is not None else None
        return self.objective(dict(zip(self.layers, pooled, strict=True)), scores, generator)

    def tokens_in(self, rows: Tensor) -> int:
        """Tokens of a micro-batch, padding not counted."""
        return int(self._lengths[rows].sum())

    def coverage(self) -> list[Trained]:
        """Every (layer, dim) that gets gradient."""
        return self.objective.coverage()
