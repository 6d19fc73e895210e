"""The models of a registry's plain entries: what a table is, where it comes from and what must hold for its rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from matryobench.data.derived import ComposedSource, MinedSource
from matryobench.validation import Settings

if TYPE_CHECKING:
    from matryobench.data.collections import Collection

Kind = Literal[
    "triplets", "scored-pairs", "text", "passages", "queries", "qrels", "pairs", "groups", "labelled", "instructed"
]

# The standard columns of each kind, in table order. `score` is a number, `grade` a whole number, the two columns of
# passages are lists of (docid, title, text) as in Tevatron's training files; all others are texts.
COLUMNS: dict[str, tuple[str, ...]] = {
    "triplets": ("anchor", "positive", "negative"),
    "scored-pairs": ("sentence1", "sentence2", "score"),
    "text": ("text",),
    "passages": ("doc_id", "title", "text"),
    "queries": ("query_id", "text"),
    "qrels": ("query_id", "doc_id", "grade"),
    "pairs": ("anchor", "positive"),
    "groups": ("query_id", "query", "positive_passages", "negative_passages"),
    "labelled": ("text", "label"),
    "instructed": (
        "query_instruction",
        "query",
        "positive_instruction",
        "positive",
        "negative_instruction",
        "negative",
    ),
}
# Columns that are kept when the source has them; `id` must then be unique. Retrieval tables have their own ids.
OPTIONAL_COLUMNS = ("id", "subset")
RETRIEVAL_KINDS = ("passages", "queries", "qrels", "groups")

# What files call the standard columns where an entry does not say: BEIR's archives and the hub's copies of them, MTEB's
# newer repositories, Tevatron, flat copies of MEDI. The first that a file has is taken.
ALIASES: dict[str, dict[str, tuple[str, ...]]] = {
    "passages": {"doc_id": ("_id", "docid", "id", "pid")},
    "queries": {"query_id": ("_id", "qid", "id", "query-id"), "text": ("query",)},
    "qrels": {
        "query_id": ("query-id", "qid"),
        "doc_id": ("corpus-id", "docid", "pid"),
        "grade": ("score", "relevance", "rel"),
    },
    "instructed": {
        "query_instruction": ("query_instruct",),
        "positive_instruction": ("pos_instruct",),
        "positive": ("pos",),
        "negative_instruction": ("neg_instruct",),
        "negative": ("neg",),
        "subset": ("task_name",),
    },
}

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


Source = HubSource | LocalSource | MirrorSource | DemoWorldSource | MinedSource | ComposedSource


class TableSource(Settings):
    """Where a table's rows come from and how their columns are called there; part of an entry, or of a collection's."""

    rows: int | None = Field(
        default=None, ge=1, description="number of rows; any other number is an error; null: not checked"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="names in the files -> standard names; columns not named here keep theirs"
    )
    header: list[str] | None = Field(
        default=None, min_length=1, description="the columns of .csv and .tsv files whose first line is a row already"
    )
    missing_text: str | None = Field(
        default=None, description="text to read where a file holds a null; null: a missing text is an error"
    )
    hub: HubSource | None = Field(default=None, description="source: files of a Hugging Face data set repository")
    local: LocalSource | None = Field(default=None, description="source: files of your own")
    mirror: MirrorSource | None = Field(default=None, description="source: files that only the local mirror has")
    demo_world: DemoWorldSource | None = Field(default=None, description="source: a table of the embedded demo world")

    @field_validator("columns")
    @classmethod
    def _standard_names(cls, columns: dict[str, str]) -> dict[str, str]:
        if len(set(columns.values())) < len(columns):
            raise ValueError("two file columns are renamed to the same name; keep one")
        return columns

    @model_validator(mode="after")
    def _one_source(self) -> TableSource:
        known = ("hub", "local", "mirror", "demo_world", "mined", "composed")
        keys = [key for key in known if key in type(self).model_fields]
        given = [key for key in keys if getattr(self, key) is not None]
        if len(given) != 1:
            has = f"has {' and '.join(given)}" if given else "has none"
            what = f"{', '.join(keys[:-1])} or {keys[-1]}"
            raise ValueError(f"exactly one source is needed ({what}) and the entry {has}")
        return self


class DatasetSpec(TableSource):
    """One plain entry of `config/datasets.yaml`: one table."""

    kind: Kind = Field(
        description="triplets (anchor, positive, negative), scored-pairs (sentence1, sentence2, score), text (text), pairs "
        "(anchor, positive), labelled (text, label), groups (query_id, query, positive_passages, negative_passages: "
        "Tevatron's training form), "
        "instructed (query_instruction, query, positive_instruction, positive, negative_instruction, negative), "
        "passages (doc_id, title, text), queries (query_id, text) or qrels (query_id, doc_id, grade)"
    )
    description: str = Field(min_length=10, description="what the rows are, and what to know before using them")
    citation: str = Field(min_length=4, description="paper or page that the data set is cited by")
    licence: str = Field(min_length=2, description="licence of the texts, as far as it is known")
    score_range: tuple[float, float] | None = Field(
        default=None, description="lowest and highest gold score (scored-pairs only)"
    )
    mined: MinedSource | None = Field(default=None, description="source: groups made from other entries (groups only)")
    composed: ComposedSource | None = Field(
        default=None,
        exclude_if=lambda source: source is None,  # entries without it keep the hash that they had
        description="source: triplets and groups of other entries with instructions (instructed only)",
    )

    _folder: Path = PrivateAttr(default_factory=Path)
    # The collections that a mined entry's parts name, so that the entry says by itself which tables it reads.
    _collections: dict[str, Collection] = PrivateAttr(default_factory=dict)
    # The same of a composed entry: its parts' entries.
    _parts: dict[str, DatasetSpec] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> DatasetSpec:
        if (self.kind == "scored-pairs") != (self.score_range is not None):
            raise ValueError("score_range: [lowest, highest] belongs to scored-pairs, always, and to no other kind")
        if self.score_range is not None and not self.score_range[0] < self.score_range[1]:
            raise ValueError("score_range must be [lowest, highest] with lowest < highest")
        if self.mined is not None and self.kind != "groups":
            raise ValueError(f"mined makes groups and the kind is {self.kind}; write kind: groups")
        if self.composed is not None and self.kind != "instructed":
            raise ValueError(f"composed makes instructed rows and the kind is {self.kind}; write kind: instructed")
        valid = self.valid_columns
        unknown = sorted(set(self.columns.values()) - set(valid))
        if unknown:
            names = ", ".join(valid)
            raise ValueError(f"columns renames to {unknown[0]!r}, which {self.kind} do not have; valid names: {names}")
        return self

    @property
    def valid_columns(self) -> tuple[str, ...]:
        """The columns that a table of this kind can have."""
        return COLUMNS[self.kind] + (() if self.kind in RETRIEVAL_KINDS else OPTIONAL_COLUMNS)

    @property
    def source(self) -> Source:
        """The one source that the entry has."""
        source = self.hub or self.local or self.mirror or self.demo_world or self.mined or self.composed
        assert source is not None  # the validator above made sure
        return source

    def local_paths(self) -> list[Path]:
        """Files of a `local` source as paths, relative ones taken from the YAML file's folder; [] for other sources."""
        return [self._folder / name for name in self.local.files] if self.local else []
