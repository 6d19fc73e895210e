"""A small controlled language with meaning, and data made from it: training, evaluation and retrieval without a download.

`words` and `lexicon` say what there is, `meaning` what a sentence means and how alike two meanings are (the gold score),
`scenes` what follows from, contradicts or resembles a meaning, `wording` how a meaning is said; `sets` and `retrieval` make
the tables. All is drawn from numpy generators seeded by (seed, table name): the same seed, the same bytes, in every process.

Tables: triplets (anchor, positive, negative; 20,000), sts-paraphrase, sts-roles, sts-topics (sentence1, sentence2, score in
0..5; 1,000 each), text (16,000 short documents), passages (_id, title, text), train-queries, test-queries and queries, which
is both (_id, text), train-qrels, test-qrels (query_id, doc_id, score: 2 answers, 1 about the same but no answer),
instructed (query, positive, negative with instructions; 1,500 as triplets, 1,209 questions with passages), events-train,
events-test (text, label: which of ten kinds of event it tells; 400 each).

What is evaluated is never trained on: one in five combinations of an action (or its opposite) with an unordered set of
participants is kept for evaluation. Triplets, text and training questions contain none of them, the STS sets and test
questions nothing else. Passages are of one kind or the other; judgements for training name only those of the first.

How hard it is, Spearman x 100, mean over the three STS sets (seed 0; tools/measure_demo_world.py --threads 1, torch 2.13 CPU):

    Jaccard 20.9, bag of words 17.0, tf-idf 25.6
    untrained encoder (4 layers, width 64): 19.3; after masked-language-model pre-training only (1,000 steps): 23.1
    after 250 steps of multiple negatives ranking on all 16 cells, batch 64:

        layer    d=8   d=16   d=32   d=64
          1     69.2   71.4   71.4   69.8    mean per layer 70.5, 73.5, 74.1, 74.2
          2     72.2   74.0   74.2   73.7    mean per dim   71.7, 73.7, 73.8, 73.0
          3     72.6   74.6   74.9   74.2
          4     72.7   74.7   74.9   74.4    sets at (4, 64): 83.4, 72.1, 67.6

Without the pre-training the same fine-tuning ends a little higher (76.6 at (4, 64)) and gains less from depth (74.8 to 76.0
against 70.5 to 74.2 from layer 1 to 4). In these few steps concepts, synonyms, denial and opposites are learned (at least 98 %
of 400 such changes told apart from a paraphrase, chance 50 %); who did it to whom, and in which order, is not (49 %, 50 %).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matryobench.data.demo_world import events, instructed, retrieval, sets
from matryobench.errors import InputError, unknown_name

_TABLES: dict[str, Callable[[int], dict[str, Any]]] = {
    "triplets": sets.triplets,
    "sts-paraphrase": sets.sts_paraphrase,
    "sts-roles": sets.sts_roles,
    "sts-topics": sets.sts_topics,
    "text": sets.text,
    "passages": lambda seed: retrieval.corpus(seed).passages,
    "queries": retrieval.all_queries,
    "train-queries": lambda seed: retrieval.corpus(seed).queries["train"],
    "test-queries": lambda seed: retrieval.corpus(seed).queries["test"],
    "train-qrels": lambda seed: retrieval.corpus(seed).judgements["train"],
    "test-qrels": lambda seed: retrieval.corpus(seed).judgements["test"],
    "instructed": instructed.instructed,
    "events-train": lambda seed: events.events(seed, evaluation=False),
    "events-test": lambda seed: events.events(seed, evaluation=True),
}


def tables() -> tuple[str, ...]:
    """Names of the tables."""
    return tuple(_TABLES)


def table(name: str, seed: int = 0) -> dict[str, list[Any]]:
    """One table as columns of equal length, a new copy on each call.

    Raises InputError for an unknown name and for a seed below 0.
    """
    if name not in _TABLES:
        raise unknown_name("demo world", "table", name, _TABLES)
    if seed < 0:
        raise InputError(f"demo world: seed {seed} is negative; give 0 or more.")
    return {column: list(values) for column, values in _TABLES[name](seed).items()}
