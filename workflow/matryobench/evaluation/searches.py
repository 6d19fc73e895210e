"""A corpus with the queries of all test sets that search it: what one pass over the corpus answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from matryobench import layout
from matryobench.data.collection_tables import check_collection
from matryobench.data.records import read_table
from matryobench.data.tokens import Tokens, read_tokens
from matryobench.errors import InputError
from matryobench.plan import digest

if TYPE_CHECKING:
    from matryobench.data.collections import Collection


@dataclass(frozen=True)
class JudgedSet:
    """One test set of a search: its judged queries, in order, and what was judged of them."""

    name: str
    query_ids: list[str]
    qrels: pa.Table
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """One corpus and all queries that search it, set after set.

    identity: hash of all texts; queries: token sequences; excluded: (nq,) int64, the document that must not be ranked for
    a query, -1 for none.
    """

    name: str
    identity: str
    corpus: Tokens
    doc_ids: pa.ChunkedArray
    sets: tuple[JudgedSet, ...]
    queries: list[Tensor]
    excluded: Tensor


def build_search(
    name: str,
    passages: pa.Table,
    corpus: Tokens,
    sets: Sequence[tuple[str, bool, pa.Table, Tokens, pa.Table]],
) -> Search:
    """A search from tables: per set its name, whether a query's own id is excluded, queries, their tokens, judgements.

    Raises InputError as `check_collection` does, and where tokens and table do not belong together.
    """
    doc_ids = passages.column("doc_id")
    _check_tokens(name, corpus, passages)
    judged, texts, excluded = [], [], []
    for set_name, exclude_own_id, queries, tokens, qrels in sets:
        _check_tokens(set_name, tokens, queries)
        kept, facts = check_collection(passages, queries, qrels, set_name)
        ids = kept.column("query_id")
        numbers = pc.index_in(ids, value_set=queries.column("query_id").combine_chunks()).to_pylist()
        texts += [tokens.text(int(tokens.rows[number, 0])) for number in numbers]
        own = pc.index_in(ids, value_set=doc_ids.combine_chunks()).fill_null(-1).to_numpy()
        excluded.append(own.astype(np.int64) if exclude_own_id else np.full(len(ids), -1))
        judged.append(JudgedSet(set_name, ids.to_pylist(), qrels, facts))
    texts_hash = digest([corpus.meta, *(tokens.meta for _, _, _, tokens, _ in sets)])
    return Search(name, texts_hash, corpus, doc_ids, tuple(judged), texts, torch.from_numpy(np.concatenate(excluded)))


def load_search(
    corpus: str, collections: Sequence[Collection], files: Path, query_max_length: int, passage_max_length: int
) -> Search:
    """A search from an experiment's tables and token files under `files`."""
    passages, _ = read_table(files / layout.table(corpus), ["doc_id"])  # the texts of millions need not be held
    sets = [
        (
            collection.name,
            collection.exclude_own_id,
            read_table(files / layout.table(collection.queries))[0],
            read_tokens(files / layout.tokens(collection.queries, query_max_length)),
            read_table(files / layout.table(collection.qrels))[0],
        )
        for collection in collections
    ]
    return build_search(corpus, passages, read_tokens(files / layout.tokens(corpus, passage_max_length)), sets)


def _check_tokens(name: str, tokens: Tokens, table: pa.Table) -> None:
    if len(tokens.rows) != table.num_rows:
        raise InputError(
            f"{name}: {len(tokens.rows)} texts are tokenised and the table has {table.num_rows}; tokenise it again."
        )
