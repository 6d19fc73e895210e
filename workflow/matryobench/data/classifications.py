"""Classification sets: one entry of kind `classification` stands for training and test texts, each a plain entry.

A classifier is fitted on embeddings of the training texts and judged on the test texts, as mteb does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from matryobench.data.specs import DatasetSpec, TableSource
from matryobench.errors import InputError
from matryobench.validation import Settings, parse

if TYPE_CHECKING:
    import pyarrow as pa

# Suffix of the plain entry's name, which is also the key -> what the description says.
PARTS = {"train": "training texts", "test": "test texts"}


@dataclass(frozen=True)
class Classification:
    """A classification set by the names of its plain entries."""

    name: str
    train: str
    test: str
    mteb_task: str | None  # the mteb task that it is evaluated as; None: a plain classification task of our own
    description: str


class ClassificationSpec(Settings):
    """An entry of kind `classification`: texts with labels, to train a classifier on and to judge it by."""

    kind: Literal["classification"] = Field(description="classification: training and test texts with labels")
    description: str = Field(
        min_length=10, description="what the texts and labels are, and what to know before using them"
    )
    citation: str = Field(min_length=4, description="paper or page that the set is cited by")
    licence: str = Field(min_length=2, description="licence of the texts, as far as it is known")
    mteb_task: str | None = Field(
        default=None,
        min_length=1,
        description="mteb's name of the task whose settings (samples per label, seeds, metric) it is evaluated with; "
        "null: mteb's defaults for classification",
    )
    train: TableSource = Field(description="the texts that classifiers are fitted on (text, label)")
    test: TableSource = Field(description="the texts that they are judged by (text, label)")


def expand_classification(name: str, spec: ClassificationSpec, folder: Path, place: str) -> dict[str, DatasetSpec]:
    """The plain entries that a set stands for: {name}.train and {name}.test, of kind `labelled`.

    `folder` is what relative paths start from; `place` begins errors. Raises InputError where a part is not a valid entry.
    """
    specs = {}
    for part, what in PARTS.items():
        source: TableSource = getattr(spec, part)
        entry = {
            **source.model_dump(exclude_none=True),
            "kind": "labelled",
            "description": f"{spec.description} ({what})",
            "citation": spec.citation,
            "licence": spec.licence,
        }
        plain = parse(DatasetSpec, entry, f"{place}: {name}.{part}")
        plain._folder = folder
        specs[f"{name}.{part}"] = plain
    return specs


def classification(name: str, spec: ClassificationSpec) -> Classification:
    """The set as names."""
    return Classification(name, f"{name}.train", f"{name}.test", spec.mteb_task, spec.description)


def check_classification(train: pa.Table, test: pa.Table, name: str) -> dict[str, Any]:
    """Facts of a set's tables (columns text, label), which are checked against each other; `name` begins the errors.

    Facts: `labels`; `training_texts` and `test_texts`; `smallest_label`, the training texts of the rarest label;
    `repeated_training_rows` and `repeated_test_rows`, rows with the text and label of an earlier one;
    `test_texts_in_training`, rows of the test table whose text is also in training. Repeats stay, as in mteb.
    Raises InputError where a table has a single label, and where training lacks a label of the test table.
    """
    rows = {part: _rows(table) for part, table in (("train", train), ("test", test))}
    labels = {part: {label for _, label in pairs} for part, pairs in rows.items()}
    for part, found in labels.items():
        if len(found) < 2:
            raise InputError(
                f"{name}.{part}: all {len(rows[part])} texts have the label {next(iter(found), '')!r}; there is nothing to "
                "classify, so give texts of at least two labels."
            )
    if unseen := sorted(labels["test"] - labels["train"]):
        more = f" and {len(unseen) - 1} more" if len(unseen) > 1 else ""
        raise InputError(
            f"{name}.test: the label {unseen[0]!r}{more} is in no training text, so no classifier can predict it; correct "
            "the labels, or take those texts out."
        )
    counts = dict.fromkeys(labels["train"], 0)
    for _, label in rows["train"]:
        counts[label] += 1
    known = {text for text, _ in rows["train"]}
    return {
        "labels": len(labels["train"]),
        "training_texts": len(rows["train"]),
        "test_texts": len(rows["test"]),
        "smallest_label": min(counts.values()),
        "repeated_training_rows": len(rows["train"]) - len(set(rows["train"])),
        "repeated_test_rows": len(rows["test"]) - len(set(rows["test"])),
        "test_texts_in_training": sum(text in known for text, _ in rows["test"]),
    }


def label_numbers(train: list[str], test: list[str]) -> tuple[list[int], list[int]]:
    """Labels as the whole numbers that classifiers take: their own value where all are such, else places in sorted order."""
    names = sorted({*train, *test})
    whole = all(name.removeprefix("-").isascii() and name.removeprefix("-").isdecimal() for name in names)
    numbers = {name: int(name) if whole else place for place, name in enumerate(names)}
    if len(set(numbers.values())) < len(names):  # "1" and "01" are two labels
        numbers = {name: place for place, name in enumerate(names)}
    return [numbers[label] for label in train], [numbers[label] for label in test]


def _rows(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table.column("text").to_pylist(), table.column("label").to_pylist(), strict=True))
