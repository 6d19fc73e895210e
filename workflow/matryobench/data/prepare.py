"""The fetch and tokenise steps: from sources to checked parquet tables, the backbone's record, and token files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.config import Experiment, HubBackbone, PackageBackbone, PathBackbone
from matryobench.errors import InputError
from matryobench.files import sha256_of, write_json

if TYPE_CHECKING:
    from matryobench.data.specs import DatasetSpec
    from matryobench.plan import Plan

_PIECE = 4096  # texts that are Python objects at a time


def fetch_data(plan: Plan, name: str, out: Path) -> int:
    """Fetches and checks one dataset and writes it as a table; returns its number of rows.

    A mined or composed dataset is made from the tables of other datasets beside `out`, which are fetched first where they
    are not there.
    """
    from matryobench.data.fetch import fetch_dataset, fetch_files
    from matryobench.data.mirror import Mirror
    from matryobench.data.passages import write_passages
    from matryobench.data.records import write_table, write_texts
    from matryobench.data.registry import find_dataset

    spec = find_dataset(plan.datasets, name, "--dataset")
    _check_mteb_name(plan, name)
    if spec.mined is not None or spec.composed is not None:
        return _derive_data(plan, name, spec, out)
    mirror, offline = Mirror(plan.experiment.mirror), plan.experiment.offline
    if spec.kind in ("text", "passages") and spec.demo_world is None:  # what may be larger than memory
        files, facts = fetch_files(name, spec, mirror, offline)
        return (write_texts if spec.kind == "text" else write_passages)(files, spec, name, out, facts)
    table, meta = fetch_dataset(name, spec, mirror, offline)
    write_table(table, out, meta)
    return int(table.num_rows)


def _check_mteb_name(plan: Plan, dataset: str) -> None:
    """A set's name of an mteb task is looked up with its test texts: importing mteb takes seconds, too many for every
    plan, and evaluation, which needs the name, comes after training."""
    for family, sets in plan.mteb.evaluate.items() if plan.experiment.mteb is not None else ():
        for name in sets:
            if family == "classification":
                tested, task = plan.classifications[name].test, plan.classifications[name].mteb_task
            else:
                tested, task = plan.collections[name].queries, plan.collections[name].mteb_task
            if tested == dataset and task is not None:
                from matryobench.evaluation.mteb_tasks import find_task

                find_task(f"{name}.mteb_task", task, family)


def _derive_data(plan: Plan, name: str, spec: DatasetSpec, out: Path) -> int:
    """Makes a mined or composed dataset; the record lists the source files of all tables that it is made from."""
    from matryobench.data.composing import compose
    from matryobench.data.mining import mine
    from matryobench.data.records import read_meta, write_table
    from matryobench.data.registry import mined_inputs

    tables = {other: out.parent / f"{other}.parquet" for other in mined_inputs(spec)}
    for other, path in tables.items():
        if not path.is_file():
            fetch_data(plan, other, path)
    way = "mined" if spec.mined is not None else "composed"
    table, facts = (mine if spec.mined is not None else compose)(spec, tables)
    sources = {other: read_meta(path) for other, path in tables.items()}
    meta = {
        "dataset": name,
        "kind": spec.kind,
        "rows": table.num_rows,
        "licence": spec.licence,
        "citation": spec.citation,
        "source": way,
        "id": None,
        "revision": None,
        "sha256": {
            f"{other}: {file}": sha for other, facts in sources.items() for file, sha in facts["sha256"].items()
        },
        "tables_sha256": {other: sha256_of(path) for other, path in tables.items()},
        way: facts,
    }
    write_table(table, out, meta)
    return int(table.num_rows)


def fetch_backbone(experiment: Experiment, place: str) -> Path:
    """The backbone's folder, downloaded into the mirror first where it comes from the hub."""
    from matryobench.backbones import package_folder
    from matryobench.data.fetch import fetch_model
    from matryobench.data.mirror import Mirror

    match experiment.backbone:
        case HubBackbone() as backbone:
            return fetch_model(backbone.id, backbone.revision, Mirror(experiment.mirror), experiment.offline)
        case PackageBackbone() as backbone:
            return package_folder(backbone, place)
        case PathBackbone() as backbone:
            if not backbone.path.is_dir():
                raise InputError(f"{place}: backbone.path: there is no folder {backbone.path}; correct the path.")
            return backbone.path
        case _:
            raise InputError(f"{place}: backbone: it is pre-trained by this experiment, there is nothing to fetch.")


def write_backbone(folder: Path, out: Path) -> None:
    """Writes the backbone's record: its folder and the sha256 of every file that a run reads from it.

    A folder in the working folder, or beside the record, is written relative to the record: the record says nothing of this
    machine, and still holds where the results have moved.
    """
    from matryobench.models.folders import TOKENIZER_FILES, read_settings

    weights = read_settings(folder).weights
    files = sorted([*weights.glob("*.safetensors"), weights / "config.json", *(weights / n for n in TOKENIZER_FILES)])
    sums = {file.name: sha256_of(file) for file in files if file.is_file()}
    place = folder.absolute()
    if any(place.is_relative_to(home) for home in (Path.cwd(), out.absolute().parent)):
        place = Path(os.path.relpath(place, out.absolute().parent))
    write_json(out, {"folder": str(place), "sha256": sums})


