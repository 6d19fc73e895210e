"""Where an experiment's files are, relative to its results folder: what rules and jobs agree on."""

from __future__ import annotations

from pathlib import PurePosixPath


def table(dataset: str) -> str:
    """A dataset as fetch wrote it."""
    return f"data/{dataset}.parquet"


def tokens(dataset: str, *lengths: int) -> str:
    """A dataset's token file at a maximum length (groups: of queries, of passages)."""
    return f"tokens/{dataset}.{'-'.join(map(str, lengths))}.safetensors"


def shard(run: str, corpus: str, number: int, count: int) -> str:
    """The rankings of one shard of a corpus, shards counted from 0."""
    return f"evaluation/{run}/shards/{corpus}.{number}-of-{count}.safetensors"


def record(product: str) -> str:
    """What a product's files were made from and hash to: one record for all files of the same name."""
    stem = str(PurePosixPath(product).with_suffix(""))
    return f"{stem}.json" if stem == "tables/deployment" else f"{stem}.made.json"


DEPLOYMENT = "tables/deployment.parquet"
"""What cells cost on the machine that measured it; .csv beside it, and how it was measured as .json."""


def training_record(run: str) -> str:
    """What a run's training left: settings, provenance and cost."""
    return f"runs/{run}/run.json"


def evaluation_record(run: str) -> str:
    """What a run's evaluation left."""
    return f"evaluation/{run}/evaluation.json"


def cells(run: str) -> str:
    """The cells table of a run."""
    return f"evaluation/{run}/cells.parquet"


def items(run: str) -> str:
    """The per-item scores of a run."""
    return f"evaluation/{run}/items.parquet"


def pretraining_record(name: str) -> str:
    """What a continued pre-training left."""
    return f"pretraining/{name}/pretraining.json"


BACKBONE = "backbone/backbone.json"
"""Which model folder every run starts from, and the hashes of its files."""


def continued(name: str) -> str:
    """The same of a continued pre-training."""
    return f"pretraining/{name}/backbone.json"


BACKBONE_RECORD = "backbone/pretraining.json"
"""What the pre-training of the experiment's own backbone left."""
