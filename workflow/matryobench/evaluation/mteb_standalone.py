"""`matryobench evaluate MODEL --task mteb`: classification sets and test collections of the registry, through mteb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.data.classifications import Classification
from matryobench.data.fetch import fetch_dataset
from matryobench.data.registry import load_classifications, load_collections, load_datasets
from matryobench.errors import InputError, unknown_name
from matryobench.evaluation.instructions import check_instructions
from matryobench.files import sha256_of
from matryobench.paths import DATASETS

if TYPE_CHECKING:
    from matryobench.data.collections import Collection
    from matryobench.data.mirror import Mirror
    from matryobench.evaluation.instructions import Family
    from matryobench.evaluation.mteb_results import MtebResult
    from matryobench.evaluation.mteb_tasks import Tables
    from matryobench.evaluation.standalone import Model


def registry_sets(names: Sequence[str], mirror: Mirror, offline: bool) -> dict[str, Callable[[], Tables]]:
    """Functions that fetch and give the tables of the registry's sets, by name, in the order given.

    Raises InputError, with `--sets`, for a name that is neither a classification set nor a test collection, and for none.
    """
    known: dict[str, Classification | Collection] = {**load_classifications(DATASETS), **load_collections(DATASETS)}
    if not names:
        raise InputError(f"--sets: name what to evaluate through mteb; there are {', '.join(sorted(known))}.")
    for name in names:
        if name not in known:
            raise unknown_name("--sets", "classification set or test collection", name, known)
    return {name: _loader(known[name], mirror, offline) for name in names}


def given_instructions(options: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """`KEY=TEXT` options as a mapping; see `evaluation.instructions` for the keys. Raises InputError for what is not one."""
    given: dict[str, str] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals or key in given:
            reason = "is given twice" if equals else "has no '='"
            raise InputError(f"--instruction: '{option}' {reason}; write KEY=TEXT, e.g. 'classification=Classify: '.")
        given[key] = text
    families: dict[Family, list[str]] = {"classification": [], "retrieval": []}
    classifications = load_classifications(DATASETS)
    for name in names:
        families["classification" if name in classifications else "retrieval"].append(name)
    check_instructions(given, families, "--instruction")
    return given


def evaluate_folder(
    model: Model,
    folder: Path,
    name: str,
    sets: Mapping[str, Callable[[], Tables]],
    instructions: Mapping[str, str],
    out: Path,
) -> list[MtebResult]:
    """Evaluates a model folder's cells on the sets, writes mteb's own results and items to `out`, prints what was met."""
    from matryobench.evaluation.mteb_results import write_mteb_items
    from matryobench.evaluation.mteb_runs import MtebSettings, evaluate_mteb
    from matryobench.models.folders import read_settings

    read = read_settings(folder)
    settings = MtebSettings(
        cells=tuple(model.cells),
        max_length=model.max_length,
        name=name,
        identity=sha256_of(sorted(read.weights.glob("*.safetensors"))[0])[:12],
        instructions=instructions,
        normalise=read.normalised,
    )
    results = evaluate_mteb(model.encoder, model.tokenizer, list(sets.values()), settings, out)
    write_mteb_items(results, name, out / "items.parquet")
    for result in results:
        print(f"{result.dataset}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in _shown(result)))
    print(f"mteb's own results -> {out / 'mteb'}")
    return results


def _shown(result: MtebResult) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in result.facts.items() if value and key != "tables_sha256"]


def _loader(found: Classification | Collection, mirror: Mirror, offline: bool) -> Callable[[], Tables]:
    def load() -> Tables:
        from matryobench.evaluation.mteb_tasks import ClassificationTables, RetrievalTables

        registry = load_datasets(DATASETS)

        def table(part: str) -> Any:
            return fetch_dataset(part, registry[part], mirror, offline)[0]

        if isinstance(found, Classification):
            return ClassificationTables(found.name, table(found.train), table(found.test), found.mteb_task)
        passages, queries, qrels = (table(part) for part in (found.corpus, found.queries, found.qrels))
        return RetrievalTables(found.name, passages, queries, qrels, found.exclude_own_id, found.mteb_task)

    return load
