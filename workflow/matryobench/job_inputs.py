"""What the jobs of an experiment read, as files relative to its results folder: for the rules, and to check the chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matryobench import layout
from matryobench.tasks import StsRecipe

if TYPE_CHECKING:
    from matryobench.plan import Plan, Run


def training_tokens(plan: Plan, run: Run) -> str:
    """Token file that a run is trained on."""
    recipe = plan.recipe(run)
    if isinstance(recipe, StsRecipe):
        return layout.tokens(recipe.train, recipe.max_length)
    return layout.tokens(recipe.train, recipe.query_max_length, recipe.passage_max_length)


def start(run: Run) -> str:
    """What a run starts from: the record of the backbone or of a continued pre-training, or another run's run.json."""
    if run.starts_from:
        return layout.training_record(run.starts_from)
    return layout.continued(run.pretraining) if run.pretraining else layout.BACKBONE


def evaluation_files(plan: Plan, run: Run) -> list[str]:
    """What a run's evaluation reads: token files, for retrieval also tables of ids and judgements, and shards."""
    if run.task == "sts":
        return [layout.tokens(name, plan.sts.max_length) for name in plan.sts.evaluate]
    if run.task == "mteb":
        return [layout.table(name) for name in plan.mteb_tables()]
    files = [file for corpus in plan.corpora() for file in search_files(plan, corpus)]
    for corpus in plan.corpora():
        count = plan.shards(corpus)
        if count > 1:
            files += [layout.shard(run.run_id, corpus, number, count) for number in range(count)]
    return files


def search_files(plan: Plan, corpus: str) -> list[str]:
    """What the search of a corpus reads: its table and tokens, and those of all test sets that search it."""
    task = plan.retrieval
    files = [layout.table(corpus), layout.tokens(corpus, task.passage_max_length)]
    for collection in plan.corpora()[corpus]:
        files += [layout.table(collection.queries), layout.table(collection.qrels)]
        files.append(layout.tokens(collection.queries, task.query_max_length))
    return files
