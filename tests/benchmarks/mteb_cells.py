"""All cells of an mteb task through the adapter against one mteb run of the full model by sentence-transformers."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import (
    Agreement,
    Growth,
    Outcome,
    Pairs,
    Row,
    Setting,
    Target,
    alternate,
    median_seconds,
    peak_mb,
    row,
    timed,
)
from materials import Texts, load_grid, load_peer, model_folder

from matryobench.evaluation.mteb_runs import MtebSettings, evaluate_mteb
from matryobench.evaluation.mteb_tasks import Tables, table_task
from matryobench.evaluation.standalone import Model
from matryobench.grid import Cell
from matryobench.models.folders import read_settings


def classification(setting: Setting) -> Outcome:
    """A row for a classification set; growth with the cells."""
    texts = Texts(setting)
    model, peer, cells = _models(setting)
    whole = _Ways(model, peer, texts.classification(setting.size(2000, 60)), cells)
    pairs = alternate(whole.ours, whole.theirs, setting.repeats, warm_up=not setting.quick)
    line = whole.row(pairs, ours_mb=peak_mb(whole.ours), peer_mb=peak_mb(whole.theirs))
    by_cells = []
    for some in (cells[-1:], cells[-len(cells) // 6 :], cells):
        part = _Ways(model, peer, whole.tables, some)
        costs, encoding = [], 0.0
        for _ in range(setting.repeats):
            costs.append(timed(part.ours))
            encoding = part.found.facts["encode_seconds"]
        by_cells.append((len(some), round(median_seconds(costs), 2), round(encoding, 2)))
    heads = ("cells", "seconds", "of which encoding (last run)")
    return Outcome([line], [Growth(f"mteb classification ({whole.tables.name}) by cells", heads, by_cells)])


def retrieval(setting: Setting) -> Outcome:
    """A row for a whole collection, which takes minutes and is run once; growth with the documents."""
    texts = Texts(setting)
    model, peer, cells = _models(setting)
    lines = []
    for count in (0, setting.size(1000, 5), setting.size(10**6, 20)):
        some = _Ways(model, peer, texts.collection(count), cells)
        pairs = alternate(some.ours, some.theirs, 1, warm_up=False)
        lines.append(some.costs(pairs))
    title = f"mteb retrieval ({some.tables.name}, {len(cells)} cells) by texts, one run each"
    heads = ("texts", "all cells, s", "one run of the full model, s", "ratio")
    return Outcome([some.row(pairs)], [Growth(title, heads, lines)])


def _models(setting: Setting) -> tuple[Model, Any, tuple[Cell, ...]]:
    """Ours and the peer's with the same length of texts, and the cells."""
    model, peer = load_grid(), load_peer()
    model = replace(model, max_length=setting.size(model.max_length, 8))
    peer.max_seq_length = model.max_length
    return model, peer, tuple(model.cells[-7:] if setting.quick else model.cells)


class _Ways:
    """Ours on some cells and the peer, on one task; `found` and `score` are their last results."""

    def __init__(self, model: Model, peer: Any, tables: Tables, cells: tuple[Cell, ...]) -> None:
        self.model, self.peer, self.tables, self.cells = model, peer, tables, cells
        self.found: Any = None
        self.score = 0.0

    def ours(self) -> None:
        """All cells through the adapter."""
        normalise = read_settings(model_folder()).normalised
        settings = MtebSettings(self.cells, self.model.max_length, "benchmark", "none", normalise=normalise)
        with tempfile.TemporaryDirectory() as out:
            encoder, tokenizer = self.model.encoder, self.model.tokenizer
            (self.found,) = evaluate_mteb(encoder, tokenizer, [lambda: self.tables], settings, Path(out))

    def theirs(self) -> None:
        """mteb's own run of the full model."""
        import mteb

        task = table_task(self.tables)
        found = mteb.evaluate(
            self.peer, task.task, cache=None, co2_tracker=False, show_progress_bar=False,
            encode_kwargs={"show_progress_bar": False},
        ).task_results[0]  # fmt: skip
        self.score = float(found.scores[task.split][0]["main_score"])

    def row(self, pairs: Pairs, **memory: float) -> Row:
        """The row of the comparison."""
        apart = abs(float(self.found.values[-1]) - self.score)
        return row(
            f"mteb, all cells: {self.tables.family}",
            f"{self.tables.name}, {self.found.facts['texts_encoded']} texts, {len(self.cells)} cells",
            "one mteb run of the full model by SentenceTransformer", pairs, Target("share", 1.15),
            agreement=Agreement(f"score of the full cell {self.found.values[-1]:.4f}, within {apart:.0e}", apart < 1e-4),
            **memory,
        )  # fmt: skip

    def costs(self, pairs: Pairs) -> tuple[Any, ...]:
        """A line of the table by texts."""
        mine, other = median_seconds(pairs.ours), median_seconds(pairs.peer)
        return self.found.facts["texts_encoded"], round(mine, 1), round(other, 1), round(mine / other, 2)
