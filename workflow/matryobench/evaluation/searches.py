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
from matryobench.data.doc_ids import DocumentIds, StoredIds, numbers_of
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
    doc_ids: DocumentIds
    sets: tuple[JudgedSet, ...]
    queries: list[Tensor]
    excluded: Tensor


def build_search(
    name: str,
    passages: pa.Table | StoredIds,
    corpus: Tokens,
    sets: Sequence[tuple[str, bool, pa.Table, Tokens, pa.Table]],
) -> Search:
    """A search from tables: per set its name, whether a query's own id is excluded, queries, their tokens, judgements.

    Of the passages only the ids are needed; their texts, where they are there, are counted.

    Raises InputError as `check_collection` does, and where tokens and table do not belong together.
    """
    doc_ids = passages if isinstance(passages, StoredIds) else passages.column("doc_id")
    _check_tokens(name, corpus, len(doc_ids))
    judged, texts, excluded = [], [], []
    for set_name, exclude_own_id, queries, tokens, qrels in sets:
        _check_tokens(set_name, tokens, queries.num_rows)
        kept, facts = check_collection(passages, queries, qrels, set_name)
        ids = kept.column("query_id")
        numbers = pc.index_in(ids, value_set=queries.column("query_id").combine_chunks()).to_pylist()
        texts += [tokens.text(int(tokens.rows[number, 0])) for number in numbers]
        names = ids.to_pylist()
        own = numbers_of(doc_ids, names) if exclude_own_id else {}
        excluded.append(np.array([own.get(query, -1) for query in names], dtype=np.int64))
        judged.append(JudgedSet(set_name, names, qrels, facts))
    texts_hash = digest([corpus.meta, *(tokens.meta for _, _, _, tokens, _ in sets)])
    return Search(name, texts_hash, corpus, doc_ids, tuple(judged), texts, torch.from_numpy(np.concatenate(excluded)))


def load_search(
    corpus: str, collections: Sequence[Collection], files: Path, query_max_length: int, passage_max_length: int
) -> Search:
    """A search from an experiment's tables and token files under `files`."""
    passages = StoredIds(files / layout.table(corpus))  # neither texts nor ids of millions need be held
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


def _check_tokens(name: str, tokens: Tokens, rows: int) -> None:
    if len(tokens.rows) != rows:
        raise InputError(f"{name}: {len(tokens.rows)} texts are tokenised and the table has {rows}; tokenise it again.")
