"""Pre-training jobs of an experiment: model folder, numbers with provenance, and the record that runs start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.config import PretrainedBackbone
from matryobench.data.prepare import backbone_folder, write_backbone
from matryobench.errors import InputError, unknown_name
from matryobench.files import sha256_of, write_json
from matryobench.models.folders import device_of
from matryobench.provenance import environment, peak_memory_mb
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
    texts = read_table(text)[0].column("text").to_pylist()
    numbers = pretrain(texts, backbone.spec, out / "model", out / "checkpoints")
    _write(numbers, {"text_sha256": sha256_of(text)}, out)


def pretrain_from(plan: Plan, name: str, text: Path, start: Path, out: Path) -> None:
    """Runs the entry `name` of the experiment's `pretraining` from the backbone whose record is `start`.

    Raises InputError for a name that the experiment lacks, and as `continued.continue_pretraining` does.
    """
    from matryobench.data.records import read_meta
    from matryobench.pretraining.continued import continue_pretraining

    if name not in plan.experiment.pretraining:
        raise unknown_name(plan.place, "pretraining", name, plan.experiment.pretraining)
    spec, pairs = plan.experiment.pretraining[name], list(plan.pretraining_sizes(name).values())
    numbers = continue_pretraining(text, spec, pairs, backbone_folder(start), out / "model", out / "checkpoints")
    facts = {"pretraining": name, "text": read_meta(text), "start_sha256": sha256_of(start)}
    _write(numbers, {**facts, "settings": spec.model_dump(mode="json")}, out)


def _write(numbers: dict[str, Any], facts: dict[str, Any], out: Path) -> None:
    memory = largest(peak_memory_mb(), device_of())
    if not is_first():
        return
    record = {**facts, **numbers, "peak_memory_mb": memory, **environment()}
    write_json(out / "pretraining.json", record)
    write_backbone(out / "model", out / "backbone.json")
