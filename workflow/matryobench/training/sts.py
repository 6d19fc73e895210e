"""STS training: batches of rows of texts, and their loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from matryobench.data.tokens import Tokens
from matryobench.errors import InputError
from matryobench.objectives.objective import Objective, Trained
from matryobench.training.gather import gather_embeddings, rows_to_embed
from matryobench.training.loop import epoch_order


class StsTraining:
    """Triplets, instructed rows or scored pairs under an objective; a batch is a tensor of row numbers.

    With `one_subset` all rows of a batch are of one subset, so that in-batch negatives are of the row's own kind, as in the
    released training on MEDI. Raises InputError where the tokens know no subsets.

    With several processes each embeds its share of the rows and all embeddings are gathered, so that loss and gradients
    are those of one process with the whole batch, whatever the objective compares.
    """

    def __init__(
        self, tokens: Tokens, objective: Objective, batch_size: int, data_seed: int, one_subset: bool = False
    ) -> None:
        if one_subset and tokens.subsets is None:
            raise InputError(
                f"{tokens.meta.get('dataset')}: its rows name no subset, so batches cannot be of one; add a column 'subset' "
                "or mix the rows."
            )
        self.tokens = tokens
        self.objective = objective
        self.batch_size = batch_size
        self.data_seed = data_seed
        self.one_subset = one_subset
        self.meta = tokens.meta
        self.layers = objective.layers()
        self._lengths = tokens.offsets.diff()[tokens.rows.long()].sum(dim=1)  # (rows,)

    def batches(self, epoch: int) -> list[Tensor]:
        """The epoch's micro-batches, in order; a last batch of a single row is left out, having no negatives."""
        order = torch.from_numpy(epoch_order(len(self.tokens.rows), self.data_seed, epoch))
        if not self.one_subset:
            return self._cut(order)
        assert self.tokens.subsets is not None
        subsets = self.tokens.subsets[order]
        cut = [batch for subset in torch.unique(subsets) for batch in self._cut(order[subsets == subset])]
        # Else all batches of a subset would follow each other. The second number keeps the draw apart from the rows'.
        turns = np.random.default_rng([self.data_seed, epoch, 1]).permutation(len(cut))
        return [cut[turn] for turn in turns]

    def _cut(self, order: Tensor) -> list[Tensor]:
        cut = list(torch.split(order, self.batch_size))
        return cut if len(cut[-1]) > 1 else cut[:-1]

    def loss_of(self, module: nn.Module, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and named terms of one micro-batch."""
        columns = self.tokens.rows.shape[1]
        own, count = rows_to_embed(rows)
        # Column by column: all first columns, then all second ones, ...
        numbers = self.tokens.rows[own].T.flatten()
        texts = [self.tokens.text(int(number)) for number in numbers]
        skips = None if self.tokens.skips is None else self.tokens.skips[numbers.long()]
        embedded = module(texts, self.layers, skips).unflatten(1, (columns, len(own)))
        pooled = gather_embeddings(embedded[:, :, :count])  # (layers, columns, B, H)
        scores = self.tokens.scores[rows].to(pooled.device) if self.tokens.scores is not None else None
        return self.objective(dict(zip(self.layers, pooled, strict=True)), scores, generator)

    def tokens_in(self, rows: Tensor) -> int:
        """Tokens of a micro-batch, padding not counted."""
        return int(self._lengths[rows].sum())

    def coverage(self) -> list[Trained]:
        """Every (layer, dim) that gets gradient."""
        return self.objective.coverage()