def backbone_folder(record: Path) -> Path:
    """The folder that a backbone's record names."""
    try:
        folder = Path(json.loads(record.read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{record}: not a backbone record ({error}); run the fetch step again.") from None
    beside = Path(os.path.normpath(record.parent / folder))
    return beside if beside.is_dir() else folder


def tokenizer_sha256(folder: Path) -> dict[str, str]:
    """The sha256 of every tokenizer file of a model folder."""
    from matryobench.models.folders import TOKENIZER_FILES, read_settings

    weights = read_settings(folder).weights
    return {name: sha256_of(weights / name) for name in sorted(TOKENIZER_FILES) if (weights / name).is_file()}


def tokenise_table(
    table_file: Path, tokenizer_folder: Path, max_length: int, out: Path, query_max_length: int | None = None
) -> int:
    """Tokenises a fetched table with the tokenizer of a model folder; returns the number of texts in the token file.

    `max_length`: tokens per text at most; of groups, per passage, and `query_max_length` per query. Passages and queries
    give one text per row, groups a file of their own form (`group_tokens`), instructed rows every distinct pair of
    instruction and text once (`instructed_tokens`), all other kinds every distinct text once.
    Raises InputError for judgements, which are no texts, and where query_max_length is missing or does not belong.
    """
    from matryobench.data.group_tokens import tokenise_groups, write_group_tokens
    from matryobench.data.instructed_tokens import tokenise_instructed
    from matryobench.data.records import read_meta, read_table
    from matryobench.data.specs import COLUMNS
    from matryobench.data.tokens import tokenise, tokenise_passages, write_tokens
    from matryobench.models.folders import load_tokenizer

    described = read_meta(table_file)
    kind = described["kind"]
    if kind == "qrels":
        raise InputError(f"{table_file}: judgements have no texts to tokenise; name a table of passages or queries.")
    if (kind == "groups") != (query_max_length is not None):
        fix = "give the queries' maximum length too" if kind == "groups" else "leave the queries' maximum length out"
        raise InputError(f"{table_file}: this is a table of {kind}; {fix}.")
    meta = {key: described.get(key) for key in ("dataset", "kind", "source", "id", "revision", "sha256", "rows")}
    meta["table_sha256"] = sha256_of(table_file)
    meta["tokenizer_sha256"] = tokenizer_sha256(tokenizer_folder)
    tokenizer = load_tokenizer(tokenizer_folder)
    if query_max_length is not None:
        groups = tokenise_groups(_rows(table_file), tokenizer, query_max_length, max_length, meta)
        write_group_tokens(groups, out)
        return groups.queries + groups.passages
    if kind in ("passages", "queries"):
        out.parent.mkdir(parents=True, exist_ok=True)
        tokens = tokenise_passages(_texts(table_file, kind), tokenizer, max_length, meta, scratch=out.parent)
    elif kind == "instructed":
        rows = _instructed_rows(table_file)
        tokens = tokenise_instructed(rows, tokenizer, max_length, meta, str(table_file))
    else:
        table, _ = read_table(table_file)
        tokens = tokenise({c: table.column(c).to_pylist() for c in COLUMNS[kind]}, tokenizer, max_length, meta)
    write_tokens(tokens, out)
    return tokens.texts


def _texts(table_file: Path, kind: str) -> Iterator[list[str]]:
    """The passage texts, or queries, of a table in pieces, read from the disk as they are needed."""
    from matryobench.data.parquet import read_batches
    from matryobench.data.values import passage_text

    for batch in read_batches(table_file, ["title", "text"] if kind == "passages" else ["text"], _PIECE):
        columns = [column.to_pylist() for column in batch.columns]
        yield [passage_text(*parts) for parts in zip(*columns, strict=True)] if kind == "passages" else columns[0]


def _rows(table_file: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of a groups table in pieces, read from the disk as they are needed."""
    from matryobench.data.parquet import read_batches
    from matryobench.data.specs import COLUMNS

    for batch in read_batches(table_file, COLUMNS["groups"], _PIECE // 8):
        yield batch.to_pylist()


def _instructed_rows(table_file: Path) -> Iterator[dict[str, list[Any]]]:
    """The columns of an instructed table, `subset` too where it has one, in pieces, read from the disk as they are needed."""
    from matryobench.data.parquet import column_names, read_batches
    from matryobench.data.specs import COLUMNS

    subset = ["subset"] if "subset" in column_names(table_file) else []
    for batch in read_batches(table_file, [*COLUMNS["instructed"], *subset], _PIECE // 4):
        yield batch.to_pydict()
