"""A run of the plan, trained by its reference backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.data.records import read_table
from matryobench.errors import InputError
from matryobench.files import sha256_of
from matryobench.tasks import RetrievalRecipe, StsRecipe
from matryobench.training.retrieval import RetrievalTraining

if TYPE_CHECKING:
    from matryobench.plan import Plan, Run
    from matryobench.training.reference.sentence_transformers import Loss
    from matryobench.training.sts import StsTraining

LOSSES: dict[str, Loss] = {"bert": "mnrl", "mse": "matryoshka", "2dmse-v1": "matryoshka-2d"}


def train_reference(
    plan: Plan,
    run: Run,
    data: StsTraining | RetrievalTraining,
    table_file: Path,
    start: Path,
    out_model: Path,
    work: Path,
    device_name: str | None = None,
) -> dict[str, Any]:
    """Trains `run` with its backend from the folder `start` on the batches of `data` and writes `out_model`.

    `table_file` is the training table that the tokens were made from, for backends that tokenise themselves. Returns
    what the native loop does; raises InputError where the table is not that of the tokens.
    """
    recipe = plan.recipe(run)
    common: dict[str, Any] = {
        "batches": data.batches,
        "base": recipe.base,
        "pooling": recipe.pooling,
        "training": recipe.training,
        "init_seed": run.seed.init,
        "dropout_seed": run.seed.dropout,
        "label": run.run_id,
        "device_name": device_name,
    }
    if isinstance(data, RetrievalTraining):
        from matryobench.training.reference.tevatron import train_tevatron

        assert isinstance(recipe, RetrievalRecipe)
        return train_tevatron(
            start, out_model, work, texts=data.texts, group_size=recipe.group_size,
            query_max_length=recipe.query_max_length, passage_max_length=recipe.passage_max_length, **common,
        )  # fmt: skip
    from matryobench.training.reference.sentence_transformers import train_sentence_transformers

    assert isinstance(recipe, StsRecipe)
    if data.meta["table_sha256"] != sha256_of(table_file):
        raise InputError(f"{table_file}: the tokens were made from another table; run the tokenise step again.")
    table, _ = read_table(table_file)
    columns = {name: table.column(name).to_pylist() for name in data.meta["columns"]}
    return train_sentence_transformers(
        start, out_model, work, columns=columns, loss=LOSSES[run.method], dims=recipe.nested_dims,
        max_length=recipe.max_length, draw_seed=run.seed.cells, **common,
    )  # fmt: skip
