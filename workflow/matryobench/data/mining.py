"""Training groups from judgements or pairs, with hard negatives mined by BM25 (the library bm25s).

Words are bm25s's: lower case, two letters or more, its English stop words left out, no stemming (its stemmer is another
package). k1 = 0.9 and b = 0.4 with Lucene's weights, the setting of BEIR's BM25 baseline (Thakur et al. 2021, appendix).
As in Tevatron's own script for hard negatives, a query's negatives are drawn from the best `depth` non-relevant passages,
not taken from the top, since the very first are often relevant but unjudged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from matryobench.data.collection_tables import check_collection, collection_from_folder
from matryobench.data.derived import MinedPart
from matryobench.data.groups import groups_table
from matryobench.data.records import read_table
from matryobench.data.registry import mined_inputs
from matryobench.data.specs import DatasetSpec
from matryobench.data.values import passage_text
from matryobench.errors import InputError

K1, B = 0.9, 0.4


@dataclass
class Pool:
    """What one part brings: its passages, and for each query what is known about them by passage number."""

    passages: list[dict[str, str]]  # docid, title, text
    queries: list[tuple[str, str]] = field(default_factory=list)  # id, text
    positives: list[list[int]] = field(default_factory=list)
    negatives: list[list[int]] = field(default_factory=list)  # given ones, taken before any is mined
    excluded: list[list[int]] = field(default_factory=list)  # neither: relevant below the grade, the query's own id
    facts: dict[str, int] = field(default_factory=dict)

    def add(
        self, query: tuple[str, str], positives: list[int], negatives: Sequence[int] = (), excluded: Sequence[int] = ()
    ) -> None:
        """One more query with its passage numbers."""
        self.queries.append(query)
        self.positives.append(positives)
        self.negatives.append(list(negatives))
        self.excluded.append(list(excluded))


def mine(spec: DatasetSpec, tables: Mapping[str, Path]) -> tuple[pa.Table, dict[str, Any]]:
    """The groups of a mined entry and the facts for `write_table`; `tables`: the fetched table of each of `mined_inputs`.

    Ids are those of the parts with the part's name and a colon before them. The same entry and tables give the same groups.
    Raises InputError where a part has no query with a positive, or too few passages for the negatives.
    """
    mined = spec.mined
    assert mined is not None, "only mined entries are made from other tables"
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"negatives": mined.negatives, "depth": mined.depth, "seed": mined.seed, "parts": []}
    for number, part in enumerate(mined.parts):
        pool = _pool(part, spec, tables)
        generator = np.random.default_rng([mined.seed, number])
        _limit(pool, part.limit, generator)
        found, counts = _groups(pool, mined.negatives, mined.depth, generator, part.name)
        rows += [_prefixed(row, part.name) for row in found]
        facts["parts"].append({"part": part.name, **pool.facts, **counts})
    table = groups_table(rows)
    if spec.rows is not None and table.num_rows != spec.rows:
        raise InputError(
            f"mined from {', '.join(mined_inputs(spec))}: {table.num_rows} groups were made and the entry says rows: "
            f"{spec.rows}; its parts have changed, so restore them or correct the entry."
        )
    return table, facts


def groups_from_folder(
    folder: Path,
    split: str = "train",
    negatives: int = 7,
    depth: int = 100,
    seed: int = 0,
    min_grade: int = 1,
    exclude_own_id: bool = False,
) -> tuple[pa.Table, dict[str, Any]]:
    """Groups of a folder in BEIR's form from its judgements qrels/<split>.tsv, ids as in the folder; and facts.

    Raises InputError as `collection_from_folder`, `check_collection` and `mine` do.
    """
    pool = _judged_pool(*collection_from_folder(folder, split), str(folder), min_grade, exclude_own_id)
    rows, counts = _groups(pool, negatives, depth, np.random.default_rng([seed, 0]), str(folder))
    return groups_table(rows), {"negatives": negatives, "depth": depth, "seed": seed, **pool.facts, **counts}


# --- what a part brings ----------------------------------------------------------------------------------------------


def _pool(part: MinedPart, spec: DatasetSpec, tables: Mapping[str, Path]) -> Pool:
    if part.collection is None:
        table, _ = read_table(tables[part.name])
        return _paired_pool({c: table.column(c).to_pylist() for c in table.column_names}, part.name)
    collection = spec._collections[part.collection]
    assert collection.train_qrels is not None  # the registry made sure
    passages, queries, qrels = (
        read_table(tables[name])[0] for name in (collection.corpus, collection.queries, collection.train_qrels)
    )
    judged = part.pool == "judged"
    return _judged_pool(passages, queries, qrels, part.name, part.min_grade, collection.exclude_own_id, judged)


def _judged_pool(
    passages: pa.Table,
    queries: pa.Table,
    qrels: pa.Table,
    name: str,
    min_grade: int,
    exclude_own_id: bool,
    judged_only: bool = False,
) -> Pool:
    kept, facts = check_collection(passages, queries, qrels, name)
    if judged_only:
        import pyarrow.compute as pc

        passages = passages.filter(pc.is_in(passages.column("doc_id"), value_set=pc.unique(qrels.column("doc_id"))))
    columns = (passages.column(column).to_pylist() for column in ("doc_id", "title", "text"))
    pool = Pool([{"docid": i, "title": title, "text": text} for i, title, text in zip(*columns, strict=True)])
    numbers = {passage["docid"]: number for number, passage in enumerate(pool.passages)}
    relevant: dict[str, dict[int, int]] = {}
    for query, document, grade in zip(*(qrels.column(c).to_pylist() for c in qrels.column_names), strict=True):
        if grade > 0 and document in numbers:
            relevant.setdefault(query, {})[numbers[document]] = grade
    for query, text in zip(kept.column("query_id").to_pylist(), kept.column("text").to_pylist(), strict=True):
        grades = relevant.get(query, {})
        # A blank passage teaches nothing, however relevant it is said to be.
        usable = [n for n, grade in grades.items() if grade >= min_grade and _text_of(pool.passages[n])]
        own = [numbers[query]] if exclude_own_id and query in numbers else []
        if positives := [number for number in usable if number not in own]:
            pool.add((query, text), positives, excluded=[*grades, *own])
    pool.facts = {
        "documents": len(pool.passages),
        "queries_judged": facts["queries"],
        "queries_without_positive": facts["queries"] - len(pool.queries),
    }
    if not pool.queries:
        raise InputError(f"{name}: no query has a positive of grade {min_grade} or more; lower min_grade.")
    return pool


def _paired_pool(columns: Mapping[str, list[str]], name: str) -> Pool:
    """Pairs or triplets: the texts other than anchors, each once, are the passages; an anchor asks once, for all its own."""
    pool = Pool([])
    numbers: dict[str, int] = {}
    asked: dict[str, tuple[dict[int, None], dict[int, None]]] = {}

    def number_of(text: str) -> int:
        if text not in numbers:
            numbers[text] = len(numbers)
            pool.passages.append({"docid": f"p{numbers[text]}", "title": "", "text": text})
        return numbers[text]

    negatives: Sequence[str | None] = columns.get("negative") or [None] * len(columns["anchor"])
    for anchor, positive, negative in zip(columns["anchor"], columns["positive"], negatives, strict=True):
        wanted, given = asked.setdefault(anchor, ({}, {}))
        wanted[number_of(positive)] = None
        if negative is not None:
            given[number_of(negative)] = None
    for number, (anchor, (wanted, given)) in enumerate(asked.items()):
        pool.add((f"q{number}", anchor), list(wanted), [text for text in given if text not in wanted])
    pool.facts = {"documents": len(pool.passages), "queries_without_positive": 0}
    return pool


def _limit(pool: Pool, limit: int | None, generator: np.random.Generator) -> None:
    """Keeps `limit` queries, drawn without replacement, in their order."""
    if limit is None or limit >= len(pool.queries):
        return
    kept = np.sort(generator.choice(len(pool.queries), limit, replace=False)).tolist()
    for name in ("queries", "positives", "negatives", "excluded"):
        values = getattr(pool, name)
        setattr(pool, name, [values[number] for number in kept])


# --- negatives -------------------------------------------------------------------------------------------------------


def _groups(
    pool: Pool, negatives: int, depth: int, generator: np.random.Generator, name: str
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows of a groups table, and counts: queries, positives, and where the negatives came from."""
    texts = [_text_of(passage) for passage in pool.passages]
    ranking = _bm25(texts)
    same: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        same.setdefault(text, []).append(number)
    rows, counts = [], {"queries": len(pool.queries), "positives": 0, "given": 0, "mined": 0, "random": 0}
    for number, (identity, query) in enumerate(pool.queries):
        positives, given = pool.positives[number], pool.negatives[number]
        # A passage with the text of a positive, or of the query itself, is no negative, whatever its id.
        alike = [other for text in {query, *(texts[p] for p in positives)} for other in same.get(text, ())]
        barred = {*positives, *pool.excluded[number], *alike}
        chosen = [passage for passage in given if passage not in barred]
        if len(chosen) > negatives:
            picked = generator.choice(len(chosen), negatives, replace=False)
            chosen = [chosen[i] for i in np.sort(picked)]
        counts["given"] += len(chosen)
        barred.update(chosen)
        best = [passage for passage in ranking(query, depth + len(barred)) if passage not in barred][:depth]
        picks = generator.choice(len(best), min(negatives - len(chosen), len(best)), replace=False)
        mined = [best[i] for i in np.sort(picks)]
        counts["mined"] += len(mined)
        chosen += mined
        if len(chosen) < negatives:  # fewer than that share a word with the query
            others = _others(
                barred | set(mined), texts, negatives - len(chosen), generator, f"{name}: query {identity!r}"
            )
            counts["random"] += len(others)
            chosen += others
        counts["positives"] += len(positives)
        rows.append(
            {
                "query_id": identity,
                "query": query,
                "positive_passages": [pool.passages[p] for p in positives],
                "negative_passages": [pool.passages[n] for n in chosen],
            }
        )
    return rows, counts


