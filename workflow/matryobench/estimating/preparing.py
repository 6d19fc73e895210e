"""Jobs that fetch datasets and tokenise them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from matryobench.config import PretrainedBackbone
from matryobench.data.registry import mined_inputs
from matryobench.data.specs import COLUMNS
from matryobench.estimating.budgets import MEGABYTE, RESIDENT
from matryobench.estimating.texts import Texts
from matryobench.estimating.work import Job
from matryobench.tasks import StsRecipe

if TYPE_CHECKING:
    from matryobench.estimating.shapes import EncoderShape
    from matryobench.estimating.sizes import Sizes
    from matryobench.plan import Plan

TABLE_SHARE = 0.5  # of a table's characters that its compressed file takes
NUMBER_BYTES = 4  # of such a file, per row of ids and grades
HELD = 4  # times its characters that a table of objects takes in memory
STREAMED = ("text",)  # kinds that are written piece by piece


def fetch_jobs(plan: Plan, sizes: Sizes, shape: EncoderShape) -> Iterator[Job]:
    """One job per dataset, and the backbone's."""
    for name in plan.dataset_names():
        spec = plan.datasets[name]
        rows, characters = sizes.rows(name), sizes.characters(name)
        mined = spec.mined is not None
        groups = 1 + spec.mined.negatives if spec.mined is not None else 8
        texts = groups if spec.kind == "groups" else len([c for c in COLUMNS[spec.kind] if c in _TEXTS])
        volume = rows * texts * (characters or 0.0)
        held = 0.0 if spec.kind in STREAMED else HELD * volume
        yield Job(
            "fetch_data",
            name,
            "fetch",
            {
                # The demo world is made anew by each of its jobs.
                "start_light": 2.0 if spec.demo_world is not None else 1.0,
                "rows": float(rows),
                "mined": float(rows if mined else 0),
                "written": 2 * volume,
            },
            disk=TABLE_SHARE * volume + NUMBER_BYTES * rows,
            memory=RESIDENT["tables"] * MEGABYTE * (1.5 if mined else 0.5) + held + 50 * rows,
            after=tuple(("fetch_data", other) for other in mined_inputs(spec)),
        )
    if not isinstance(plan.experiment.backbone, PretrainedBackbone):
        size = 4.0 * shape.parameters()
        yield Job("fetch_backbone", None, "fetch", {"start_light": 1.0}, memory=RESIDENT["light"] * MEGABYTE + size)


def tokenise_jobs(plan: Plan, sizes: Sizes) -> Iterator[Job]:
    """One job per dataset and maximum lengths that some training or evaluation reads."""
    wanted: dict[tuple[str, str], Texts] = {}
    held: dict[str, float] = {}
    for run in plan.runs:
        recipe = plan.recipe(run)
        rows = sizes.rows(recipe.train)
        if isinstance(recipe, StsRecipe):
            texts = sizes.training_row(recipe.train, recipe.max_length).scaled(rows)
            wanted[recipe.train, str(recipe.max_length)] = texts
        else:
            query, passage = sizes.group_row(recipe.train, recipe.query_max_length, recipe.passage_max_length)
            lengths = f"{recipe.query_max_length}-{recipe.passage_max_length}"
            mined = plan.datasets[recipe.train].mined
            groups = 1 + mined.negatives if mined is not None else PASSAGES_OF_GROUP
            wanted[recipe.train, lengths] = query.scaled(rows) + passage.scaled(rows * groups)
            held[recipe.train] = PIECE * groups * (sizes.characters(recipe.train) or 0.0) * HELD_NESTED
    if plan.experiment.sts is not None:
        for name in plan.sts.evaluate:
            wanted[name, str(plan.sts.max_length)] = sizes.distinct(name, plan.sts.max_length)
    if plan.experiment.retrieval is not None:
        task = plan.retrieval
        for corpus, collections in plan.corpora().items():
            wanted[corpus, str(task.passage_max_length)] = sizes.corpus(corpus, task.passage_max_length)
            for one in collections:
                found = sizes.read(one.queries, task.query_max_length)
                wanted[one.queries, str(task.query_max_length)] = found
    for (name, lengths), texts in wanted.items():
        yield Job(
            "tokenise",
            (name, lengths),
            "tokenise",
            {
                "start_tokenise": 1.0,
                "tokenised": texts.tokens,
                "rows": texts.count / 10,
                "written": 8 * texts.tokens,
            },
            tokens=texts.tokens,
            disk=4 * texts.tokens + 12 * texts.count,
            memory=RESIDENT["figures"] * MEGABYTE + 12 * texts.tokens + 250 * texts.count + held.get(name, 0.0),
            after=(("fetch_data", name), ("backbone", None)),
        )


PIECE, HELD_NESTED = 4096, 12
"""Groups that are Python objects at a time, and how many times its characters one takes then."""
PASSAGES_OF_GROUP = 31
"""Passages of a group whose entry does not say: Tevatron's MS MARCO file has one positive and about 30 negatives."""
_TEXTS = ("text", "anchor", "positive", "negative", "query", "sentence1", "sentence2")
