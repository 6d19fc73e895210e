"""Rows with instructions that several tests share."""

from __future__ import annotations

from typing import Any

from matryobench.data.registry import DatasetSpec
from matryobench.data.specs import COLUMNS

FACTS = {"description": "rows of a test", "citation": "none", "licence": "none"}
SPEC = DatasetSpec.model_validate({"kind": "instructed", **FACTS, "local": {"files": ["rows.json"]}})
ASK, SAY = "Represent the question for retrieval:", "Represent the passage:"
MEDI = [
    {"query": [ASK, "who runs?"], "pos": [SAY, "the dog runs"], "neg": [SAY, "a red ball"], "task_name": "nq"},
    {"query": [ASK, "what \u2028 [is]{red}"], "pos": [SAY, 'the "ball"é'], "neg": [SAY, "the dog runs"], "task_name": "qa"},
]  # fmt: skip


def instructed_columns(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    table = {key: [] for key in (*COLUMNS["instructed"], "subset")}
    for row in rows:
        for key, side in (("query", "query"), ("pos", "positive"), ("neg", "negative")):
            table[f"{side}_instruction"].append(row[key][0])
            table[side].append(row[key][1])
        table["subset"].append(row["task_name"])
    return table
