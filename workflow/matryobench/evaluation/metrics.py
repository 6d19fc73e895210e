"""Retrieval metrics per query, by pytrec_eval, and TREC run files.

trec_eval orders a query's documents by score descending, then by document id descending. A passages table is sorted
by id descending, and rankings put the lower number first at equal scores, so their order is trec_eval's; what is
handed to pytrec_eval is that order. Only relevant documents and their ranks matter to these metrics: a query's list
is handed over down to its last relevant document, with stand-ins for all others.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from matryobench.data.doc_ids import DocumentIds, are_descending, names_of, numbers_of
from matryobench.errors import InputError
from matryobench.files import atomic_path

if TYPE_CHECKING:
    from matryobench.evaluation.rankings import Rankings, SearchCell

METRICS = ("ndcg@10", "mrr@10", "recall@100")
DEPTH = 100
"""The deepest rank that a metric looks at."""

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
"""query id -> document id -> grade; above 0 is relevant."""

_STAND_INS = [f"\x01{rank}" for rank in range(DEPTH)]
_DESCENDING = [float(DEPTH - rank) for rank in range(DEPTH)]


def qrels_of(table: pa.Table) -> dict[str, dict[str, int]]:
    """A qrels table (query_id, doc_id, grade) as pytrec_eval takes it."""
    qrels: dict[str, dict[str, int]] = {}
    columns = (table.column(name).to_pylist() for name in ("query_id", "doc_id", "grade"))
    for query, document, grade in zip(*columns, strict=True):
        qrels.setdefault(query, {})[document] = grade
    return qrels


def per_query(
    documents: NDArray[np.int64], query_ids: Sequence[str], doc_ids: DocumentIds, qrels: Qrels, place: str
) -> dict[str, NDArray[np.float64]]:
    """Ranked document numbers (cells, nq, k), best first, -1 where there is none -> per metric (cells, nq).

    The numbers are places in `doc_ids`. ndcg@10 is trec_eval's ndcg_cut.10 (gain = grade, log2 discount), recall@100
    its recall.100, mrr@10 its recip_rank of the first ten. A query that found nothing relevant scores 0.
    `place` names the set in errors. Raises InputError where queries and judgements do not belong together, the
    document ids are not in descending order, or k is too small for the metrics.
    """
    import pytrec_eval

    _check(documents.shape, query_ids, doc_ids, qrels, place)
    evaluator = pytrec_eval.RelevanceEvaluator(
        {query: dict(qrels[query]) for query in query_ids}, {"ndcg_cut.10", "recip_rank", "recall.100"}
    )
    keys, names = _relevant(query_ids, doc_ids, qrels)
    values = {metric: np.zeros(documents.shape[:2]) for metric in METRICS}
    firsts = np.arange(len(query_ids))[:, None] * len(doc_ids)
    numbers = {query: number for number, query in enumerate(query_ids)}
    for cell, ranked in enumerate(documents[:, :, :DEPTH]):
        wanted = np.where(ranked < 0, -1, ranked + firsts)
        at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        rows, ranks = np.nonzero(keys[at] == wanted) if len(keys) else (np.empty(0, int), np.empty(0, int))
        found: dict[int, list[str]] = {}
        for row, rank, name in zip(rows.tolist(), ranks.tolist(), at[rows, ranks].tolist(), strict=True):
            listed = found.setdefault(row, [])
            listed += _STAND_INS[len(listed) : rank]
            listed.append(names[name])
        run = {query_ids[row]: dict(zip(listed, _DESCENDING, strict=False)) for row, listed in found.items()}
        for query, scores in evaluator.evaluate(run).items():
            row = numbers[query]
            values["ndcg@10"][cell, row] = scores["ndcg_cut_10"]
            values["mrr@10"][cell, row] = scores["recip_rank"] if scores["recip_rank"] >= 1 / 10 else 0
            values["recall@100"][cell, row] = scores["recall_100"]
    return values


def write_trec_run(
    rankings: Rankings, cell: SearchCell, query_ids: Sequence[str], doc_ids: DocumentIds, path: Path, tag: str
) -> None:
    """Writes one cell's rankings as a TREC run, gzipped where `path` ends in .gz: query Q0 document rank score tag.

    Ranks count from 1; scores are the shortest decimals that read back as the same float32, so that ties stay ties.
    Raises InputError for a cell that was not searched, and for ids or a tag that a run file cannot hold.
    """
    if cell not in rankings.cells:
        raise InputError(f"{path}: cell {cell} was not searched; name one of the evaluated cells.")
    number = rankings.cells.index(cell)
    documents, scores = rankings.documents[number].numpy(), rankings.scores[number].numpy()
    held = documents >= 0
    names = names_of(doc_ids, documents[held])
    for text in (*query_ids, *names, tag):
        if text.split() != [text]:
            raise InputError(
                f"{path}: {text!r} is empty or has a space in it, which a TREC run cannot hold; rename it."
            )
    rows, ranks = np.nonzero(held)
    lines = (
        f"{query_ids[row]} Q0 {name} {rank + 1} {score} {tag}\n"
        for row, name, rank, score in zip(rows.tolist(), names, ranks.tolist(), map(str, scores[held]), strict=True)
    )
    with atomic_path(path) as partial, partial.open("wb") as raw:
        if path.suffix == ".gz":  # no time and no name inside: the same run gives the same bytes
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                packed.writelines(line.encode() for line in lines)
        else:
            raw.writelines(line.encode() for line in lines)


def _check(shape: tuple[int, ...], query_ids: Sequence[str], ids: DocumentIds, qrels: Qrels, place: str) -> None:
    if shape[1] != len(query_ids):
        raise InputError(f"{place}: {shape[1]} queries were ranked and {len(query_ids)} are named; search again.")
    if shape[2] < min(DEPTH, len(ids)):
        raise InputError(f"{place}: {shape[2]} documents are ranked per query; recall@{DEPTH} needs {DEPTH}.")
    unjudged = [query for query in query_ids if not qrels.get(query)]
    if unjudged:
        raise InputError(f"{place}: query {unjudged[0]!r} has no judgements; leave such queries out.")
    unknown = sorted(set(qrels) - set(query_ids))
    if unknown:
        raise InputError(f"{place}: the judgements name query {unknown[0]!r}, which was not ranked; search again.")
    if not are_descending(ids):
        raise InputError(f"{place}: document ids are not in descending order, as ties need them; prepare it again.")


def _relevant(query_ids: Sequence[str], ids: DocumentIds, qrels: Qrels) -> tuple[NDArray[np.int64], list[str]]:
    """The relevant documents that the corpus holds: query number x documents + document number, ascending; their ids.

    Relevant documents that it lacks cannot be ranked; they still count in ideal gain and recall, by the evaluator.
    """
    pairs = [
        (number, document)
        for number, query in enumerate(query_ids)
        for document, grade in qrels[query].items()
        if grade > 0
    ]
    names = sorted({document for _, document in pairs})
    number_of = numbers_of(ids, names)
    keyed = sorted((row * len(ids) + number_of[name], name) for row, name in pairs if name in number_of)
    return np.array([key for key, _ in keyed], dtype=np.int64), [name for _, name in keyed]
