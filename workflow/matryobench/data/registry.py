"""The data sets that runs can name: `config/datasets.yaml` as checked models, one entry per data set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from matryobench.errors import InputError, unknown_name
from matryobench.validation import Settings, parse, read_yaml

Kind = Literal["triplets", "scored-pairs", "text"]

# The standard columns of each kind, in table order; `score` is a number, all others are texts.
COLUMNS: dict[str, tuple[str, ...]] = {
    "triplets": ("anchor", "positive", "negative"),
    "scored-pairs": ("sentence1", "sentence2", "score"),
    "text": ("text",),
}
# Columns that are kept when the source has them; `id` must then be unique.
OPTIONAL_COLUMNS = ("id", "subset")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_HUB_ID = r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$"


class HubSource(Settings):
    """Files of one Hugging Face data set repository at one commit."""

    id: str = Field(pattern=_HUB_ID, description="repository id on the hub, organisation/name")
    revision: str | None = Field(
        default=None,
        description="commit (40 hexadecimal digits); null: the commit that the first fetch meets, then kept in the mirror",
    )
    files: list[str] = Field(min_length=1, description="paths in the repository, read in this order")
    repo_type: Literal["dataset"] = Field(default="dataset", description="the hub's repository type")

    @field_validator("revision")
    @classmethod
    def _commit(cls, revision: str | None) -> str | None:
        if revision is not None and not re.fullmatch(r"[0-9a-f]{40}", revision):
            raise ValueError("give a commit's 40 hexadecimal digits, or null to keep the commit of the first fetch")
        return revision


class LocalSource(Settings):
    """Plain files of the user."""

    files: list[str] = Field(min_length=1, description="paths, absolute or relative to this YAML file's folder")


class MirrorSource(Settings):
    """Files that exist only in a local mirror, put there by a tool or by hand."""

    files: list[str] = Field(
        min_length=1, description="paths relative to the mirror, for example local/mine/train.jsonl"
    )


class DemoWorldSource(Settings):
    """A table that the embedded demo world makes; needs no file."""

    table: str = Field(description="name of the demo world's table")
    seed: int = Field(default=0, ge=0, description="seed of the generator")


Source = HubSource | LocalSource | MirrorSource | DemoWorldSource


class DatasetSpec(Settings):
    """One entry of `config/datasets.yaml`: what a data set is, where it comes from and what must hold for its rows."""

    kind: Kind = Field(
        description="triplets (anchor, positive, negative), scored-pairs (sentence1, sentence2, score) or text (text)"
    )
    description: str = Field(min_length=10, description="what the rows are, and what to know before using them")
    citation: str = Field(min_length=4, description="paper or page that the data set is cited by")
    licence: str = Field(min_length=2, description="licence of the texts, as far as it is known")
    rows: int | None = Field(
        default=None, ge=1, description="number of rows; any other number is an error; null: not checked"
    )
    score_range: tuple[float, float] | None = Field(
        default=None, description="lowest and highest gold score (scored-pairs only)"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="names in the files -> standard names; columns not named here keep theirs"
    )
    missing_text: str | None = Field(
        default=None, description="text to read where a file holds a null; null: a missing text is an error"
    )
    hub: HubSource | None = Field(default=None, description="source: files of a Hugging Face data set repository")
    local: LocalSource | None = Field(default=None, description="source: files of your own")
    mirror: MirrorSource | None = Field(default=None, description="source: files that only the local mirror has")
    demo_world: DemoWorldSource | None = Field(default=None, description="source: a table of the embedded demo world")

    _folder: Path = PrivateAttr(default_factory=Path)

    @field_validator("columns")
    @classmethod
    def _standard_names(cls, columns: dict[str, str]) -> dict[str, str]:
        if len(set(columns.values())) < len(columns):
            raise ValueError("two file columns are renamed to the same name; keep one")
        return columns

    @model_validator(mode="after")
    def _consistent(self) -> DatasetSpec:
        given = [key for key in ("hub", "local", "mirror", "demo_world") if getattr(self, key) is not None]
        if len(given) != 1:
            has = f"has {' and '.join(given)}" if given else "has none"
            raise ValueError(f"exactly one source is needed (hub, local, mirror or demo_world) and the entry {has}")
        if (self.kind == "scored-pairs") != (self.score_range is not None):
            raise ValueError("score_range: [lowest, highest] belongs to scored-pairs, always, and to no other kind")
        if self.score_range is not None and not self.score_range[0] < self.score_range[1]:
            raise ValueError("score_range must be [lowest, highest] with lowest < highest")
        unknown = sorted(set(self.columns.values()) - {*COLUMNS[self.kind], *OPTIONAL_COLUMNS})
        if unknown:
            valid = ", ".join((*COLUMNS[self.kind], *OPTIONAL_COLUMNS))
            raise ValueError(f"columns renames to {unknown[0]!r}, which {self.kind} do not have; valid names: {valid}")
        return self

    @property
    def source(self) -> Source:
        """The one source that the entry has."""
        source = self.hub or self.local or self.mirror or self.demo_world
        assert source is not None  # the validator above made sure
        return source

    def local_paths(self) -> list[Path]:
        """Files of a `local` source as paths, relative ones taken from the YAML file's folder; [] for other sources."""
        return [self._folder / name for name in self.local.files] if self.local else []


def load_datasets(path: Path) -> dict[str, DatasetSpec]:
    """Reads a registry: a YAML mapping of data set names to entries.

    Raises InputError, one sentence with file, data set, key and fix, when the file is missing, is not such a mapping,
    repeats a name, or an entry is not a valid `DatasetSpec`.
    """
    path = Path(path)
    entries = read_yaml(path)
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{path}: this must be a mapping of data set names to entries; see docs/data.md for the form.")
    specs: dict[str, DatasetSpec] = {}
    for name, entry in entries.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(
                f"{path}: the data set name {name!r} must be lower-case letters, digits, dots, dashes or underscores "
                "because files are named after it; rename it."
            )
        specs[name] = parse(DatasetSpec, entry, f"{path}: {name}")
        specs[name]._folder = path.parent
    return specs


def find_dataset(datasets: dict[str, DatasetSpec], name: str, place: str) -> DatasetSpec:
    """The entry called `name`; an InputError that begins with `place` and names the nearest valid names if none is."""
    if name not in datasets:
        raise unknown_name(place, "data set", name, datasets)
    return datasets[name]
