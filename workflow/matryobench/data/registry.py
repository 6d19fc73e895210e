"""The data sets that runs can name: `config/datasets.yaml` as checked models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeAlias, get_args

from pydantic import TypeAdapter

from matryobench.data.classifications import (
    Classification,
    ClassificationSpec,
    classification,
    expand_classification,
)
from matryobench.data.collections import Collection, CollectionSpec, collection, expand
from matryobench.data.derived import ComposedPart, ComposedSource, MinedPart, MinedSource
from matryobench.data.specs import (
    ALIASES,
    COLUMNS,
    OPTIONAL_COLUMNS,
    DatasetSpec,
    DemoWorldSource,
    HubSource,
    Kind,
    LocalSource,
    MirrorSource,
    Source,
)
from matryobench.errors import InputError, unknown_name
from matryobench.validation import parse, read_yaml

__all__ = [
    "ALIASES", "COLUMNS", "OPTIONAL_COLUMNS", "Classification", "ClassificationSpec", "Collection", "CollectionSpec",
    "ComposedPart", "ComposedSource", "DatasetSpec", "DemoWorldSource", "Entry", "HubSource", "Kind", "LocalSource",
    "MinedPart", "MinedSource", "MirrorSource", "Source", "entry_schema", "find_classification", "find_collection",
    "find_dataset", "load_classifications", "load_collections", "load_datasets", "load_entries", "mined_inputs",
]  # fmt: skip

Entry: TypeAlias = DatasetSpec | CollectionSpec | ClassificationSpec

_EXPANDED = ("retrieval", "classification")  # kinds that stand for several tables
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def load_entries(path: Path) -> dict[str, Entry]:
    """Reads a registry as it is written: a YAML mapping of names to entries, none of them expanded yet.

    Raises InputError, one sentence with file, data set, key and fix, when the file is missing, is not such a mapping,
    repeats a name, or an entry is not valid.
    """
    path = Path(path)
    entries = read_yaml(path)
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{path}: this must be a mapping of data set names to entries; see docs/data.md for the form.")
    specs: dict[str, Entry] = {}
    kinds = (*get_args(Kind), *_EXPANDED)
    for name, entry in entries.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(
                f"{path}: the data set name {name!r} must be lower-case letters, digits, dots, dashes or underscores "
                "because files are named after it; rename it."
            )
        kind = entry.get("kind") if isinstance(entry, dict) else None
        if isinstance(kind, str) and kind not in kinds:
            raise unknown_name(f"{path}: {name}.kind", "kind", kind, kinds)
        place = f"{path}: {name}"
        if kind == "retrieval":
            specs[name] = parse(CollectionSpec, entry, place)
        elif kind == "classification":
            specs[name] = parse(ClassificationSpec, entry, place)
        else:
            specs[name] = parse(DatasetSpec, entry, place)
    return specs


def load_datasets(path: Path) -> dict[str, DatasetSpec]:
    """The plain entries of a registry, each one table; collections and classification sets are expanded into their parts
    where they stand.

    Raises InputError as `load_entries` does, where an expanded name is taken, and where a mined or composed entry names a
    data set that there is not, that is of another kind, or that has no training judgements.
    """
    path = Path(path)
    entries = load_entries(path)
    specs: dict[str, DatasetSpec] = {}
    for name, entry in entries.items():
        if isinstance(entry, DatasetSpec):
            entry._folder = path.parent
            parts = {name: entry}
        elif isinstance(entry, ClassificationSpec):
            parts = expand_classification(name, entry, path.parent, str(path))
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
        if spec.composed is not None:
            spec._parts = _composed_parts(f"{path}: {name}", spec.composed, specs)
    return specs


def load_collections(path: Path) -> dict[str, Collection]:
    """The test collections of a registry by name. Raises InputError as `load_entries` does."""
    return _collections(load_entries(path), Path(path))


def load_classifications(path: Path) -> dict[str, Classification]:
    """The classification sets of a registry by name. Raises InputError as `load_entries` does."""
    entries = load_entries(path)
    return {name: classification(name, one) for name, one in entries.items() if isinstance(one, ClassificationSpec)}


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


def find_classification(sets: dict[str, Classification], name: str, place: str) -> Classification:
    """The set called `name`; an InputError that begins with `place` and names the nearest valid names if none is."""
    if name not in sets:
        raise unknown_name(place, "classification set", name, sets)
    return sets[name]


def mined_inputs(spec: DatasetSpec) -> list[str]:
    """The plain tables that a mined or composed entry is made from, each once; none for an entry with files of its own.

    Where a composed entry's parts are mined themselves, what those are made from is among them, before them. The entry must
    come from `load_datasets`.
    """
    names: list[str] = []
    for name, part_spec in spec._parts.items():
        names += [*mined_inputs(part_spec), name]
    for part in spec.mined.parts if spec.mined is not None else []:
        if part.collection is None:
            names.append(part.name)
            continue
        collection = spec._collections[part.collection]
        assert collection.train_qrels is not None  # the registry made sure
        names += [collection.corpus, collection.queries, collection.train_qrels]
    return list(dict.fromkeys(names))


def entry_schema() -> dict[str, Any]:
    """The JSON schema of one entry, plain, a collection or a classification set."""
    adapter: TypeAdapter[Entry] = TypeAdapter(Entry)
    return adapter.json_schema()


def _collections(entries: dict[str, Entry], path: Path) -> dict[str, Collection]:
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


def _composed_parts(place: str, composed: ComposedSource, datasets: dict[str, DatasetSpec]) -> dict[str, DatasetSpec]:
    """The entries that the parts name, each of the kind that its key says."""
    found = {}
    for number, part in enumerate(composed.parts):
        wanted = "triplets" if part.triplets is not None else "groups"
        key = f"{place}.composed.parts.{number}.{wanted}"
        entry = found[part.name] = find_dataset(datasets, part.name, key)
        if entry.kind != wanted:
            raise InputError(f"{key}: '{part.name}' has {entry.kind}; name an entry of kind {wanted}.")
        if part.mined_from is None:
            continue
        if entry.mined is None:
            raise InputError(f"{key}: '{part.name}' is not mined here, so its groups have no parts; remove mined_from.")
        names = [mined.name for mined in entry.mined.parts]
        if part.mined_from not in names:
            raise unknown_name(f"{place}.composed.parts.{number}.mined_from", "part", part.mined_from, names)
    return found
