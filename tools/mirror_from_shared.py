#!/usr/bin/env python3
"""Turns a folder of collected public data into a mirror that the configs read as if it came from the hub.

    python tools/mirror_from_shared.py SHARED_DATA MIRROR [--model NAME=FOLDER ...]

SHARED_DATA holds MANIFEST.json (sha256 per file), sts/, nli/, pairs/, retrieval/, classification/ and text/. The STS sets,
the BEIR collections and MTEB's classification sets go under the hub ids, revisions and file names of the registry, with
MTEB's column names; what the hub does not have in that form goes under local/. What the mirror holds already stays as it
is. --model copies a transformers or sentence-transformers folder in as the model NAME. docs/data.md describes what differs
from the hub's own files.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "workflow"), str(PROJECT / "tools")]

from shared_data import Shared

from matryobench.data.classifications import check_classification
from matryobench.data.collection_tables import check_collection
from matryobench.data.fetch import check_model_files, fetch_dataset, is_model_file
from matryobench.data.mirror import Mirror, NotInMirror, copy_into
from matryobench.data.registry import (
    Collection,
    DatasetSpec,
    find_classification,
    find_collection,
    find_dataset,
    load_classifications,
    load_collections,
    load_datasets,
)
from matryobench.errors import InputError
from matryobench.files import sha256_of

# Data set of the registry -> files of the shared folder that make it up, in order.
HUB_SETS = {
    "stsb-train": ["sts/STSBenchmark/train.jsonl.gz"],
    "stsb-dev": ["sts/STSBenchmark/dev.jsonl"],
    "sts12": ["sts/STS12/test.jsonl"],
    "sts13": ["sts/STS13/test.jsonl"],
    "sts14": ["sts/STS14/test.jsonl"],
    "sts15": ["sts/STS15/test.jsonl"],
    "sts16": ["sts/STS16/test.jsonl"],
    "stsb": ["sts/STSBenchmark/test.jsonl"],
    "sick-r": ["sts/SICK-R/train.jsonl", "sts/SICK-R/trial.jsonl", "sts/SICK-R/test.jsonl"],
}
# The same for sets that only a mirror has: one file each, copied as it is.
LOCAL_SETS = {
    "nli-public": "nli/train.jsonl.gz",
    "sick-train": "sts/SICK-R/train.jsonl",
    "sick-r-test": "sts/SICK-R/test.jsonl",
}
PAIR_SETS = {
    "simplewiki-title-lead": "pairs/simplewiki_title_lead.jsonl.gz",
    "nli-entailment": "pairs/nli_entailment.jsonl.gz",
}
# Test collection of the registry -> its folder in BEIR's form, and what is to be said of it.
COLLECTIONS = {
    "scifact": (
        "retrieval/scifact",
        "rebuilt from the original claims and abstracts with BEIR's judgements, not the hub's bytes; the documents "
        "together have 23 of 7771451 characters less than the hub's, the test queries as many",
    ),
    "nfcorpus": (
        "retrieval/nfcorpus",
        "BEIR's archive, not the hub's bytes; documents and test queries have as many characters as the hub's",
    ),
    "arguana": (
        "retrieval/arguana",
        "BEIR's archive, not the hub's bytes; documents and test queries have as many characters as the hub's",
    ),
    "cranfield": ("retrieval/cranfield", "judgements with Cleverdon's code -1 dropped, grades are 5 minus his code"),
}
# Classification set of the hub -> its two files, and what is to be said of them. The hub numbers the labels.
HUB_LABELLED = {
    "banking77": (
        ("classification/Banking77/train.jsonl.gz", "classification/Banking77/test.jsonl"),
        "rows and labels in the hub's order as far as mteb's statistics tell, 16 of 761952 characters less",
    ),
    "emotion": (
        ("classification/Emotion/train.jsonl.gz", "classification/Emotion/test.jsonl"),
        "rows and labels in the hub's order as far as mteb's statistics tell, with as many characters",
    ),
    "amazon-counterfactual": (
        ("classification/AmazonCounterfactual/train.jsonl", "classification/AmazonCounterfactual/test.jsonl"),
        "rows and labels in the hub's order as far as mteb's statistics tell, 253 of 502251 characters less",
    ),
}
LABEL_NAMES = {
    "emotion": ["sadness", "joy", "love", "anger", "fear", "surprise"],
    "amazon-counterfactual": ["not-counterfactual", "counterfactual"],
}
# Classification sets that only a mirror has: with a split of their own (copied as they are), or one file that is split here.
LOCAL_LABELLED = {
    "trec-qc": ("classification/TREC-QC/train.jsonl", "classification/TREC-QC/test.jsonl"),
    "sst2": ("classification/SST2/train.jsonl", "classification/SST2/test.jsonl"),
    "ag-news-sample": ("classification/AGNews-sample/train.jsonl.gz", "classification/AGNews-sample/test.jsonl.gz"),
}
SPLIT_LABELLED = {
    "mr": "classification/MR/all.jsonl.gz",
    "cr": "classification/CR/all.jsonl",
    "subj": "classification/SUBJ/all.jsonl.gz",
}
TEXT_SETS = {
    "public-text": ["text/simplewiki.txt.xz", "text/enwiki_sample.txt.xz", "text/novels.txt.xz"],
    "public-text-valid": ["text/valid.txt.xz"],
}

HUB_NOTE = (
    "Made by tools/mirror_from_shared.py from collected public copies: the same pairs and gold scores as the hub's file "
    "as far as known, but not the hub's bytes, and the texts of STS12-16 are about 2 % shorter (not tokenised)."
)
COLLECTION_NOTE = "Made by tools/mirror_from_shared.py from collected public copies: "
LOCAL_NOTE = "Made by tools/mirror_from_shared.py from collected public copies; the hub has no such file."
SPLIT_NOTE = "Made by tools/mirror_from_shared.py from collected public copies; the test set is a fifth of each class."
MODEL_NOTE = "Copied from a local folder by tools/mirror_from_shared.py; the revision is a digest of the files."


def put(spec: DatasetSpec, content: Callable[[], bytes], mirror: Mirror, note: str, number: int = 0) -> None:
    """Puts a table's file (its `number`th) where the registry says that it is, unless the mirror has that file already."""
    identity: dict[str, Any]
    if spec.hub is not None:
        assert spec.hub.revision is not None
        entry, file = mirror.entry("datasets", spec.hub.id, spec.hub.revision), spec.hub.files[number]
        identity = {"id": spec.hub.id, "revision": spec.hub.revision}
    else:
        assert spec.mirror is not None
        place = mirror.root / spec.mirror.files[number]
        entry, file = place.parent, place.name
        identity = {"id": entry.name, "revision": None}
    if _held(mirror, entry, file):
        return
    with mirror.incoming() as gathered:
        (gathered / file).parent.mkdir(parents=True, exist_ok=True)
        (gathered / file).write_bytes(content())
        mirror.add(entry, gathered, {**identity, "note": note}, origin="shared-data")


