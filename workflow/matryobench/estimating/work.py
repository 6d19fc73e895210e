"""What a job does, in quantities that a device has a speed for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Start = Literal["light", "tables", "figures", "model", "mteb"]
Stage = Literal["fetch", "tokenise", "pretrain", "train", "evaluate", "analyse"]
STAGES: tuple[Stage, ...] = ("fetch", "tokenise", "pretrain", "train", "evaluate", "analyse")

QUANTITIES: Mapping[str, str] = {
    "start_light": "jobs that start Python and this program only",
    "start_tables": "jobs that also load pandas and pyarrow",
    "start_tokenise": "jobs that also load a tokenizer",
    "start_figures": "jobs that also load matplotlib and draw a figure in three formats",
    "start_model": "jobs that load torch, transformers and an encoder",
    "start_mteb": "jobs that also load mteb",
    "full_operations": "floating-point operations of an encoder in float32",
    "half_operations": "floating-point operations of an encoder in bfloat16 or float16",
    "layer_passes": "layers that a forward pass calls; a backward pass counts twice",
    "elements": "tokens x layers x width; a backward pass counts twice",
    "inner_elements": "predicted tokens x vocabulary of a masked-LM head",
    "updates": "parameters x steps of the optimiser",
    "loss_terms": "cells x steps that a loss term is evaluated at",
    "search_operations": "floating-point operations of an exact search, in float32",
    "scores": "queries x documents x cells that are compared with a threshold",
    "rankings": "queries x cells whose metrics are computed",
    "mteb_rankings": "queries x cells that mteb ranks and scores",
    "items": "scores per item and cell that are computed, read or written",
    "tokenised": "tokens that a tokenizer makes",
    "rows": "rows that are read, checked and written",
    "mined": "training groups that are mined with BM25",
    "resampled": "items x models x resamples of a test",
    "classifiers": "logistic regressions that mteb fits",
    "written": "bytes that are hashed and written",
}
"""Each with its unit; a device has seconds per unit of every one."""

ON_DEVICE = {"full_operations", "half_operations", "layer_passes", "elements", "inner_elements", "updates", "loss_terms",
             "search_operations", "scores"}  # fmt: skip
"""What a GPU does, where the job has one; all else is done by a processor."""


@dataclass(frozen=True)
class Job:
    """One job of the workflow: its rule and what tells it from others of the rule, and what it takes.

    amounts: units by name of QUANTITIES; tokens: of the texts it encodes or tokenises; disk: bytes that it leaves; memory,
    device_memory: bytes at the peak; after: (rule, key) that it waits for; processes: cards (or processes) that it uses.
    """

    rule: str
    key: object
    stage: Stage
    amounts: Mapping[str, float]
    tokens: float = 0.0
    disk: float = 0.0
    memory: float = 0.0
    device_memory: float = 0.0
    after: tuple[tuple[str, object], ...] = field(default=())
    processes: int = 1
    accelerated: bool = False

    @property
    def name(self) -> tuple[str, object]:
        """(rule, key): what `after` names it by."""
        return self.rule, self.key

    @property
    def operations(self) -> float:
        """Floating-point operations, whatever their precision."""
        return sum(value for name, value in self.amounts.items() if name.endswith("_operations"))
