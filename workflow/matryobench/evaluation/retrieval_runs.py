"""Retrieval evaluation jobs: the searches of a run, or shards of them, and the scores of its test sets."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench import layout
from matryobench.errors import InputError
from matryobench.evaluation.metrics import qrels_of, write_trec_run
from matryobench.evaluation.rankings import Rankings, SearchCell, merge, read_rankings, write_rankings
from matryobench.evaluation.retrieval import SetScores, evaluate_rankings, search_corpus
from matryobench.evaluation.searches import JudgedSet, Search, load_search
from matryobench.models.folders import encoder_identity
from matryobench.tasks import RetrievalRecipe

if TYPE_CHECKING:
    from matryobench.evaluation.search import Similarity
    from matryobench.grid import Cell
    from matryobench.models.encoder import Encoder
    from matryobench.plan import Plan, Run


@dataclass(frozen=True)
class SearchSettings:
    """How a model searches: its cells, similarity, list length, and where a killed search goes on from.

    identity: a hash of the model and how it encodes, without which nothing can be resumed; work: folder of unfinished searches.
    """

    cells: tuple[SearchCell, ...]
    similarity: Similarity
    top_k: int
    identity: str
    work: Path | None = None


def run_settings(plan: Plan, run: Run, encoder: Encoder, model: Path, work: Path) -> SearchSettings:
    """The settings of a run of the plan. With fixed documents their layer is the encoder's last."""
    recipe = plan.recipe(run)
    assert isinstance(recipe, RetrievalRecipe)
    fixed = plan.variant(run).documents == "last"
    cells = tuple((layer, encoder.depth if fixed else layer, dim) for layer, dim in run.evaluated)
    identity = encoder_identity(model, plan.retrieval.encode_precision)
    return SearchSettings(cells, recipe.base.similarity, plan.retrieval.top_k, identity, work)


def evaluate_sets(
    encoder: Encoder,
    search: Search,
    settings: SearchSettings,
    rankings: Rankings | None = None,
    run_files: Mapping[Cell, str] | None = None,
    out: Path | None = None,
) -> list[SetScores]:
    """Scores every test set of a search, ranking the corpus first unless `rankings` are given.

    run_files: cells (query layer, dim) whose rankings are written to `out`/<set>.l<layer>.d<dim>.trec.gz -> the tag.
    """
    if rankings is None:
        rankings = rank(encoder, search, settings)
    results = []
    for judged, part in _per_set(search, rankings):
        results.append(evaluate_rankings(part, judged.query_ids, search.doc_ids, qrels_of(judged.qrels), judged.name))
        for (layer, dim), tag in (run_files or {}).items():
            cell = next((cell for cell in settings.cells if (cell[0], cell[2]) == (layer, dim)), None)
            if cell is not None and out is not None:  # bert-s runs have one cell of the grid each
                path = out / f"{judged.name}.l{layer}.d{dim}.trec.gz"
                write_trec_run(part, cell, judged.query_ids, search.doc_ids, path, tag)
    return results


def rank(
    encoder: Encoder, search: Search, settings: SearchSettings, start: int = 0, stop: int | None = None
) -> Rankings:
    """The rankings of documents start .. stop (all) of the corpus, going on where a killed search had got to.

    Where every shard begins at a multiple of `retrieval.PIECE`, the texts are encoded in the same batches as in one pass,
    and the merged rankings are those of one pass to the last bit.
    """
    stop = len(search.corpus.rows) if stop is None else stop
    return search_corpus(
        encoder,
        search.queries,
        search.corpus,
        settings.cells,
        settings.top_k,
        settings.similarity,
        excluded=search.excluded,
        start=start,
        stop=stop,
        checkpoint=settings.work / f"{search.name}.{start}-{stop}.safetensors" if settings.work else None,
        identity=f"{settings.identity} {search.identity}",
        place=search.name,
    )


def evaluate_retrieval_run(
    plan: Plan, run: Run, encoder: Encoder, model: Path, files: Path, out: Path
) -> tuple[list[SetScores], dict[str, Any]]:
    """Scores all test sets of a run, one search per corpus; shards that `search_shard` wrote are merged.

    Returns the scores in the config's order, and what was searched: texts' hash and facts of each set, per corpus.
    """
    task = plan.retrieval
    settings = run_settings(plan, run, encoder, model, out / "searches")
    results: dict[str, SetScores] = {}
    facts: dict[str, Any] = {}
    run_files = dict.fromkeys(task.run_files, run.run_id)
    for corpus, collections in plan.corpora().items():
        search = load_search(corpus, collections, files, task.query_max_length, task.passage_max_length)
        rankings, count = None, plan.shards(corpus)
        if count > 1:
            rankings = merge(list(_shards(files, run, search, settings, count)))
        for scores in evaluate_sets(encoder, search, settings, rankings, run_files, out / "run_files"):
            results[scores.dataset] = scores
        facts[corpus] = {"texts": search.identity, "sets": {judged.name: dict(judged.facts) for judged in search.sets}}
    shutil.rmtree(out / "searches", ignore_errors=True)
    return [results[name] for name in task.evaluate], facts


def search_shard(
    plan: Plan, run: Run, corpus: str, shard: int, shards: int, encoder: Encoder, model: Path, files: Path, out: Path
) -> None:
    """Ranks one shard of a corpus for a run and writes the rankings to `out`.

    Raises InputError for a corpus that the plan does not search and for a number of shards that is not the plan's.
    """
    if corpus not in plan.corpora():
        raise InputError(f"{plan.place}: no test set searches '{corpus}'; the corpora are {', '.join(plan.corpora())}.")
    if shards != plan.shards(corpus) or not 0 <= shard < shards:
        raise InputError(
            f"--shard {shard} --of {shards}: {corpus} has {plan.shards(corpus)} shards; search one of them."
        )
    task = plan.retrieval
    settings = run_settings(plan, run, encoder, model, out.parent / "searches")
    search = load_search(corpus, plan.corpora()[corpus], files, task.query_max_length, task.passage_max_length)
    start = shard * task.shard_documents
    stop = min(start + task.shard_documents, len(search.corpus.rows))
    rankings = rank(encoder, search, settings, start, stop)
    identity = f"{settings.identity} {search.identity}"
    write_rankings(rankings, out, {"identity": identity, "shard": shard, "shards": shards})
    (out.parent / "searches" / f"{corpus}.{start}-{stop}.safetensors").unlink(missing_ok=True)


def _shards(files: Path, run: Run, search: Search, settings: SearchSettings, count: int) -> Iterator[Rankings]:
    for number in range(count):
        path = files / layout.shard(run.run_id, search.name, number, count)
        rankings, meta = read_rankings(path)
        if meta["identity"] != f"{settings.identity} {search.identity}" or rankings.cells != settings.cells:
            raise InputError(f"{path}: ranked with another model, corpus or cells; remove it and search again.")
        yield rankings


def _per_set(search: Search, rankings: Rankings) -> Iterator[tuple[JudgedSet, Rankings]]:
    begin = 0
    for judged in search.sets:
        rows = slice(begin, begin + len(judged.query_ids))
        yield judged, rankings.of(rows)
        begin = rows.stop