def add_collection(
    name: str, collection: Collection, datasets: dict[str, DatasetSpec], shared: Shared, mirror: Mirror
) -> None:
    """Puts the files of a test collection in, each in the form that its name in the registry asks for."""
    folder, what = COLLECTIONS[name]
    files = {
        collection.corpus: "corpus.jsonl.gz",
        collection.queries: "queries.jsonl",
        collection.qrels: "qrels/test.tsv",
    }
    if collection.train_qrels is not None:
        files[collection.train_qrels] = "qrels/train.tsv"
    for table, file in files.items():
        spec = datasets[table]
        source = spec.hub or spec.mirror
        assert source is not None
        note = f"{COLLECTION_NOTE}{what}."
        put(spec, partial(shared.converted, f"{folder}/{file}", source.files[0]), mirror, note)


def add_classification(name: str, datasets: dict[str, DatasetSpec], shared: Shared, mirror: Mirror) -> None:
    """Puts the two files of a classification set in."""
    for number, part in enumerate(("train", "test")):
        spec = datasets[f"{name}.{part}"]
        if name in SPLIT_LABELLED:
            put(spec, partial(shared.split, SPLIT_LABELLED[name], part), mirror, SPLIT_NOTE)
        elif name in LOCAL_LABELLED:
            file = LOCAL_LABELLED[name][number]
            put(spec, partial(shared.converted, file, file), mirror, LOCAL_NOTE)
        else:
            assert spec.hub is not None
            files, what = HUB_LABELLED[name]
            content = partial(shared.labelled, files[number], LABEL_NAMES.get(name), spec.hub.files[0])
            put(spec, content, mirror, f"{COLLECTION_NOTE}{what}.")


