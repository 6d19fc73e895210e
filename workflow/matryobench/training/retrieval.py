"""Retrieval training: batches of queries, each with a group of passages drawn for the epoch, and their loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from matryobench.data.group_tokens import GroupTokens
from matryobench.objectives.objective import Trained
from matryobench.objectives.retrieval import RetrievalObjective
from matryobench.training.gather import gather_embeddings, rows_to_embed
from matryobench.training.loop import epoch_order

Batch = tuple[int, Tensor]  # epoch, row numbers


class RetrievalTraining:
    """Groups of one positive and some negatives per query under an objective.

    With several processes each embeds its share of the queries and their passages, and all negatives are gathered, so
    that loss and gradients are those of one process with the whole batch.
    """

    def __init__(
        self, tokens: GroupTokens, objective: RetrievalObjective, group_size: int, batch_size: int, data_seed: int
    ) -> None:
        self.tokens = tokens
        self.objective = objective
        self.group_size = group_size
        self.batch_size = batch_size
        self.data_seed = data_seed
        self.meta = tokens.meta
        self._query_lengths = tokens.query_offsets.diff()
        self._passage_lengths = tokens.passage_offsets.diff()
        self.layers = sorted({*objective.query_layers(), *objective.passage_layers()})

    def batches(self, epoch: int) -> list[Batch]:
        """The epoch's micro-batches, in order; a last one without any negative is left out."""
        order = torch.from_numpy(epoch_order(len(self.tokens), self.data_seed, epoch))
        cut = [(epoch, rows) for rows in torch.split(order, self.batch_size)]
        return cut if len(cut[-1][1]) * self.group_size > 1 else cut[:-1]

    def passages_of(self, batch: Batch) -> Tensor:
        """(B, group_size) passage numbers, the positive first: drawn anew in every epoch."""
        epoch, rows = batch
        return self.tokens.passages_of(rows.tolist(), self.group_size, epoch, self.data_seed)

    def texts(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Token sequences of a batch's queries (B) and of their passages (B x group_size)."""
        queries = [self.tokens.query(int(row)) for row in batch[1]]
        return queries, [self.tokens.passage(int(number)) for number in self.passages_of(batch).flatten()]

    def loss_of(self, module: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and named terms of one micro-batch."""
        epoch, rows = batch
        own, count = rows_to_embed(rows)
        queries, passages = self.texts((epoch, own))
        embedded = module([*queries, *passages], self.layers)  # (layers, n + n group_size, H)
        asked, found = embedded.tensor_split([len(queries)], dim=1)
        query_side = gather_embeddings(asked[:, :count])  # (layers, B, H)
        passage_side = gather_embeddings(found[:, : count * self.group_size])  # (layers, B group_size, H)
        known = None
        if self.objective.base.false_negatives == "mask":
            known = self.tokens.known_positives(rows.tolist(), self.passages_of(batch)).to(embedded.device)
        return self.objective(
            dict(zip(self.layers, query_side, strict=True)),
            dict(zip(self.layers, passage_side, strict=True)),
            known,
            generator,
        )

    def tokens_in(self, batch: Batch) -> int:
        """Tokens of a micro-batch, padding not counted."""
        queries = self._query_lengths[self.tokens.query_rows[batch[1]].long()]
        return int(queries.sum() + self._passage_lengths[self.passages_of(batch)].sum())

    def coverage(self) -> list[Trained]:
        """Every (layer, dim) that gets gradient."""
        return self.objective.coverage()
