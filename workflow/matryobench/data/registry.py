"""The data sets that runs can name: `config/datasets.yaml` as checked models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from matryobench.data.collections import Collection, CollectionSpec, collection, expand
from matryobench.data.specs import (
    ALIASES,
    COLUMNS,
    OPTIONAL_COLUMNS,
    DatasetSpec,
    DemoWorldSource,
    HubSource,
    Kind,
    LocalSource,
    MinedPart,
    MinedSource,
    MirrorSource,
    Source,
)
from matryobench.errors import InputError, unknown_name
from matryobench.validation import parse, read_yaml

__all__ = [
    "ALIASES", "COLUMNS", "OPTIONAL_COLUMNS", "Collection", "CollectionSpec", "DatasetSpec", "DemoWorldSource", "HubSource",
    "Kind", "LocalSource", "MinedPart", "MinedSource", "MirrorSource", "Source", "entry_schema", "find_collection",
    "find_dataset", "load_collections", "load_datasets", "load_entries", "mined_inputs",
]  # fmt: skip

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def load_entries(path: Path) -> dict[str, DatasetSpec | CollectionSpec]:
    """Reads a registry as it is written: a YAML mapping of names to entries, collections not yet expanded.

    Raises InputError, one sentence with file, data set, key and fix, when the file is missing, is not such a mapping,
    repeats a name, or an entry is not valid.
    """
    path = Path(path)
    entries = read_yaml(path)
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{path}: this must be a mapping of data set names to entries; see docs/data.md for the form.")
    specs: dict[str, DatasetSpec | CollectionSpec] = {}
    for name, entry in entries.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(
                f"{path}: the data set name {name!r} must be lower-case letters, digits, dots, dashes or underscores "
                "because files are named after it; rename it."
            )
        kind = entry.get("kind") if isinstance(entry, dict) else None
        if isinstance(kind, str) and kind not in (*get_args(Kind), "retrieval"):
            raise unknown_name(f"{path}: {name}.kind", "kind", kind, (*get_args(Kind), "retrieval"))
        place = f"{path}: {name}"
        specs[name] = parse(CollectionSpec, entry, place) if kind == "retrieval" else parse(DatasetSpec, entry, place)
    return specs


def load_datasets(path: Path) -> dict[str, DatasetSpec]:
    """The plain entries of a registry, each one table; a collection is expanded into its parts where it stands.

    Raises InputError as `load_entries` does, where an expanded name is taken, and where a mined entry names a data set that
    there is not or that has no training judgements.
    """
    path = Path(path)
    entries = load_entries(path)
    specs: dict[str, DatasetSpec] = {}
    for name, entry in entries.items():
        if isinstance(entry, DatasetSpec):
            entry._folder = path.parent
            parts = {name: entry}
        else:
            parts = expand(name, entry, path.parent, str(path))
        for part, spec in parts.items():
            if part in specs or (part != name and part in entries):
                raise InputError(
                    f"{path}: {part} is both an entry and a part of the collection {name}; rename the entry."
                )
            specs[part] = spec
    collections = _collections(entries, path)
    for name, spec in specs.items():
        if spec.mined is not None:
            _check_parts(f"{path}: {name}", spec.mined, specs, collections)
            named = [part.collection for part in spec.mined.parts if part.collection is not None]
            spec._collections = {other: collections[other] for other in named}
    return specs


def load_collections(path: Path) -> dict[str, Collection]:
    """The test collections of a registry by name. Raises InputError as `load_entries` does."""
    return _collections(load_entries(path), Path(path))


def find_dataset(datasets: dict[str, DatasetSpec], name: str, place: str) -> DatasetSpec:
    """The entry called `name`; an InputError that begins with `place` and names the nearest valid names if none is."""
    if name not in datasets:
        raise unknown_name(place, "data set", name, datasets)
    return datasets[name]


def find_collection(collections: dict[str, Collection], name: str, place: str) -> Collection:
    """The collection called `name`; an InputError that begins with `place` and names the nearest valid names if none is."""
    if name not in collections:
        raise unknown_name(place, "test collection", name, collections)
    return collections[name]


def mined_inputs(spec: DatasetSpec) -> list[str]:
    """The plain tables that a mined entry is made from, each once, in order; none for an entry with a source of its own.

    The entry must come from `load_datasets`.
    """
    names: list[str] = []
    for part in spec.mined.parts if spec.mined is not None else []:
        if part.collection is None:
            names.append(part.name)
            continue
        collection = spec._collections[part.collection]
        assert collection.train_qrels is not None  # the registry made sure
        names += [collection.corpus, collection.queries, collection.train_qrels]
    return list(dict.fromkeys(names))


def entry_schema() -> dict[str, Any]:
    """The JSON schema of one entry, plain or a collection."""
    adapter: TypeAdapter[DatasetSpec | CollectionSpec] = TypeAdapter(DatasetSpec | CollectionSpec)
    return adapter.json_schema()


def _collections(entries: dict[str, DatasetSpec | CollectionSpec], path: Path) -> dict[str, Collection]:
    specs = {name: entry for name, entry in entries.items() if isinstance(entry, CollectionSpec)}
    return {name: collection(name, spec, specs, str(path)) for name, spec in specs.items()}


def _check_parts(
    place: str, mined: MinedSource, datasets: dict[str, DatasetSpec], collections: dict[str, Collection]
) -> None:
    for number, part in enumerate(mined.parts):
        key = f"{place}.mined.parts.{number}"
        if part.collection is not None:
            if find_collection(collections, part.collection, f"{key}.collection").train_qrels is None:
                raise InputError(
                    f"{key}.collection: {part.collection} has no train_qrels; name a collection that has training "
                    "judgements, or add them to its entry."
                )
            continue
        wanted = "pairs" if part.pairs is not None else "triplets"
        kind = find_dataset(datasets, part.name, f"{key}.{wanted}").kind
        if kind != wanted:
            raise InputError(f"{key}.{wanted}: '{part.name}' has {kind}; name an entry of kind {wanted}.")
