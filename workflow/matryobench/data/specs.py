"""The models of a registry's plain entries: what a table is, where it comes from and what must hold for its rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from matryobench.validation import Settings

if TYPE_CHECKING:
    from matryobench.data.collections import Collection

Kind = Literal["triplets", "scored-pairs", "text", "passages", "queries", "qrels", "pairs", "groups"]

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
}
# Columns that are kept when the source has them; `id` must then be unique. Retrieval tables have their own ids.
OPTIONAL_COLUMNS = ("id", "subset")
RETRIEVAL_KINDS = ("passages", "queries", "qrels", "groups")

# What files call the standard columns where an entry does not say: BEIR's archives and the hub's copies of them, MTEB's
# newer repositories, Tevatron. The first that a file has is taken.
ALIASES: dict[str, dict[str, tuple[str, ...]]] = {
    "passages": {"doc_id": ("_id", "docid", "id", "pid")},
    "queries": {"query_id": ("_id", "qid", "id", "query-id"), "text": ("query",)},
    "qrels": {
        "query_id": ("query-id", "qid"),
        "doc_id": ("corpus-id", "docid", "pid"),
        "grade": ("score", "relevance", "rel"),
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


class MinedPart(Settings):
    """One data set that training groups are made from."""

    collection: str | None = Field(default=None, description="a retrieval entry; its train_qrels say what is relevant")
    pairs: str | None = Field(
        default=None, description="an entry of kind pairs; an anchor asks, all positives are the corpus"
    )
    triplets: str | None = Field(
        default=None, description="an entry of kind triplets; as pairs, and its negatives are taken before any is mined"
    )
    limit: int | None = Field(
        default=None, ge=1, description="queries to use, drawn with the seed; null: all that have a positive"
    )
    min_grade: int = Field(
        default=1,
        ge=1,
        description="lowest grade of a positive (collection only); what is relevant below it is no negative either",
    )

    pool: Literal["corpus", "judged"] = Field(
        default="corpus",
        description="where negatives come from: the whole corpus, or the documents that train_qrels name (collection only), "
        "for corpora in which some documents are kept for evaluation",
    )

    @model_validator(mode="after")
    def _one(self) -> MinedPart:
        given = [key for key in ("collection", "pairs", "triplets") if getattr(self, key) is not None]
        if len(given) != 1:
            has = f"has {' and '.join(given)}" if given else "has none"
            raise ValueError(f"a part names one of collection, pairs or triplets and this one {has}")
        for key, usual in (("min_grade", 1), ("pool", "corpus")):
            if getattr(self, key) != usual and self.collection is None:
                raise ValueError(f"{key} is about judgements, which only a collection has; remove it")
        return self

    @property
    def name(self) -> str:
        """The entry that the part names."""
        return self.collection or self.pairs or self.triplets or ""


class MinedSource(Settings):
    """Training groups made here: positives from judgements or pairs, hard negatives mined with BM25."""

    parts: list[MinedPart] = Field(min_length=1, description="data sets that the groups are made from, in this order")
    negatives: int = Field(default=7, ge=1, description="negatives per query")
    depth: int = Field(
        default=100, ge=1, description="how many of BM25's best non-relevant passages the negatives are drawn from"
    )
    seed: int = Field(default=0, ge=0, description="seed of all draws")


Source = HubSource | LocalSource | MirrorSource | DemoWorldSource | MinedSource


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
        keys = [key for key in ("hub", "local", "mirror", "demo_world", "mined") if key in type(self).model_fields]
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
        "(anchor, positive), groups (query_id, query, positive_passages, negative_passages: Tevatron's training form), "
        "passages (doc_id, title, text), queries (query_id, text) or qrels (query_id, doc_id, grade)"
    )
    description: str = Field(min_length=10, description="what the rows are, and what to know before using them")
    citation: str = Field(min_length=4, description="paper or page that the data set is cited by")
    licence: str = Field(min_length=2, description="licence of the texts, as far as it is known")
    score_range: tuple[float, float] | None = Field(
        default=None, description="lowest and highest gold score (scored-pairs only)"
    )
    mined: MinedSource | None = Field(default=None, description="source: groups made from other entries (groups only)")

    _folder: Path = PrivateAttr(default_factory=Path)
    # The collections that a mined entry's parts name, so that the entry says by itself which tables it reads.
    _collections: dict[str, Collection] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> DatasetSpec:
        if (self.kind == "scored-pairs") != (self.score_range is not None):
            raise ValueError("score_range: [lowest, highest] belongs to scored-pairs, always, and to no other kind")
        if self.score_range is not None and not self.score_range[0] < self.score_range[1]:
            raise ValueError("score_range must be [lowest, highest] with lowest < highest")
        if self.mined is not None and self.kind != "groups":
            raise ValueError(f"mined makes groups and the kind is {self.kind}; write kind: groups")
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
        source = self.hub or self.local or self.mirror or self.demo_world or self.mined
        assert source is not None  # the validator above made sure
        return source

    def local_paths(self) -> list[Path]:
        """Files of a `local` source as paths, relative ones taken from the YAML file's folder; [] for other sources."""
        return [self._folder / name for name in self.local.files] if self.local else []
