"""Classification sets: their registry entries, what their tables must hold, and the demo world's set."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matryobench.data.classifications import check_classification, label_numbers
from matryobench.data.demo_world import table
from matryobench.data.demo_world.lexicon import lexicon
from matryobench.data.fetch import fetch_dataset
from matryobench.data.mirror import Mirror
from matryobench.data.registry import find_classification, load_classifications, load_datasets
from matryobench.errors import InputError

ENTRY = """
mine:
  kind: classification
  description: sentences and what they are about
  citation: a page
  licence: CC0
  {more}
  train: {{rows: 3, columns: {{sentence: text}}, local: {{files: [train.jsonl]}}}}
  test: {{local: {{files: [test.jsonl]}}}}
"""


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = tmp_path / "datasets.yaml"
    path.write_text(ENTRY.format(more="mteb_task: Banking77Classification"), encoding="utf-8")
    rows(tmp_path / "train.jsonl", [("one", 1), ("two", True), ("three", 2.0)], "sentence")
    rows(tmp_path / "test.jsonl", [("four", "far away")])
    return path


def rows(path: Path, pairs: list[tuple[object, object]], text: str = "text") -> None:
    lines = [json.dumps({text: value, "label": label, "label_text": "ignored"}) for value, label in pairs]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def labelled(*pairs: tuple[str, str]) -> pa.Table:
    return pa.table({"text": [text for text, _ in pairs], "label": [label for _, label in pairs]})


def test_an_entry_stands_for_two_tables_of_texts_and_labels(registry: Path, tmp_path: Path) -> None:
    one = load_classifications(registry)["mine"]
    assert (one.train, one.test, one.mteb_task) == ("mine.train", "mine.test", "Banking77Classification")
    datasets = load_datasets(registry)
    assert {datasets[name].kind for name in (one.train, one.test)} == {"labelled"}
    found, meta = fetch_dataset(one.train, datasets[one.train], Mirror(tmp_path / "mirror"), offline=True)
    assert found.to_pydict() == {"text": ["one", "two", "three"], "label": ["1", "true", "2"]}
    assert meta["licence"] == "CC0" and meta["kind"] == "labelled"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (("text", ""), "train.jsonl line 1: the label is empty; fill it in or remove the row."),
        (("text", None), "train.jsonl line 1: the label is empty; fill it in or remove the row."),
        (("text", 0.5), "train.jsonl line 1: the label 0.5 is neither a name nor a whole number; correct it."),
        (("text", [1]), "train.jsonl line 1: 'label' must be a text and is [1]"),
        ((" ", 1), "train.jsonl line 1: 'text' is empty; remove the row."),
    ],
)
def test_an_empty_or_odd_cell_is_named_with_its_line(
    registry: Path, tmp_path: Path, row: tuple[object, object], sentence: str
) -> None:
    rows(tmp_path / "train.jsonl", [row, ("b", 1), ("c", 2)], "sentence")
    with pytest.raises(InputError) as error:
        fetch_dataset("mine.train", load_datasets(registry)["mine.train"], Mirror(tmp_path), offline=True)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("task: x", "mine: unknown key 'task'"),
        ("mteb_task: ''", "mine: 'mteb_task'"),
        ("corpus: {local: {files: [a]}}", "mine: unknown key 'corpus'"),
    ],
)
def test_a_wrong_entry_is_one_sentence(registry: Path, more: str, sentence: str) -> None:
    registry.write_text(ENTRY.format(more=more), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_classifications(registry)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_part_that_has_another_entrys_name_and_an_unknown_set_are_refused(registry: Path) -> None:
    text = registry.read_text(encoding="utf-8")
    other = "mine.test: {kind: text, description: other texts, citation: none, licence: CC0, local: {files: [a.txt]}}\n"
    registry.write_text(text + other, encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.test is both an entry and a part of"):
        load_datasets(registry)
    with pytest.raises(InputError, match=r"here: unknown classification set 'mein'; did you mean mine\?"):
        find_classification(load_classifications(registry), "mein", "here")


def test_the_facts_of_a_set_counted_by_hand() -> None:
    train = labelled(("a", "x"), ("a", "x"), ("b", "x"), ("c", "y"), ("b", "y"))
    assert check_classification(train, labelled(("d", "y"), ("c", "x"), ("d", "y"), ("e", "x")), "set") == {
        "labels": 2,
        "training_texts": 5,
        "test_texts": 4,
        "smallest_label": 2,
        "repeated_training_rows": 1,
        "repeated_test_rows": 1,
        "test_texts_in_training": 1,
    }


def test_a_single_class_and_a_label_without_training_texts_are_one_sentence_each() -> None:
    two, one = labelled(("a", "x"), ("b", "y")), labelled(("c", "x"), ("d", "x"))
    with pytest.raises(InputError, match=r"^set\.train: all 2 texts have the label 'x'; there is nothing to classify"):
        check_classification(one, two, "set")
    with pytest.raises(InputError, match=r"^set\.test: all 2 texts have the label 'x'; there is nothing to classify"):
        check_classification(two, one, "set")
    with pytest.raises(InputError, match=r"^set\.test: the label 'v' and 1 more is in no training text"):
        check_classification(two, labelled(("a", "w"), ("b", "v"), ("c", "x")), "set")


def test_whole_numbers_keep_their_value_and_names_are_numbered_in_order() -> None:
    assert label_numbers(["3", "-1"], ["3"]) == ([3, -1], [3])
    assert label_numbers(["red", "blue", "3"], ["red"]) == ([2, 1, 0], [2])
    assert label_numbers(["1", "01"], ["01"]) == ([1, 0], [0])  # two labels


@given(st.lists(st.text(), min_size=1))
def test_labels_are_equal_where_their_numbers_are(labels: list[str]) -> None:
    numbers, again = label_numbers(labels, labels)
    assert numbers == again and len(set(zip(labels, numbers, strict=True))) == len(set(labels)) == len(set(numbers))


def test_the_demo_set_has_every_family_equally_often_and_tests_what_is_never_said() -> None:
    train, test = table("events-train"), table("events-test")
    families = {action.family for action in lexicon().actions}
    for part in (train, test):
        assert set(part["label"]) == families and len(part["text"]) == len(set(part["text"])) == 400
        assert {part["label"].count(family) for family in families} == {40}
    assert not set(train["text"]) & set(test["text"])
    assert table("events-train", seed=1) != train == table("events-train")
