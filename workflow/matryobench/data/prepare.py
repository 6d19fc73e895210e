"""The fetch and tokenise steps: from sources to checked parquet tables, the backbone's record, and token files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from matryobench.config import Experiment, HubBackbone, PackageBackbone, PathBackbone
from matryobench.errors import InputError
from matryobench.files import sha256_of, write_json

if TYPE_CHECKING:
    from matryobench.plan import Plan


def fetch_data(plan: Plan, name: str, out: Path) -> int:
    """Fetches and checks one dataset and writes it as a table; returns its number of rows."""
    from matryobench.data.fetch import fetch_dataset
    from matryobench.data.mirror import Mirror
    from matryobench.data.records import write_table
    from matryobench.data.registry import find_dataset

    spec = find_dataset(plan.datasets, name, "--dataset")
    table, meta = fetch_dataset(name, spec, Mirror(plan.experiment.mirror), plan.experiment.offline)
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
    """Writes the backbone's record: its folder and the sha256 of every file that a run reads from it."""
    from matryobench.models.folders import TOKENIZER_FILES, read_settings

    weights = read_settings(folder).weights
    files = sorted([*weights.glob("*.safetensors"), weights / "config.json", *(weights / n for n in TOKENIZER_FILES)])
    sums = {file.name: sha256_of(file) for file in files if file.is_file()}
    write_json(out, {"folder": str(folder.resolve()), "sha256": sums})


def backbone_folder(record: Path) -> Path:
    """The folder that a backbone's record names."""
    try:
        return Path(json.loads(record.read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{record}: not a backbone record ({error}); run the fetch step again.") from None


def tokenise_table(table_file: Path, tokenizer_folder: Path, max_length: int, out: Path) -> int:
    """Tokenises a fetched table with the tokenizer of a model folder; returns the number of distinct texts."""
    from matryobench.data.records import read_table
    from matryobench.data.registry import COLUMNS
    from matryobench.data.tokens import tokenise, write_tokens
    from matryobench.models.folders import load_tokenizer

    table, meta = read_table(table_file)
    columns = {name: table.column(name).to_pylist() for name in COLUMNS[meta["kind"]]}
    facts = {key: meta.get(key) for key in ("dataset", "kind", "source", "id", "revision", "sha256", "rows")}
    tokens = tokenise(
        columns, load_tokenizer(tokenizer_folder), max_length, {**facts, "table_sha256": sha256_of(table_file)}
    )
    write_tokens(tokens, out)
    return tokens.texts
