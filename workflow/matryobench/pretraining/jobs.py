"""Pre-training jobs of an experiment: model folder, numbers with provenance, and the record that runs start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.config import PretrainedBackbone
from matryobench.data.prepare import backbone_folder, write_backbone
from matryobench.errors import InputError, unknown_name
from matryobench.files import folder_sha256, sha256_of, write_json
from matryobench.models.folders import device_of
from matryobench.provenance import DTYPES, config_hash, environment, peak_memory_mb
from matryobench.training.gather import is_first, largest

if TYPE_CHECKING:
    from matryobench.plan import Plan


def pretrain_backbone(plan: Plan, text: Path, out: Path) -> None:
    """Pre-trains the experiment's own backbone on the table `text`; `out` gets model/, pretraining.json, backbone.json.

    Raises InputError where the backbone is not pre-trained, and as `mlm.pretrain` does.
    """
    from matryobench.data.records import read_table
    from matryobench.pretraining.mlm import pretrain

    backbone = plan.experiment.backbone
    if not isinstance(backbone, PretrainedBackbone):
        raise InputError(f"{plan.place}: backbone: its source is '{backbone.source}', there is nothing to pre-train.")
    read = sha256_of(text)
    texts = read_table(text)[0].column("text").to_pylist()
    numbers = pretrain(texts, backbone.spec, out / "model", out / "checkpoints")
    facts = {"text_sha256": read, "settings": backbone.spec.model_dump(mode="json")}
    _write(plan, numbers, facts, out)


def pretrain_from(plan: Plan, name: str, text: Path, start: Path, out: Path) -> None:
    """Runs the entry `name` of the experiment's `pretraining` from the backbone whose record is `start`.

    Raises InputError for a name that the experiment lacks, and as `continued.continue_pretraining` does.
    """
    from matryobench.data.records import read_meta
    from matryobench.pretraining.continued import continue_pretraining

    if name not in plan.experiment.pretraining:
        raise unknown_name(plan.place, "pretraining", name, plan.experiment.pretraining)
    spec, pairs = plan.experiment.pretraining[name], list(plan.pretraining_sizes(name).values())
    facts = {
        "pretraining": name, "text": read_meta(text), "text_sha256": sha256_of(text), "start_sha256": sha256_of(start)
    }  # fmt: skip
    numbers = continue_pretraining(text, spec, pairs, backbone_folder(start), out / "model", out / "checkpoints")
    _write(plan, numbers, {**facts, "settings": spec.model_dump(mode="json")}, out)


def _write(plan: Plan, numbers: dict[str, Any], facts: dict[str, Any], out: Path) -> None:
    import torch

    memory = largest(peak_memory_mb(), device_of())
    if not is_first():
        return
    record = {
        **facts,
        "config_hash": config_hash(plan.experiment),
        **numbers,
        "dtype": DTYPES[numbers["precision"]],
        "model_sha256": folder_sha256(out / "model"),
        "threads": torch.get_num_threads(),
        "device_seconds": round(numbers["train_seconds"] * numbers["processes"], 3),
        "peak_memory_mb": memory,  # of the largest process
        **environment(),
    }
    write_json(out / "pretraining.json", record)
    write_backbone(out / "model", out / "backbone.json")
