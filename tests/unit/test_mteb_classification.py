"""What is shared between the cells of a classification gives mteb's own draws and metrics, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from mteb.abstasks import AbsTaskClassification
from test_mteb_tasks import CLASSES

from matryobench.evaluation.mteb_classification import Rows
from matryobench.evaluation.mteb_tasks import table_task


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_mtebs(classes: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    truth = draws.integers(0, classes, 60).tolist()
    guessed = draws.integers(0, max(1, classes - seed), 60)  # some classes are never predicted
    task = table_task(CLASSES).task
    assert task._calculate_scores(truth, guessed) == AbsTaskClassification._calculate_scores(task, truth, guessed)


def test_draws_are_mtebs_also_the_second_time() -> None:
    task = table_task(CLASSES).task
    rows = task.dataset["train"]
    expected, order = [], None
    for number in range(task.n_experiments):
        _, order, chosen = AbsTaskClassification._undersample_data(task, rows, number, order)
        expected.append(chosen)
    for _ in range(2):
        order, drawn = None, []
        for number in range(task.n_experiments):
            kept, order, chosen = task._undersample_data(rows, number, order)
            drawn.append(chosen)
            assert kept["label"] == rows.select(chosen)["label"][:]
        assert drawn == expected
    assert len({tuple(chosen) for chosen in expected}) == task.n_experiments


def test_rows_stay_rows_with_lists_for_columns() -> None:
    rows = Rows.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]})
    some = rows.select([2, 0]).select_columns(["text"])
    assert isinstance(some, Rows) and some["text"] == ["c", "a"] and some[0] == {"text": "c"}
    assert isinstance(some["text"], list)


def test_rows_are_selected_once_and_never_mistaken_for_those_of_another_table() -> None:
    rows = Rows.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]})
    assert rows.select([2, 0]) is rows.select((2, 0))
    assert rows.select(range(2))["text"] == ["a", "b"] and rows.select([0])["text"] == ["a"]
    renamed = rows.rename_column("text", "sentence")
    assert renamed.select([2, 0]).column_names == ["sentence", "label"]
    assert rows.select([2, 0]).select([1])["text"] == ["a"]