def _others(
    barred: set[int], texts: Sequence[str], count: int, generator: np.random.Generator, place: str
) -> list[int]:
    drawn = (number for number in generator.permutation(len(texts)).tolist() if number not in barred and texts[number])
    found = list(islice(drawn, count))
    if len(found) < count:
        raise InputError(f"{place}: the corpus has too few passages that are not relevant; ask for fewer negatives.")
    return found


def _bm25(texts: Sequence[str]) -> Callable[[str, int], list[int]]:
    """A search over texts: (query, count) -> numbers of the best texts that share a word with it, ties by number."""
    import bm25s

    split = bm25s.tokenize(list(texts), stopwords="english", stemmer=None, show_progress=False)
    index = bm25s.BM25(k1=K1, b=B, method="lucene")
    if split.vocab:  # else no text has a word, and nothing can be found
        index.index(split, show_progress=False)

    def best(query: str, count: int) -> list[int]:
        (words,) = bm25s.tokenize([query], stopwords="english", stemmer=None, return_ids=False, show_progress=False)
        known = [split.vocab[word] for word in words if word in split.vocab]
        if not known:
            return []
        scores = index.get_scores_from_ids(known)
        found = np.flatnonzero(scores > 0)
        if len(found) > count:  # ties with the last one stay until the numbers decide
            found = found[scores[found] >= np.partition(scores[found], -count)[-count]]
        order = np.lexsort((found, -scores[found]))[:count]
        numbers: list[int] = found[order].tolist()
        return numbers

    return best


def _text_of(passage: Mapping[str, str]) -> str:
    return passage_text(passage["title"], passage["text"])


def _prefixed(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    passages = {
        key: [{**passage, "docid": f"{name}:{passage['docid']}"} for passage in row[key]]
        for key in ("positive_passages", "negative_passages")
    }
    return {**row, "query_id": f"{name}:{row['query_id']}", **passages}
