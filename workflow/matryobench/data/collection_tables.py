"""The tables of a test collection: read from a folder in BEIR's form, and checked against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from matryobench.data.collections import CollectionSpec, expand
from matryobench.data.doc_ids import StoredIds, numbers_of
from matryobench.data.records import read_records
from matryobench.errors import InputError

# More judged documents than this that the corpus lacks: the corpus is another one. BEIR's ArguAna lacks 5 of 1,406.
UNKNOWN_SHARE = 0.1


def collection_from_folder(folder: Path, split: str = "test") -> tuple[pa.Table, pa.Table, pa.Table]:
    """(passages, queries, qrels) of a folder with corpus.jsonl, queries.jsonl (or .jsonl.gz) and qrels/<split>.tsv.

    The tables are those that a registry entry with `folder` gives. Raises InputError, one sentence with file and line, where
    the folder is not of that form; the tables are not yet checked against each other (`check_collection`).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give one with corpus.jsonl, queries.jsonl and qrels/.")
    if not (folder / "qrels" / f"{split}.tsv").is_file():
        splits = sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))
        has = f"judgements of {', '.join(splits)} only" if splits else "no judgements"
        raise InputError(f"{folder}: there is no qrels/{split}.tsv but {has}; add the file or name another split.")
    spec = CollectionSpec(
        kind="retrieval", description="a folder in BEIR's form", folder=str(folder.absolute()), split=split
    )
    parts = expand(folder.name, spec, Path(), str(folder))
    corpus, queries, qrels = (
        read_records(parts[name].local_paths(), parts[name], name)
        for name in (f"{folder.name}.{suffix}" for suffix in ("corpus", "queries", "qrels"))
    )
    return corpus, queries, qrels


def check_collection(
    passages: pa.Table | StoredIds, queries: pa.Table, qrels: pa.Table, name: str
) -> tuple[pa.Table, dict[str, Any]]:
    """(the queries to evaluate, in table order; facts) of a collection's tables (columns as `specs.COLUMNS`).

    The rules are those of BEIR's evaluation and trec_eval, and what each of them met is counted in the facts:

    * queries without a judgement are left out (`queries_without_judgements`): a queries file often has all splits;
    * a judgement of a document that the corpus lacks stays (`judgements_of_unknown_documents`): it counts as relevant and
      is never retrieved, as for BEIR's ArguAna, which has 5. More than a tenth of them is an InputError: wrong corpus;
    * a judgement of a query that the queries lack is an InputError;
    * a query without any relevant document (grade above 0) stays and scores 0, as in trec_eval
      (`queries_without_relevant`); none in the whole set is an InputError;
    * grades below 0 are not relevant, as in trec_eval (`negative_grades`; BEIR's TREC-COVID has two);
    * documents with empty texts stay and are encoded as the title, or as the empty text where that is empty too
      (`documents_without_text`, `documents_without_title_and_text`; only counted where `passages` is a table with the texts).

    The facts also hold `documents`, `queries` (those to evaluate), `judgements` and `relevant` (grade above 0). Ids that
    are there twice were refused when the tables were read. `name` begins the errors.
    """
    import pyarrow.compute as pc

    known = pc.is_in(qrels.column("query_id"), value_set=queries.column("query_id").combine_chunks())
    if not pc.all(known).as_py():
        at = pc.index(known, False).as_py()
        raise InputError(
            f"{name}: the judgements name the query {qrels.column('query_id')[at].as_py()!r}, which the queries lack (and "
            f"{len(known) - pc.sum(known).as_py() - 1} judgements more do so); give the queries that the judgements are of."
        )
    doc_ids = passages if isinstance(passages, StoredIds) else passages.column("doc_id")
    # The judged ids are looked for among the corpus's, and not the other way round: that table would be the larger one.
    present = list(numbers_of(doc_ids, pc.unique(qrels.column("doc_id")).to_pylist()))
    found = pc.is_in(qrels.column("doc_id"), value_set=pa.array(present, type=pa.string()))
    unknown = len(found) - pc.sum(found).as_py()
    if unknown > UNKNOWN_SHARE * len(found):
        example = qrels.column("doc_id")[pc.index(found, False).as_py()].as_py()
        raise InputError(
            f"{name}: {unknown} of {len(found)} judgements name documents that the corpus lacks (such as {example!r}); give "
            "the corpus that the judgements are of."
        )
    relevant = pc.greater(qrels.column("grade"), 0)
    if not pc.any(relevant).as_py():
        raise InputError(
            f"{name}: no judgement says that a document is relevant (grade above 0); correct the judgements."
        )
    judged = pc.is_in(queries.column("query_id"), value_set=pc.unique(qrels.column("query_id")))
    kept = queries.filter(judged)
    answered = pc.count_distinct(qrels.column("query_id").filter(relevant)).as_py()
    facts = {
        "documents": len(doc_ids),
        "queries": kept.num_rows,
        "judgements": qrels.num_rows,
        "relevant": pc.sum(relevant).as_py(),
        "queries_without_judgements": queries.num_rows - kept.num_rows,
        "queries_without_relevant": kept.num_rows - answered,
        "judgements_of_unknown_documents": unknown,
        "negative_grades": pc.sum(pc.less(qrels.column("grade"), 0)).as_py(),
    }
    if not isinstance(passages, StoredIds) and "text" in passages.column_names:
        no_text = _blank(passages.column("text"))
        facts["documents_without_text"] = pc.sum(no_text).as_py()
        facts["documents_without_title_and_text"] = pc.sum(pc.and_(no_text, _blank(passages.column("title")))).as_py()
    return kept, facts


def _blank(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.equal(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0)
