"""How many texts of how many tokens a dataset has: exact from a finished token file, else from what is known before."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from matryobench import layout
from matryobench.data.specs import COLUMNS
from matryobench.errors import InputError
from matryobench.estimating.texts import NONE, Texts, TokenFile, cut_mean, read_token_file, tokens_of

if TYPE_CHECKING:
    from matryobench.plan import Plan

FACTS = Path(__file__).with_name("text_lengths.csv")
"""Counts and mean characters of texts, each with its source; tools/write_text_lengths.py writes it."""


@dataclass(frozen=True)
class Fact:
    """texts: how many are encoded, None: all rows; characters: mean length of one, None: not known."""

    texts: int | None
    characters: float | None


class Sizes:
    """The texts of an experiment's datasets. `guesses` says, by dataset, what had to be assumed."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._folder = plan.experiment.folder
        self._facts = facts()
        self._files: dict[str, TokenFile | None] = {}
        self.guesses: dict[str, str] = {}

    def rows(self, dataset: str) -> int:
        """Rows of a dataset: the registry's, else those of what was fetched, else 0, which `guesses` says."""
        rows = self._plan.datasets[dataset].rows if dataset in self._plan.datasets else None
        fact = self._facts.get(dataset)
        if rows is None and fact is not None:
            rows = fact.texts
        if rows is None:
            rows = self._rows_of_table(dataset)
        if rows is None:
            self.guesses[dataset] = "its number of rows is not known before it is fetched; counted as 0"
        return rows or 0

    def training_row(self, dataset: str, limit: int) -> Texts:
        """The texts of one row of triplets, pairs or instructed rows, each cut to `limit` tokens."""
        found = self._file(layout.tokens(dataset, limit))
        if found is not None:
            return found.row
        columns = [name for name in COLUMNS[self._plan.datasets[dataset].kind] if name != "score"]
        texts = len([name for name in columns if not name.endswith("_instruction")])
        return Texts.of_mean(texts, self._mean(dataset, limit))

    def group_row(self, dataset: str, query_limit: int, passage_limit: int) -> tuple[Texts, Texts]:
        """One query and one passage of training groups."""
        found = self._file(layout.tokens(dataset, query_limit, passage_limit))
        if found is not None and found.queries is not None:
            return found.queries.scaled(1 / max(found.queries.count, 1)), found.row
        queries = next((self._queries_of(part.collection) for part in self._mined(dataset) if part.collection), None)
        query = self._mean(queries or _QUERIES.get(dataset, dataset), query_limit)
        return Texts.of_mean(1, query), Texts.of_mean(1, self._mean(dataset, passage_limit))

    def distinct(self, dataset: str, limit: int) -> Texts:
        """Every distinct text of a scored-pairs set, cut to `limit` tokens."""
        found = self._file(layout.tokens(dataset, limit))
        if found is not None:
            return found.distinct
        fact = self._facts.get(dataset)
        count = fact.texts if fact is not None and fact.texts is not None else 2 * self.rows(dataset)
        return Texts.of_mean(count, self._mean(dataset, limit))

    def corpus(self, dataset: str, limit: int, leading: float = 0) -> Texts:
        """The documents of a corpus, cut to `limit` tokens after `leading` tokens of instruction."""
        found = self._file(layout.tokens(dataset, limit)) if not leading else None
        if found is not None and found.row.count:
            return found.row.scaled(found.rows)
        return Texts.of_mean(self.rows(dataset), self._mean(dataset, limit, leading))

    def queries(self, collection: str, limit: int, leading: float = 0) -> Texts:
        """The judged queries of a test collection."""
        one = self._plan.collections[collection]
        fact = self._facts.get(one.queries)
        if fact is not None and fact.texts is not None:
            count: float = fact.texts
        else:
            count = min(self.rows(one.queries), self.rows(one.qrels))
            self.guesses[one.queries] = (
                "how many of its queries are judged is not known; taken as at most its judgements"
            )
        found = self._file(layout.tokens(one.queries, limit)) if not leading else None
        mean = found.row.mean if found is not None and found.row.count else self._mean(one.queries, limit, leading)
        return Texts.of_mean(count, mean)

    def classified(self, name: str, limit: int, leading: float = 0) -> Texts:
        """The texts that a classification set is evaluated with: those drawn for training, and the test texts."""
        one, whole = self._plan.classifications[name], NONE
        for part in (one.train, one.test):
            fact = self._facts.get(part)
            count = fact.texts if fact is not None and fact.texts is not None else self.rows(part)
            whole += Texts.of_mean(count, self._mean(part, limit, leading))
        return whole

    def read(self, dataset: str, limit: int) -> Texts:
        """The rows of a table of texts, cut to `limit` tokens."""
        return Texts.of_mean(self.rows(dataset), self._mean(dataset, limit))

    def characters(self, dataset: str) -> float | None:
        """Mean characters of a text, None where nothing is known."""
        fact = self._facts.get(dataset)
        return fact.characters if fact is not None else None

    def _mean(self, dataset: str, limit: int, leading: float = 0) -> float:
        characters = self.characters(dataset)
        if characters is None:
            self.guesses[dataset] = f"the length of its texts is not known; taken as the longest, {limit} tokens"
            return limit
        return cut_mean(tokens_of(characters) + leading, limit)

    def _file(self, file: str) -> TokenFile | None:
        if file not in self._files:
            self._files[file] = read_token_file(self._folder / file)
        return self._files[file]

    def _rows_of_table(self, dataset: str) -> int | None:
        path = self._folder / layout.table(dataset)
        if not path.is_file():
            return None
        from matryobench.data.parquet import damage, parquet_file

        with damage(path):
            return int(parquet_file(path).metadata.num_rows)

    def _mined(self, dataset: str) -> list[MinedPart]:
        source = self._plan.datasets[dataset].mined
        return source.parts if source is not None else []

    def _queries_of(self, collection: str | None) -> str:
        assert collection is not None
        return self._plan.collections[collection].queries


# Training groups whose queries are those of a collection, though no entry says so.
_QUERIES = {"msmarco-passage": "msmarco-dev.queries"}

if TYPE_CHECKING:
    from matryobench.data.derived import MinedPart


@lru_cache(1)
def facts() -> dict[str, Fact]:
    """Facts by dataset. Raises InputError where the file of facts is damaged."""
    found = {}
    with FACTS.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            try:
                found[row["dataset"]] = Fact(
                    int(row["texts"]) if row["texts"] else None, float(row["characters"]) if row["characters"] else None
                )
            except (KeyError, ValueError):
                raise InputError(
                    f"{FACTS}: {row.get('dataset')}: not a line of dataset, texts, characters, source; restore the file."
                ) from None
    return found