def add_text(name: str, spec: DatasetSpec, shared: Shared, mirror: Mirror) -> None:
    """Puts the files of a text set in, as they are."""
    for number, file in enumerate(TEXT_SETS[name]):
        put(spec, partial(shared.converted, file, file), mirror, LOCAL_NOTE, number)


def add_model(name: str, folder: Path, mirror: Mirror) -> Path:
    """Copies a model folder in under a revision that is a digest of its files, and pins that revision."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give --model NAME=FOLDER with a model's folder.")
    every = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [file for file in every if is_model_file(file)]
    check_model_files(names, str(folder))
    listing = "".join(f"{file} {sha256_of(folder / file)}\n" for file in names)
    revision = hashlib.sha256(listing.encode()).hexdigest()[:40]
    mirror.pin("models", name, revision)
    with mirror.incoming() as gathered:
        copy_into(folder, gathered, names)
        identity = {"id": name, "revision": revision, "note": MODEL_NOTE}
        mirror.add(mirror.entry("models", name, revision), gathered, identity, origin="tool")
    return mirror.model_folder(name, None)


def _held(mirror: Mirror, entry: Path, file: str) -> bool:
    try:
        return bool(mirror.verified(entry, [file], thorough=True))
    except NotInMirror:
        return False


def fill(registry: Path, shared: Shared, mirror: Mirror) -> None:
    """Puts all sets into the mirror and reads each back, which checks it against its entry; prints what was read."""
    datasets, collections = load_datasets(registry), load_collections(registry)
    for name in (*HUB_SETS, *LOCAL_SETS, *PAIR_SETS):
        spec = find_dataset(datasets, name, str(registry))
        if name in HUB_SETS:
            put(spec, partial(shared.pairs, HUB_SETS[name]), mirror, HUB_NOTE)
        else:
            file = {**LOCAL_SETS, **PAIR_SETS}[name]
            put(spec, partial(shared.converted, file, file), mirror, LOCAL_NOTE)
        table, meta = fetch_dataset(name, spec, mirror, offline=True)
        print(f"{name:21} {table.num_rows:6} rows  {next(iter(meta['sha256']))}")
    for name in TEXT_SETS:
        spec = find_dataset(datasets, name, str(registry))
        add_text(name, spec, shared, mirror)
        print(f"{name:21} {fetch_dataset(name, spec, mirror, offline=True)[0].num_rows:6} rows")
    for name in COLLECTIONS:
        collection = find_collection(collections, name, str(registry))
        add_collection(name, collection, datasets, shared, mirror)
        parts = (collection.corpus, collection.queries, collection.qrels, collection.train_qrels)
        tables = [fetch_dataset(part, datasets[part], mirror, offline=True)[0] for part in parts if part is not None]
        _report(name, check_collection(tables[0], tables[1], tables[2], name)[1])
    sets = load_classifications(registry)
    for name in (*HUB_LABELLED, *LOCAL_LABELLED, *SPLIT_LABELLED):
        labelled = find_classification(sets, name, str(registry))
        add_classification(name, datasets, shared, mirror)
        train, test = (
            fetch_dataset(part, datasets[part], mirror, offline=True)[0] for part in (labelled.train, labelled.test)
        )
        _report(name, check_classification(train, test, name))


def _report(name: str, facts: dict[str, Any]) -> None:
    print(f"{name:21} " + ", ".join(f"{number} {fact.replace('_', ' ')}" for fact, number in facts.items() if number))


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when all sets are in the mirror and fit the registry, 2 after an InputError's sentence."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("shared", type=Path, metavar="SHARED_DATA", help="folder with MANIFEST.json")
    parser.add_argument("mirror", type=Path, metavar="MIRROR", help="the mirror to fill; made if needed")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER", help="a model folder to copy in")
    parser.add_argument(
        "--datasets", type=Path, default=PROJECT / "config" / "datasets.yaml", help="registry to follow"
    )
    options = parser.parse_args(arguments)
    try:
        fill(options.datasets, Shared(options.shared), Mirror(options.mirror))
        for model in options.model:
            name, equals, folder = model.partition("=")
            if not equals:
                raise InputError(f"--model {model}: write NAME=FOLDER.")
            print(f"{name}  {add_model(name, Path(folder), Mirror(options.mirror))}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
