"""What the registry states of MTEB's sets is what the installed mteb states: repository, revision, task, sizes."""

from __future__ import annotations

import importlib.util
import json
import re
from functools import cache
from pathlib import Path

import pytest

from matryobench.data.registry import load_classifications, load_collections, load_datasets

REGISTRY = Path(__file__).resolve().parents[2] / "config" / "datasets.yaml"
DATASETS = load_datasets(REGISTRY)
TASKS = {
    **{set_.mteb_task: f"{name}.test" for name, set_ in load_classifications(REGISTRY).items() if set_.mteb_task},
    **{set_.mteb_task: f"{name}.qrels" for name, set_ in load_collections(REGISTRY).items() if set_.mteb_task},
}
LABELLED = {task: table for task, table in TASKS.items() if table.endswith(".test")}


@cache
def mteb_folder() -> Path:
    where = importlib.util.find_spec("mteb")  # found, not imported: that takes seconds
    assert where is not None and where.origin is not None
    return Path(where.origin).parent


@cache
def stated() -> dict[str, tuple[str, str]]:
    """Task name -> (repository, revision), from the source of the task classes."""
    found = {}
    for kind in ("classification", "retrieval"):
        for file in (mteb_folder() / "tasks" / kind).rglob("*.py"):
            for block in file.read_text(encoding="utf-8").split("\nclass ")[1:]:
                name, path, revision = (
                    re.search(rf'{key}"?[=:] ?"([^"]+)"', block) for key in ("name", "path", "revision")
                )
                if name and path and revision:
                    found[name[1]] = (path[1], revision[1])
    return found


@pytest.mark.parametrize("task", TASKS)
def test_repository_and_revision_are_mtebs(task: str) -> None:
    hub = DATASETS[TASKS[task]].hub
    assert hub is not None
    assert (hub.id, hub.revision) == stated()[task]


@pytest.mark.parametrize("task", LABELLED)
def test_row_counts_are_those_of_mtebs_statistics(task: str) -> None:
    file = mteb_folder() / "descriptive_stats" / "Classification" / f"{task}.json"
    stats = json.loads(file.read_text(encoding="utf-8"))
    for part in ("train", "test"):
        of_split = stats[part].get("hf_subset_descriptive_stats", {}).get("en", stats[part])
        rows = DATASETS[f"{LABELLED[task].removesuffix('.test')}.{part}"].rows
        if (task, part) == ("ToxicConversationsClassification", "test"):
            assert (rows, of_split["num_samples"]) == (50_000, 2048)  # mteb draws its test texts from the file's
        else:
            assert rows == of_split["num_samples"]


def test_the_twelve_classification_sets_of_mteb_are_there() -> None:
    assert len(LABELLED) == 12 and all(task.endswith("Classification") for task in LABELLED)
