"""Where an experiment's files are, relative to its results folder: what rules and jobs agree on."""

from __future__ import annotations


def table(dataset: str) -> str:
    """A dataset as fetch wrote it."""
    return f"data/{dataset}.parquet"


def tokens(dataset: str, *lengths: int) -> str:
    """A dataset's token file at a maximum length (groups: of queries, of passages)."""
    return f"tokens/{dataset}.{'-'.join(map(str, lengths))}.safetensors"


def shard(run: str, corpus: str, number: int, count: int) -> str:
    """The rankings of one shard of a corpus, shards counted from 0."""
    return f"evaluation/{run}/shards/{corpus}.{number}-of-{count}.safetensors"


DEPLOYMENT = "tables/deployment.parquet"
"""What cells cost on the machine that measured it; .csv beside it, and how it was measured as .json."""


def training_record(run: str) -> str:
    """What a run's training left: settings, provenance and cost."""
    return f"runs/{run}/run.json"


def pretraining_record(name: str) -> str:
    """What a continued pre-training left."""
    return f"pretraining/{name}/pretraining.json"


BACKBONE_RECORD = "backbone/pretraining.json"
"""What the pre-training of the experiment's own backbone left."""
