"""Pre-training from start to finished folder: the training loop of all runs, over masked texts."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from matryobench.backbones import usable_positions
from matryobench.errors import InputError
from matryobench.files import atomic_path, discard
from matryobench.models.folders import TOKENIZER_FILES, device_of, quiet
from matryobench.pretraining.batches import MaskedTexts
from matryobench.pretraining.masking import Masker, Vocabulary
from matryobench.pretraining.smae import Pair, SizedMaskedLM
from matryobench.pretraining.spec import PretrainSeeds
from matryobench.pretraining.text import Source
from matryobench.tasks import Training
from matryobench.training.gather import is_first, world_size
from matryobench.training.loop import Loop


def run(
    model: Any,
    source: Source,
    masker: Masker,
    pairs: list[Pair],
    training: Training,
    seeds: PretrainSeeds,
    identity: str,
    tokenizer_folder: Path,
    out: Path,
    work: Path,
    device: str | None,
    progress: bool,
) -> dict[str, Any]:
    """Pre-trains `model`, with a decoder where `masker` has one, and writes the folder `out`; returns numbers of the run.

    `out` has the model with its head (safetensors) and the tokenizer of `tokenizer_folder`; telemetry.jsonl beside it has
    each pair's losses at every step. The decoder only serves the training and is not kept: SMAE that goes on from `out`
    copies its first layer again. `work` holds checkpoints until `out` is there; the same call goes on from them to the
    same weights. Raises InputError for a loss that is not finite and a precision that the device lacks.
    """
    began = time.perf_counter()
    target = device_of(device)
    texts = MaskedTexts(source, masker, pairs, training.batch_size, training.accumulation)
    module = SizedMaskedLM(model, pairs, decoder=masker.decoder is not None)
    if training.gradient_checkpointing:
        model.base_model.activation_checkpointing_enable()
    loop = Loop(
        module=module.to(target),
        loss_of=texts.loss_of,
        batches=texts.batches,
        training=training,
        dropout_seed=seeds.dropout,
        draw_seed=seeds.masking,
        identity=identity,
        work=work / "loop",
        device=target,
        label="pre-training",
        progress=progress,
        terms_shown=2 * len(pairs),
    )
    try:
        outcome = loop.run()
    finally:
        texts.close()
    lines = [json.loads(line) for line in (loop.work / "telemetry.jsonl").read_text(encoding="utf-8").splitlines()]
    per_step = [round(line["tokens"] * texts.per_step) for line in lines]
    own = sum(per_step[outcome["resumed_at"] :])
    if is_first():
        with atomic_path(out.parent / "telemetry.jsonl") as partial:
            shutil.copyfile(loop.work / "telemetry.jsonl", partial)
        with atomic_path(out) as partial, quiet():
            model.to("cpu").save_pretrained(partial)
            for name in TOKENIZER_FILES:
                if (tokenizer_folder / name).is_file():
                    shutil.copyfile(tokenizer_folder / name, partial / name)
    if world_size() > 1:
        dist.barrier()  # nobody removes what the first process still copies
    discard(work)
    return {
        **outcome,
        "losses": {name: value for name, value in lines[-1].items() if "/" in name},
        "pairs": [list(pair) for pair in pairs],
        "texts": len(source),
        "passes": round(outcome["steps"] * texts.per_step * texts.batch_size / len(source), 3),
        "tokens_seen": sum(per_step),
        "tokens_per_second": round(own / max(outcome["train_seconds"], 1e-9), 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "processes": world_size(),
        "device": str(target) if target.type == "cpu" else torch.cuda.get_device_name(target),
        "seconds": round(time.perf_counter() - began, 2),
    }


def check_fits(model: Any, vocabulary: Vocabulary, max_length: int, place: str) -> None:
    """Raises InputError where the texts are longer or the vocabulary is larger than the model's tables."""
    positions = usable_positions(model.config.to_dict())
    if positions is not None and max_length > positions:
        raise InputError(f"{place}: it has {positions} positions and max_length is {max_length}; lower max_length.")
    if len(vocabulary.special) > model.config.vocab_size:
        raise InputError(
            f"{place}: its tokenizer has {len(vocabulary.special)} tokens and the model {model.config.vocab_size}; the"
            " folder mixes two models, so give an intact one."
        )
