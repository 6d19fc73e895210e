"""Evaluation jobs: texts encoded once at all layers, searches of whole corpora or shards, mteb's sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from matryobench.estimating import budgets, operations
from matryobench.estimating.budgets import ACTIVATION_BYTES, MEGABYTE, RESIDENT
from matryobench.estimating.texts import NONE, Texts, tokens_of
from matryobench.estimating.work import Job
from matryobench.evaluation.instructions import instruction_of
from matryobench.tasks import StsTask

if TYPE_CHECKING:
    from matryobench.estimating.shapes import EncoderShape
    from matryobench.estimating.sizes import Sizes
    from matryobench.evaluation.instructions import Family, Side
    from matryobench.plan import Plan, Run

PIECE = 4096
"""Documents that are encoded at once, as `evaluation.retrieval.PIECE`."""
CLASSIFIERS = 10
"""Classifiers that mteb trains per set and cell."""
ITEM_BYTES = 5  # of items.parquet: a score of STS
JUDGED_BYTES = 1.5  # of items.parquet: the metrics of a query, most of which are 0 or 1
RANKED_BYTES = 12  # a score and a document's number
SLACK = 600 * 2**20
"""Of a search on a processor: freed blocks that stay with the process; MiniLM's evaluations took 1.0 to 2.8 GiB."""


def evaluation_jobs(plan: Plan, sizes: Sizes, shape: EncoderShape, run: Run, gpu: bool) -> Iterator[Job]:
    """The jobs that evaluate a run: searches of shards, if any, then the evaluation itself."""
    task = plan.tasks[run.task]
    if isinstance(task, StsTask):
        yield _sts(plan, sizes, shape, run, gpu)
    elif run.task == "retrieval":
        yield from _retrieval(plan, sizes, shape, run, gpu)
    else:
        yield _mteb(plan, sizes, shape, run, gpu)


def encoding(
    shape: EncoderShape,
    texts: Texts,
    layers: int,
    gpu: bool,
    precision: str = "fp32",
    padding: float = budgets.PADDING,
) -> dict[str, float]:
    """Amounts of one pass of texts through `layers` layers, sorted by length."""
    padded = texts.scaled(padding)
    passes = budgets.passes(padded.tokens, budgets.tokens_per_forward(gpu, None)) if texts.count else 0
    return {
        "full_operations" if precision == "fp32" else "half_operations": operations.forward(shape, padded, layers),
        "layer_passes": float(passes * (layers + 1)),
        "elements": padded.tokens * (layers + 1) * shape.hidden,
    }


def searching(
    shape: EncoderShape, queries: Texts, documents: Texts, layers: int, run: Run, gpu: bool, precision: str
) -> dict[str, float]:
    """Amounts of one search: queries and documents encoded, all cells scored in one pass over the documents."""
    widest: dict[int, int] = {}
    for layer, dim in run.evaluated:
        widest[layer] = max(dim, widest.get(layer, 0))
    amounts = encoding(shape, queries + documents, layers, gpu, precision)
    amounts["search_operations"] = sum(
        operations.search(queries.count, documents.count, dim) for dim in widest.values()
    )
    amounts["scores"] = queries.count * documents.count * len(run.evaluated)
    return amounts


def _sts(plan: Plan, sizes: Sizes, shape: EncoderShape, run: Run, gpu: bool) -> Job:
    task, layers = plan.sts, run.layers or shape.layers
    texts, pairs = NONE, 0
    for name in task.evaluate:
        texts += sizes.distinct(name, task.max_length)
        pairs += sizes.rows(name)
    cells = len(run.evaluated)
    amounts = {
        "start_model": 1.0,
        **encoding(shape, texts, layers, gpu, task.encode_precision),
        "items": float(pairs * cells),
    }
    held = 4.0 * texts.count * len({layer for layer, _ in run.evaluated}) * shape.hidden + 20.0 * pairs * cells
    after: list[tuple[str, object]] = [("tokenise", (name, str(task.max_length))) for name in task.evaluate]
    return _job(shape, run, amounts, texts, held, ITEM_BYTES * pairs * cells, after, gpu, layers)


