"""mteb tasks over our own tables: mteb's class for a task's name with the tables as its data, or a plain task of ours.

With a name (an entry's `mteb_task`) everything but the rows is that task's: samples per label, number of experiments,
seeds, metric, whether equal ids are ignored, and what it does to the data after loading (its `dataset_transform`). Without
one, mteb's defaults for the family hold. Results carry a hash of the tables as the revision of the data.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from datasets import Dataset, DatasetDict
from mteb import get_task
from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.get_tasks import TASK_LIST

from matryobench.data.classifications import check_classification, label_numbers
from matryobench.data.collection_tables import check_collection
from matryobench.errors import InputError
from matryobench.evaluation.metrics import qrels_of
from matryobench.evaluation.mteb_classification import PerCell, Rows

if TYPE_CHECKING:
    import pyarrow as pa
    from mteb import AbsTask

    from matryobench.evaluation.instructions import Family

MTEB_VERSION = importlib.metadata.version("mteb")
ENGLISH = "eng-Latn"
_FAMILIES: dict[Family, type[Any]] = {"classification": AbsTaskClassification, "retrieval": AbsTaskRetrieval}


@dataclass(frozen=True)
class ClassificationTables:
    """A classification set: tables with the columns text, label."""

    name: str
    train: pa.Table
    test: pa.Table
    mteb_task: str | None = None
    family: ClassVar[Family] = "classification"

    def tables(self) -> list[pa.Table]:
        """All tables."""
        return [self.train, self.test]


@dataclass(frozen=True)
class RetrievalTables:
    """A test collection: tables with the columns of passages, queries and qrels (see data.specs.COLUMNS)."""

    name: str
    passages: pa.Table
    queries: pa.Table
    qrels: pa.Table
    exclude_own_id: bool = False  # where mteb_task is given, its own rule holds
    mteb_task: str | None = None
    family: ClassVar[Family] = "retrieval"

    def tables(self) -> list[pa.Table]:
        """All tables."""
        return [self.passages, self.queries, self.qrels]


Tables = ClassificationTables | RetrievalTables


@dataclass(frozen=True)
class TableTask:
    """A task that is ready to evaluate: its data are loaded, one split and one subset are chosen.

    revision: hash of the tables; items: number of test texts, or queries; facts: what checking the tables found.
    """

    task: AbsTask
    split: str
    subset: str
    revision: str
    items: int
    facts: dict[str, Any]


class _Classification(PerCell):
    """A classification with mteb's defaults and metadata of its own."""

    def __init__(self, metadata: TaskMetadata) -> None:
        self.metadata = metadata
        super().__init__()


class PerQuery(AbsTaskRetrieval):
    """A retrieval task that keeps what it computed per query of its last evaluation, which mteb's results leave out.

    `per_query`: query id -> pytrec_eval's name of a metric -> value.
    """

    per_query: dict[str, dict[str, float]] | None = None

    def task_specific_scores(self, scores: dict[str, dict[str, float]], *arguments: Any, **named: Any) -> Any:
        """mteb's hook for further scores of a task, which gets those of all queries."""
        self.per_query = dict(scores)
        return super().task_specific_scores(scores, *arguments, **named)


class _Retrieval(PerQuery):
    """A retrieval task with mteb's defaults and metadata of its own."""

    def __init__(self, metadata: TaskMetadata, ignore_identical_ids: bool) -> None:
        self.metadata = metadata
        self.ignore_identical_ids = ignore_identical_ids
        super().__init__()


def table_task(tables: Tables) -> TableTask:
    """The mteb task of a set's tables.

    Raises InputError where mteb does not know the name or it is of another family, where the task is none that training and
    test tables can stand for, and where the tables do not fit together (`check_classification`, `check_collection`).
    """
    return _classification(tables) if isinstance(tables, ClassificationTables) else _retrieval(tables)


def content_hash(tables: Tables) -> str:
    """SHA-256 (40 digits of it) of all that a task reads of the tables."""
    found = hashlib.sha256()
    for table in tables.tables():
        for column in table.column_names:
            found.update(f"\x00{column}\x00{table.num_rows}\x00".encode())
            for chunk in table.column(column).iterchunks():  # not the whole column, which may be a corpus
                for value in chunk.to_pylist():
                    text = str(value).encode()
                    found.update(len(text).to_bytes(8, "little") + text)
    return found.hexdigest()[:40]


