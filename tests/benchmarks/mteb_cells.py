"""All cells of an mteb task through the adapter against one mteb run of the full model by sentence-transformers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import Agreement, Growth, Outcome, Setting, Target, alternate, median_seconds, peak_mb, row, timed
from materials import Texts, load_grid, load_peer, model_folder

from matryobench.evaluation.mteb_runs import MtebSettings, evaluate_mteb
from matryobench.evaluation.mteb_tasks import Tables, table_task
from matryobench.evaluation.standalone import Model
from matryobench.grid import Cell
from matryobench.models.folders import read_settings


def run(setting: Setting) -> Outcome:
    """A row for a classification set and one for a collection; growth with the cells."""
    import mteb

    texts, model, peer = Texts(setting), load_grid(), load_peer()
    model = replace(model, max_length=setting.size(model.max_length, 8))
    peer.max_seq_length = model.max_length
    outcome = Outcome()
    for tables in (texts.classification(setting.size(2000, 60)), texts.collection(setting.size(400, 20))):
        ours = _ours(model, tables)
        told: dict[str, float] = {}

        def theirs(tables: Tables = tables, told: dict[str, float] = told) -> None:
            task = table_task(tables)
            found = mteb.evaluate(
                peer,
                task.task,
                cache=None,
                co2_tracker=False,
                show_progress_bar=False,
                encode_kwargs={"show_progress_bar": False},
            ).task_results[0]
            told["score"] = float(found.scores[task.split][0]["main_score"])

        cells = tuple(model.cells[-7:] if setting.quick else model.cells)
        result: dict[str, Any] = {}

        def grid(
            ours: Callable[..., Any] = ours, cells: tuple[Cell, ...] = cells, result: dict[str, Any] = result
        ) -> None:
            result["grid"] = ours(cells)

        pairs = alternate(grid, theirs, setting.repeats, warm_up=not setting.quick)
        found = result["grid"]
        apart = abs(float(found.values[-1]) - told["score"])
        outcome.rows.append(row(
            f"mteb, all cells: {tables.family}", f"{tables.name}, {found.facts['texts_encoded']} texts, {len(cells)} cells",
            "one mteb run of the full model by SentenceTransformer", pairs, Target("share", 1.15),
            agreement=Agreement(f"score of the full cell {found.values[-1]:.4f}, within {apart:.0e}", apart < 1e-4),
            ours_mb=peak_mb(grid), peer_mb=peak_mb(theirs),
        ))  # fmt: skip
        rows = []
        for some in (cells[-1:], cells[-len(cells) // 6 :], cells):
            costs, encoding = [], 0.0
            for _ in range(setting.repeats):
                costs.append(timed(lambda some=some, ours=ours, result=result: result.update(part=ours(some))))
                encoding = result["part"].facts["encode_seconds"]
            rows.append((len(some), round(median_seconds(costs), 2), round(encoding, 2)))
        heads = ("cells", "seconds", "of which encoding (last run)")
        outcome.growth.append(Growth(f"mteb {tables.family} ({tables.name}) by cells", heads, rows))
    return outcome


def _ours(model: Model, tables: Tables) -> Callable[[tuple[Cell, ...]], Any]:
    def evaluate(cells: tuple[Cell, ...]) -> Any:
        normalise = read_settings(model_folder()).normalised
        settings = MtebSettings(cells, model.max_length, "benchmark", "none", normalise=normalise)
        with tempfile.TemporaryDirectory() as out:
            (result,) = evaluate_mteb(model.encoder, model.tokenizer, [lambda: tables], settings, Path(out))
        return result

    return evaluate
