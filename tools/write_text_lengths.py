"""Writes workflow/matryobench/estimating/text_lengths.csv: what `matryobench plan` knows of texts before they are fetched.

    python tools/write_text_lengths.py RESULTS [RESULTS ...]

Facts come from the descriptive statistics that the installed mteb carries (only counts and mean lengths, no text), from
sizes that the hub states, and for sets that only a mirror has from the tables of finished experiments.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from matryobench.data.registry import load_classifications, load_collections
from matryobench.estimating.sizes import FACTS
from matryobench.files import atomic_path
from matryobench.paths import DATASETS

Row = tuple[str, int | None, float | None, str]

# mteb's names where the registry does not say, and the split that has the numbers.
COLLECTIONS = {"msmarco-dev": "MSMARCO", "trec-dl19": "TRECDL2019", "trec-dl20": "TRECDL2020"}
STS = {"sts12": "STS12", "sts13": "STS13", "sts14": "STS14", "sts15": "STS15", "sts16": "STS16", "stsb": "STSBenchmark",
       "sick-r": "SICK-R"}  # fmt: skip
TOXIC_TEXTS = 2048  # mteb draws them from the 50,000; see the entry
ALL_NLI = "hub: sentence-transformers/all-nli, triplet: 98,815,977 bytes in 557,850 rows"
SIMCSE = "hub: sentence-transformers/nli-for-simcse, triplet: 51,033,641 bytes in 274,951 rows"
FINEWEB = "hub: sample-10BT has 14.9 M pages, 1e10 GPT-2 tokens of about 4.7 characters; sample-100BT ten times that"
STATED: list[Row] = [
    # A text of a parquet column has 4 bytes of offset.
    ("all-nli", None, 98_815_977 / 557_850 / 3 - 4, ALL_NLI),
    ("nli-for-simcse", None, 51_033_641 / 274_951 / 3 - 4, SIMCSE),
    ("fineweb-10bt", 14_900_000, 4.7 * 1e10 / 14.9e6, FINEWEB),
    ("fineweb-100bt", 149_000_000, 4.7 * 1e10 / 14.9e6, FINEWEB),
]
TABLES = (
    *("nli-public", "public-text", "simplewiki-title-lead", "cranfield.corpus", "cranfield.queries"),
    *(f"{name}.{part}" for name in ("trec-qc", "subj", "mr") for part in ("train", "test")),
    *("demo-triplets", "demo-text", "demo-sts-paraphrase", "demo-sts-roles", "demo-sts-topics", "demo-search.corpus"),
    *("demo-search.queries", "demo-events.train", "demo-events.test", "demo-instructed", "demo-groups"),
    *("public-groups", "public-instructed"),
)
MTEB = f"mteb {version('mteb')}, descriptive_stats"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("results", nargs="+", type=Path, help="folders of finished experiments")
    folders: list[Path] = arguments.parse_args().results
    rows = [*STATED, *_sts(), *_collections(), *_classifications(), *_tables(folders)]
    with atomic_path(FACTS) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["dataset", "texts", "characters", "source"])
        for name, texts, characters, source in sorted(rows):
            shown = "" if characters is None else f"{characters:.1f}"
            writer.writerow([name, "" if texts is None else texts, shown, source])
    print(f"{len(rows)} datasets -> {FACTS}")


def _stats(task: str) -> dict[str, Any]:
    import mteb

    found = next((Path(mteb.__file__).parent / "descriptive_stats").glob(f"*/{task}.json"))
    splits: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return splits


def _sts() -> Iterator[Row]:
    for name, task in STS.items():
        sides = [_stats(task)["test"][f"text{side}_statistics"] for side in (1, 2)]
        texts = sum(side["unique_texts"] for side in sides)
        yield name, texts, sum(side["average_text_length"] for side in sides) / 2, MTEB


def _collections() -> Iterator[Row]:
    for name, one in load_collections(DATASETS).items():
        task = COLLECTIONS.get(name) or one.mteb_task
        if task is None:
            continue
        stats = _stats(task)
        split = stats.get("test") or stats["dev"]
        queries = split["queries_text_statistics"]
        judged = split["relevant_docs_statistics"]
        count = judged["num_relevant_docs"] / judged["average_relevant_docs_per_query"]
        yield one.queries, round(count), queries["average_text_length"], MTEB
        if one.corpus == f"{name}.corpus":
            yield one.corpus, None, split["documents_text_statistics"]["average_text_length"], MTEB
    marco = _stats("MSMARCO")["dev"]
    # A row of training groups: the mean passage is what counts; queries are shorter and few.
    yield "msmarco-passage", None, marco["documents_text_statistics"]["average_text_length"], MTEB


def _classifications() -> Iterator[Row]:
    import mteb

    for name, one in load_classifications(DATASETS).items():
        if one.mteb_task is None:
            continue
        task = mteb.get_task(one.mteb_task, languages=["eng"])
        stats = _stats(one.mteb_task)
        train, test = (_english(stats[split]) for split in ("train", "test"))
        labels = len(train["label_statistics"]["labels"])
        rows = train["num_samples"]
        drawn = labels * task.samples_per_label * task.n_experiments
        # So many draws of so many rows meet this many different ones, if labels are equally frequent.
        distinct = round(rows * (1 - math.exp(-drawn / rows)))
        yield one.train, distinct, train["text_statistics"]["average_text_length"], MTEB
        texts = TOXIC_TEXTS if name == "toxic-conversations" else test["text_statistics"]["unique_texts"]
        yield one.test, texts, test["text_statistics"]["average_text_length"], MTEB


def _english(stats: dict[str, Any]) -> dict[str, Any]:
    subsets = stats.get("hf_subset_descriptive_stats", {})
    found: dict[str, Any] = subsets.get("en", stats)
    return found


def _tables(folders: list[Path]) -> Iterator[Row]:
    import pyarrow.parquet as pq

    for name in TABLES:
        path = next((found for folder in folders if (found := folder / "data" / f"{name}.parquet").is_file()), None)
        if path is None:
            raise SystemExit(f"{name}: no table in {', '.join(map(str, folders))}; name the folder that has it.")
        table = pq.read_table(path)
        texts = None
        if name.endswith(".queries"):
            qrels = pq.read_table(path.with_name(path.name.replace(".queries", ".qrels")))
            texts = len(set(qrels.column("query_id").to_pylist()))
        if name.endswith(".train"):  # what classifiers are trained on: 8 texts of each label, ten times
            drawn = 80 * len(set(table.column("label").to_pylist()))
            texts = round(table.num_rows * (1 - math.exp(-drawn / table.num_rows)))
        yield name, texts, _mean_length(table), "the table as it was fetched"


def _mean_length(table: Any) -> float:
    """Mean characters of a text; of groups, of a passage."""
    if "positive_passages" in table.column_names:
        listed = [row[side] for row in table.to_pylist() for side in ("positive_passages", "negative_passages")]
        lengths = [len(f"{one['title']} {one['text']}".strip()) for group in listed for one in group]
    else:
        columns = [name for name in ("title", "text", "anchor", "positive", "negative", "sentence1", "sentence2", "query")
                   if name in table.column_names]  # fmt: skip
        columns += [name for name in table.column_names if name.endswith("_instruction")]
        characters = sum(len(value or "") for name in columns for value in table.column(name).to_pylist())
        texts = [name for name in columns if name != "title" and not name.endswith("_instruction")]
        return characters / (table.num_rows * len(texts))
    return sum(lengths) / len(lengths)


if __name__ == "__main__":
    main()
