"""Test collections: one entry of kind `retrieval` stands for a corpus, queries and judgements, each a plain entry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from matryobench.data.specs import DatasetSpec, Kind, LocalSource, TableSource
from matryobench.errors import InputError
from matryobench.validation import Settings, parse

Metric = Literal["ndcg@10", "mrr@10"]

# Suffix of the plain entry's name -> (key of the collection, kind, what the description says).
PARTS: dict[str, tuple[str, Kind, str]] = {
    "corpus": ("corpus", "passages", "documents"),
    "queries": ("queries", "queries", "queries"),
    "qrels": ("qrels", "qrels", "test judgements"),
    "train-qrels": ("train_qrels", "qrels", "training judgements"),
}


@dataclass(frozen=True)
class Collection:
    """A test collection by the names of its plain entries."""

    name: str
    corpus: str  # may be another collection's
    queries: str
    qrels: str
    train_qrels: str | None
    exclude_own_id: bool  # a query's own id is a document that must not be in its ranking
    metric: Metric  # the headline metric
    documents: int | None  # rows of the corpus as the registry states them
    description: str
    mteb_task: str | None = None  # the mteb task that it is evaluated as; None: a plain retrieval task of our own


class CollectionSpec(Settings):
    """An entry of kind `retrieval`: a test collection in the parts that BEIR has, or a folder in BEIR's form."""

    kind: Literal["retrieval"] = Field(description="retrieval: a corpus, queries and judgements")
    description: str = Field(min_length=10, description="what the collection is, and what to know before using it")
    citation: str | None = Field(
        default=None, min_length=4, description="paper or page that it is cited by; needed unless it is a folder"
    )
    licence: str | None = Field(
        default=None, min_length=2, description="licence of the texts as far as known; needed unless it is a folder"
    )
    metric: Metric = Field(default="ndcg@10", description="the set's headline metric")
    exclude_own_id: bool = Field(
        default=False, description="leave a query's own id out of its ranking (ArguAna, Quora)"
    )
    mteb_task: str | None = Field(
        default=None,
        min_length=1,
        description="mteb's name of the task whose settings it is evaluated with by mteb; null: mteb's defaults for "
        "retrieval with exclude_own_id as above",
    )
    corpus: TableSource | None = Field(default=None, description="the documents (doc_id, title, text)")
    corpus_of: str | None = Field(default=None, description="another retrieval entry whose corpus this one searches")
    queries: TableSource | None = Field(default=None, description="the queries (query_id, text), of all splits or one")
    qrels: TableSource | None = Field(default=None, description="the test judgements (query_id, doc_id, grade)")
    train_qrels: TableSource | None = Field(
        default=None, description="judgements to train on, of the same queries table"
    )
    folder: str | None = Field(
        default=None,
        description="instead of the parts: a folder of your own with corpus.jsonl, queries.jsonl (or .jsonl.gz) and "
        "qrels/<split>.tsv, absolute or relative to this YAML file's folder",
    )
    split: str = Field(default="test", description="the folder's judgements to evaluate on: qrels/<split>.tsv")
    train_split: str | None = Field(default=None, description="the folder's judgements to train on; null: none")

    @model_validator(mode="after")
    def _consistent(self) -> CollectionSpec:
        parts = [key for key in ("corpus", "corpus_of", "queries", "qrels", "train_qrels") if getattr(self, key)]
        if self.folder is not None:
            if parts:
                raise ValueError(f"a folder already has the {parts[0]}; remove 'folder' or '{parts[0]}'")
            return self
        if ("corpus" in parts) == ("corpus_of" in parts):
            raise ValueError("either 'corpus' or 'corpus_of' (or 'folder') is needed; give one of them")
        for key in ("queries", "qrels", "citation", "licence"):
            if getattr(self, key) is None:
                raise ValueError(f"key '{key}' is missing; add it")
        if self.train_split is not None or self.split != "test":
            raise ValueError(
                "split and train_split belong to a folder; name the judgements under qrels and train_qrels"
            )
        return self


def expand(name: str, spec: CollectionSpec, folder: Path, place: str) -> dict[str, DatasetSpec]:
    """The plain entries that a collection stands for: {name}.corpus, .queries, .qrels, .train-qrels, those it has.

    `folder` is what relative paths start from; `place` begins errors. Raises InputError where a part is not a valid entry.
    """
    sources = _folder_sources(spec, folder) if spec.folder is not None else _part_sources(spec)
    specs = {}
    for suffix, source in sources.items():
        key, kind, what = PARTS[suffix]
        entry = {
            **source.model_dump(exclude_none=True),
            "kind": kind,
            "description": f"{spec.description} ({what})",
            "citation": spec.citation or "files of your own",
            "licence": spec.licence or "not stated",
        }
        plain = parse(DatasetSpec, entry, f"{place}: {name}.{key}")
        plain._folder = folder
        specs[f"{name}.{suffix}"] = plain
    return specs


def collection(name: str, spec: CollectionSpec, others: dict[str, CollectionSpec], place: str) -> Collection:
    """The collection as names. Raises InputError where `corpus_of` names none that has a corpus of its own."""
    owner = spec.corpus_of or name
    if spec.corpus_of is not None and (owner not in others or others[owner].corpus_of is not None):
        owners = sorted(other for other, entry in others.items() if entry.corpus_of is None)
        raise InputError(
            f"{place}: {name}.corpus_of: '{owner}' is no retrieval entry with a corpus of its own; those that have one "
            f"are: {', '.join(owners)}."
        )
    corpus = others[owner].corpus
    has_training = spec.train_qrels is not None or spec.train_split is not None
    return Collection(
        name=name,
        corpus=f"{owner}.corpus",
        queries=f"{name}.queries",
        qrels=f"{name}.qrels",
        train_qrels=f"{name}.train-qrels" if has_training else None,
        exclude_own_id=spec.exclude_own_id,
        metric=spec.metric,
        documents=corpus.rows if corpus is not None else None,
        description=spec.description,
        mteb_task=spec.mteb_task,
    )


def beir_file(folder: Path, stem: str) -> Path:
    """`folder/stem.jsonl`, or its gzipped form where only that is there."""
    plain = folder / f"{stem}.jsonl"
    packed = folder / f"{stem}.jsonl.gz"
    return packed if packed.is_file() and not plain.is_file() else plain


def _part_sources(spec: CollectionSpec) -> dict[str, TableSource]:
    return {suffix: source for suffix, (key, _, _) in PARTS.items() if (source := getattr(spec, key)) is not None}


def _folder_sources(spec: CollectionSpec, base: Path) -> dict[str, TableSource]:
    """The parts of a folder in BEIR's form; `base` is what a relative folder starts from."""
    assert spec.folder is not None
    root = base / spec.folder
    files = {
        "corpus": beir_file(root, "corpus"),
        "queries": beir_file(root, "queries"),
        "qrels": root / "qrels" / f"{spec.split}.tsv",
    }
    if spec.train_split is not None:
        files["train-qrels"] = root / "qrels" / f"{spec.train_split}.tsv"
    # As the user wrote the folder, not resolved: the paths are part of what a fetched table records.
    names = {suffix: Path(spec.folder) / path.relative_to(root) for suffix, path in files.items()}
    return {suffix: TableSource(local=LocalSource(files=[str(path)])) for suffix, path in names.items()}