def _retrieval(plan: Plan, sizes: Sizes, shape: EncoderShape, run: Run, gpu: bool) -> Iterator[Job]:
    task, layers, cells = plan.retrieval, run.layers or shape.layers, len(run.evaluated)
    whole: dict[str, float] = {"start_model": 1.0}
    after: list[tuple[str, object]] = []
    encoded, disk, asked = NONE, 0.0, 0.0
    kept = len({layer for layer, _ in run.evaluated}) * shape.hidden * 4.0 * PIECE * 2
    kept += 0.0 if gpu else SLACK
    held = kept
    for corpus, collections in plan.corpora().items():
        documents = sizes.corpus(corpus, task.passage_max_length)
        queries = NONE
        for collection in collections:
            queries += sizes.queries(collection.name, task.query_max_length)
        files: list[tuple[str, object]] = [("tokenise", (corpus, str(task.passage_max_length)))]
        files += [("tokenise", (one.queries, str(task.query_max_length))) for one in collections]
        files += [("fetch_data", one.qrels) for one in collections]
        after += files
        count = plan.shards(corpus)
        ranked = queries.count * cells * task.top_k * RANKED_BYTES
        memory = kept + 16.0 * queries.count * cells * task.top_k + 100.0 * documents.count  # ids of documents
        asked += queries.count
        for number in range(count if count > 1 else 0):
            share = documents.scaled(_share(plan, documents, number, count))
            amounts = {"start_model": 1.0, **searching(shape, queries, share, layers, run, gpu, task.encode_precision)}
            amounts["rows"], amounts["written"] = documents.count / 10, ranked
            yield _job(
                shape,
                run,
                amounts,
                queries + share,
                memory,
                ranked,
                files,
                gpu,
                layers,
                "search",
                (run.run_id, corpus, number),
            )
            after.append(("search", (run.run_id, corpus, number)))
        if count == 1:
            for name, value in searching(shape, queries, documents, layers, run, gpu, task.encode_precision).items():
                whole[name] = whole.get(name, 0.0) + value
            encoded += queries + documents
        whole["rows"] = whole.get("rows", 0.0) + documents.count / 10  # ids alone are read
        whole["rankings"] = whole.get("rankings", 0.0) + queries.count * cells
        whole["items"] = whole.get("items", 0.0) + queries.count * cells * 4
        disk += JUDGED_BYTES * queries.count * cells
        held = max(held, memory + ranked * count * (count > 1))
    yield _job(shape, run, whole, encoded, held, disk, after, gpu, layers)


def _share(plan: Plan, documents: Texts, number: int, count: int) -> float:
    """A shard's part of its corpus; the last one has what is left."""
    size = plan.retrieval.shard_documents / documents.count if documents.count else 1 / count
    return size if number + 1 < count else max(0.0, 1 - size * (count - 1))


def _mteb(plan: Plan, sizes: Sizes, shape: EncoderShape, run: Run, gpu: bool) -> Job:
    task, layers, cells = plan.mteb, run.layers or shape.layers, len(run.evaluated)
    amounts: dict[str, float] = {"start_mteb": 1.0}
    texts, held, classified, searched, rows = NONE, 0.0, 0, 0.0, 0.0
    after: list[tuple[str, object]] = []

    def leading(name: str, family: Family, side: Side | None) -> float:
        found = instruction_of(task.instructions, name, family, side)
        return tokens_of(len(found)) - 2 if found else 0.0

    for name in task.evaluate.get("classification", []):
        own = sizes.classified(name, task.max_length, leading(name, "classification", None))
        texts, held, classified = texts + own, max(held, own.count), classified + 1
        one = plan.classifications[name]
        rows += sizes.rows(one.train) + sizes.rows(one.test)
        after += [("fetch_data", part) for part in (one.train, one.test)]
    for name in task.evaluate.get("retrieval", []):
        found = plan.collections[name]
        queries = sizes.queries(name, task.max_length, leading(name, "retrieval", "query"))
        documents = sizes.corpus(found.corpus, task.max_length, leading(name, "retrieval", "passage"))
        texts, held, searched = texts + queries + documents, max(held, documents.count), searched + queries.count
        for quantity, value in searching(shape, queries, documents, 0, run, gpu, "fp32").items():
            if quantity in ("search_operations", "scores"):
                # mteb searches every cell by itself, up to its own width.
                amounts[quantity] = amounts.get(quantity, 0.0) + value
        rows += documents.count
        after += [("fetch_data", part) for part in (found.corpus, found.queries, found.qrels)]
    amounts |= encoding(shape, texts, layers, gpu, task.encode_precision)
    amounts |= {
        "tokenised": texts.tokens,
        "rows": rows,
        "classifiers": float(classified * CLASSIFIERS * cells),
        "mteb_rankings": searched * cells,
    }
    kept = min(2.0 * 2**30, held * len({layer for layer, _ in run.evaluated}) * shape.hidden * 4)
    return _job(shape, run, amounts, texts, kept + 2000.0 * held, 25_000.0 * cells * len(task.sets), after, gpu, layers)


def _job(
    shape: EncoderShape, run: Run, amounts: dict[str, float], texts: Texts, held: float, disk: float,
    after: list[tuple[str, object]], gpu: bool, layers: int, rule: str = "evaluate", key: object = None,
) -> Job:  # fmt: skip
    """An evaluation job that holds `held` bytes besides the encoder and one pass."""
    budget = budgets.tokens_per_forward(gpu, None)
    # Nothing is kept for a backward pass, but all layers' outputs are, and one layer's inside.
    computed = 4.0 * shape.parameters(layers) + budget * shape.hidden * (4.0 * (layers + 1) + ACTIVATION_BYTES)
    start = RESIDENT["mteb" if run.task == "mteb" else "model"] * MEGABYTE
    return Job(
        rule,
        run.run_id if key is None else key,
        "evaluate",
        amounts,
        tokens=texts.tokens,
        disk=disk + 20_000,
        memory=start + 4.0 * shape.parameters(layers) + held + (0.0 if gpu else computed),
        device_memory=computed + min(held, 16.0 * 2**30) if gpu else 0.0,
        after=(("train", run.run_id), *after),
        accelerated=True,
    )
