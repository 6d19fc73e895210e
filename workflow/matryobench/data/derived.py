"""Sources that are other entries: groups mined from collections and pairs, instructed rows composed of groups and triplets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from matryobench.validation import Settings


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


class ComposedPart(Settings):
    """One entry whose rows get instructions."""

    triplets: str | None = Field(
        default=None, description="an entry of kind triplets; the anchor asks, its own negative stays its negative"
    )
    groups: str | None = Field(
        default=None, description="an entry of kind groups; positives and negatives are drawn from each group's own"
    )
    mined_from: str | None = Field(
        default=None,
        min_length=1,
        description="of mined groups, only those of this part: the collection, pairs or triplets named there",
    )
    query_instruction: str = Field(pattern=r"\S", description="instruction of the asking texts")
    passage_instruction: str = Field(pattern=r"\S", description="instruction of positives and negatives")
    limit: int | None = Field(
        default=None, ge=1, description="triplets or groups to use, drawn with the seed; null: all"
    )
    per_query: int = Field(
        default=1, ge=1, description="rows per group at most, each with another positive (groups only)"
    )

    @model_validator(mode="after")
    def _one(self) -> ComposedPart:
        if (self.triplets is None) == (self.groups is None):
            raise ValueError("a part names one of triplets and groups; give exactly one")
        if self.groups is None and (self.mined_from is not None or self.per_query != 1):
            raise ValueError("mined_from and per_query are about groups and this part has triplets; remove them")
        return self

    @property
    def name(self) -> str:
        """The entry that the part names."""
        return self.triplets or self.groups or ""


class ComposedSource(Settings):
    """Instructed rows made here from other entries' triplets and groups."""

    parts: list[ComposedPart] = Field(min_length=1, description="entries that the rows are made from, in this order")
    seed: int = Field(default=0, ge=0, description="seed of all draws")