def _classification(tables: ClassificationTables) -> TableTask:
    facts = check_classification(tables.train, tables.test, tables.name)
    revision = content_hash(tables)
    task = (
        _Classification(_metadata(tables.name, "Classification", "accuracy", revision))
        if tables.mteb_task is None
        else _known(tables, revision)
    )
    if task.is_cross_validation or not isinstance(task.input_column_name, str):
        raise InputError(
            f"{tables.name}.mteb_task: {tables.mteb_task} is cross-validated or has inputs besides one text, which training "
            "and test tables cannot stand for; name another task or none."
        )
    split, subset = _part(task, tables)
    numbers = label_numbers(*(table.column("label").to_pylist() for table in tables.tables()))
    data = DatasetDict({
        part: Rows.from_dict({
            task.input_column_name: table.column("text").to_pylist(), task.label_column_name: labels,
        })
        for part, table, labels in zip((task.train_split, split), tables.tables(), numbers, strict=True)
    })  # fmt: skip
    task.dataset = {subset: data} if task.metadata.is_multilingual else data
    _transform(task, tables)
    kept = task.dataset[subset] if task.metadata.is_multilingual else task.dataset
    for part, rows in kept.items():
        if not isinstance(rows, Rows):  # drawn by the transform
            kept[part] = Rows.from_dict(rows.to_dict())
    sizes = {"training_texts": len(kept[task.train_split]), "test_texts": len(kept[split])}
    settings = {"samples_per_label": task.samples_per_label, "experiments": task.n_experiments}
    return TableTask(task, split, subset, revision, sizes["test_texts"], {**facts, **sizes, **settings})


def _retrieval(tables: RetrievalTables) -> TableTask:
    queries, facts = check_collection(tables.passages, tables.queries, tables.qrels, tables.name)
    revision = content_hash(tables)
    task = (
        _Retrieval(_metadata(tables.name, "Retrieval", "ndcg_at_10", revision), tables.exclude_own_id)
        if tables.mteb_task is None
        else _known(tables, revision)
    )
    split, subset = _part(task, tables)
    columns = {new: tables.passages.column(old).to_pylist() for new, old in _PASSAGES.items()}
    asked = {"id": queries.column("query_id").to_pylist(), "text": queries.column("text").to_pylist()}
    data = {
        "corpus": Dataset.from_dict(columns),
        "queries": Dataset.from_dict(asked),
        "relevant_docs": qrels_of(tables.qrels),
        "top_ranked": None,
    }
    task.dataset = {subset: {split: data}}
    _transform(task, tables)
    settings = {"own_id_excluded": task.ignore_identical_ids}
    return TableTask(task, split, subset, revision, len(data["queries"]), {**facts, **settings})


_PASSAGES = {"id": "doc_id", "title": "title", "text": "text"}


def find_task(place: str, name: str, family: Family) -> Any:
    """mteb's task of that name, without its data; `place` names the entry and key in errors.

    Raises InputError where mteb does not know the name, and where its task is of another family.
    """
    names = [one.metadata.name for one in TASK_LIST]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"{place}: mteb {MTEB_VERSION} knows no task {name!r}; {hint}Correct the name, or remove it for a plain "
            f"{family} task."
        )
    task = get_task(name)
    if not isinstance(task, _FAMILIES[family]) or task.is_aggregate:
        raise InputError(
            f"{place}: mteb's {name} is a {task.metadata.type} task and not one of {family}; name one that is, or none."
        )
    return task


def _known(tables: Tables, revision: str) -> Any:
    """mteb's task of the tables' name, its data marked as being ours."""
    task = find_task(f"{tables.name}.mteb_task", tables.mteb_task or "", tables.family)
    kind = type(task)
    task = type(kind.__name__, (PerQuery if isinstance(task, AbsTaskRetrieval) else PerCell, kind), {})()
    ours = {"path": f"matryobench/{tables.name}", "revision": revision}
    task.metadata = task.metadata.model_copy(update={"dataset": ours})
    return task


def _part(task: Any, tables: Tables) -> tuple[str, str]:
    """The split and the subset that the tables stand for, which are all that is left of the task."""
    splits = list(task.eval_splits)
    split = "test" if "test" in splits else splits[0]
    task.filter_eval_splits([split])
    if not task.metadata.is_multilingual:
        return split, "default"
    english = [subset for subset, languages in task.metadata.eval_langs.items() if languages == [ENGLISH]]
    if "en" not in english and len(english) != 1:
        raise InputError(
            f"{tables.name}.mteb_task: {tables.mteb_task} has the subsets {', '.join(task.metadata.eval_langs)} and not one "
            "in English, which the tables could stand for; name another task or none."
        )
    subset = "en" if "en" in english else english[0]
    task.hf_subsets = [subset]
    return split, subset


def _transform(task: Any, tables: Tables) -> None:
    """What mteb's loading does after reading the data, e.g. drawing 2,048 of the test texts."""
    try:
        task.dataset_transform()
    except Exception as error:  # noqa: BLE001 (any code of any task)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{tables.name}.mteb_task: {tables.mteb_task} changes its data after loading, which fails on these tables "
            f"({reason}); remove mteb_task for a plain {tables.family} task."
        ) from None
    task.data_loaded = True


def _metadata(name: str, kind: str, metric: str, revision: str) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        description=f"{name}: a {kind.lower()} task over local tables",
        dataset={"path": f"matryobench/{name}", "revision": revision},
        type=kind,
        category="t2c" if kind == "Classification" else "t2t",
        eval_splits=["test"],
        eval_langs=[ENGLISH],
        main_score=metric,
    )
