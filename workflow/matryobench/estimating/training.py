"""Pre-training and training jobs: steps, operations, memory and files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matryobench.config import PretrainedBackbone
from matryobench.estimating import budgets, operations
from matryobench.estimating.budgets import MEGABYTE, RESIDENT
from matryobench.estimating.losses import base_dims, loss_terms
from matryobench.estimating.shapes import EncoderShape
from matryobench.estimating.sizes import Sizes
from matryobench.estimating.texts import Texts
from matryobench.estimating.work import Job
from matryobench.tasks import StsRecipe, Training

if TYPE_CHECKING:
    from matryobench.plan import Plan, Run

TOKENIZER_BYTES = 24  # of a model folder, per entry of the vocabulary
TELEMETRY_BYTES = 90  # of a step, per term of the loss


@dataclass(frozen=True)
class Steps:
    """Optimiser steps, and micro-batches in all of them."""

    steps: int
    micro_batches: int


def steps_of(training: Training, rows: int) -> Steps:
    """As the training loop counts them: an epoch's last step may have fewer micro-batches."""
    per_epoch = max(1, math.ceil(rows / training.batch_size))
    if training.epochs is not None:
        return Steps(math.ceil(per_epoch / training.accumulation) * training.epochs, per_epoch * training.epochs)
    assert training.steps is not None
    return Steps(training.steps, training.steps * min(training.accumulation, per_epoch))


def in_half(training: Training, gpu: bool) -> bool:
    """Whether products are in 16 bits: what `auto` means depends on the device."""
    return training.precision in ("bf16", "fp16") or (training.precision == "auto" and gpu)


def training_job(plan: Plan, sizes: Sizes, shape: EncoderShape, run: Run, gpu: bool) -> Job:
    """The job that trains a run. `gpu`: whether it runs on one, which decides precision and passes."""
    recipe, training = plan.recipe(run), plan.recipe(run).training
    layers = run.layers or shape.layers
    if isinstance(recipe, StsRecipe):
        row = sizes.training_row(recipe.train, recipe.max_length)
        texts = row.scaled(training.batch_size)
        queries, passages = training.batch_size, texts.count - training.batch_size
        tokenised: tuple[str, ...] = (recipe.train, str(recipe.max_length))
    else:
        query, passage = sizes.group_row(recipe.train, recipe.query_max_length, recipe.passage_max_length)
        texts = query.scaled(training.batch_size) + passage.scaled(training.batch_size * recipe.group_size)
        queries, passages = training.batch_size, training.batch_size * recipe.group_size
        tokenised = (recipe.train, f"{recipe.query_max_length}-{recipe.passage_max_length}")
    counted = steps_of(training, sizes.rows(recipe.train))
    recomputed = training.gradient_checkpointing + training.gradient_caching
    padding = budgets.PADDING if run.backend == "native" else budgets.UNSORTED
    padded = Texts(texts.count, texts.tokens * padding, texts.squares * padding)
    dims = base_dims(plan, run, shape)
    encoding = operations.training(shape, padded, layers, recomputed)
    scoring = operations.contrastive(queries, passages, dims)
    parameters = shape.parameters(layers)
    half = in_half(training, gpu)
    amounts = loop_amounts(shape, training, counted, padded, layers, gpu, recomputed)
    amounts |= {
        "start_model": 1.0,
        "updates": float(parameters * counted.steps),
        "loss_terms": float(loss_terms(plan, run, shape) * counted.micro_batches),
        "written": 8.0 * parameters + 12.0 * parameters * (counted.steps // training.checkpoint_every),
    }
    _add(
        amounts, "half_operations" if half else "full_operations", encoding * counted.micro_batches / training.processes
    )
    _add(amounts, "full_operations", scoring * counted.micro_batches / training.processes)
    keeps = "pass" if training.gradient_caching else "layers" if training.gradient_checkpointing else "all"
    budget = budgets.tokens_per_forward(gpu, training.tokens_per_forward)
    taken = budgets.training_bytes(shape, layers, parameters, padded.tokens / training.processes, budget, half, keeps)
    after: list[tuple[str, object]] = [("tokenise", tokenised)]
    after.append(
        ("train", run.starts_from)
        if run.starts_from
        else ("continue_pretraining", run.pretraining)
        if run.pretraining
        else ("backbone", None)
    )
    memory = RESIDENT["model"] * MEGABYTE + (4 * parameters * 2 if gpu else taken)
    return Job(
        "train",
        run.run_id,
        "train",
        amounts,
        tokens=texts.tokens * counted.micro_batches,
        disk=4.0 * parameters + TOKENIZER_BYTES * shape.vocabulary + TELEMETRY_BYTES * counted.steps * (3 + len(dims)),
        memory=memory * training.processes,
        device_memory=taken if gpu else 0.0,
        after=tuple(after),
        processes=training.processes,
        accelerated=True,
    )


def own_backbone_job(plan: Plan, sizes: Sizes, shape: EncoderShape, gpu: bool) -> Job:
    """The job that pre-trains the experiment's own backbone; its texts are packed into full blocks."""
    backbone = plan.experiment.backbone
    assert isinstance(backbone, PretrainedBackbone)
    spec = backbone.spec
    block = float(spec.architecture.max_length)
    texts = Texts(spec.batch_size, spec.batch_size * block, spec.batch_size * block * block)
    training = Training(batch_size=spec.batch_size, steps=spec.steps, learning_rate=spec.learning_rate)
    counted = Steps(spec.steps, spec.steps)
    pairs = [(shape.layers, shape.hidden)]
    job = _masked_lm_job(shape, training, counted, texts, pairs, spec.mask_probability, None, gpu)
    # The vocabulary is learned and all text is tokenised first.
    amounts = {**job, "tokenised": 3 * sizes.read(backbone.text, 10**6).tokens}
    return _pretraining_job("pretrain", None, shape, training, counted, texts, pairs, amounts, gpu, backbone.text)


def continued_job(plan: Plan, sizes: Sizes, shape: EncoderShape, name: str, gpu: bool) -> Job:
    """The job of an entry of the experiment's `pretraining`."""
    spec = plan.experiment.pretraining[name]
    smae = spec.objective == "smae"
    pairs = list(plan.pretraining_sizes(name).values()) if smae else [(shape.layers, shape.hidden)]
    rows, training = sizes.rows(spec.text), spec.training
    batch = min(training.batch_size, max(1, rows))
    own = sizes.read(spec.text, spec.max_length).mean
    # A micro-batch is padded to its longest text: nearly always the limit where the mean is half of it.
    longest = min(float(spec.max_length), 2 * own)
    texts = Texts(batch, batch * longest, batch * longest * longest)
    counted = steps_of(training, rows)
    decoder = spec.decoder_mask if smae else None
    amounts = _masked_lm_job(shape, training, counted, texts, pairs, spec.encoder_mask * own / longest,
                             None if decoder is None else decoder * own / longest, gpu)  # fmt: skip
    characters = sizes.read(spec.text, 10**6).mean
    amounts["tokenised"] = characters * batch * counted.micro_batches
    # Before the first step every text is looked at until one is usable.
    job = _pretraining_job(
        "continue_pretraining", name, shape, training, counted, texts, pairs, amounts, gpu, spec.text
    )
    return job


def _masked_lm_job(
    shape: EncoderShape,
    training: Training,
    counted: Steps,
    texts: Texts,
    pairs: list[tuple[int, int]],
    encoder_mask: float,
    decoder_mask: float | None,
    gpu: bool,
) -> dict[str, float]:
    """Amounts of a masked-LM training; its passes are whole micro-batches."""
    deepest = max(layer for layer, _ in pairs)
    one_pass = Training(batch_size=1, steps=1, tokens_per_forward=max(1, round(texts.tokens)))
    amounts = loop_amounts(shape, one_pass, counted, texts, deepest, gpu, training.gradient_checkpointing)
    amounts = {name: value / training.processes if name == "elements" else value for name, value in amounts.items()}
    predicted = texts.tokens * (encoder_mask + (decoder_mask or 0.0)) * len(pairs)
    parameters = shape.parameters() + shape.head_parameters()
    amounts |= {
        "start_model": 1.0,
        "inner_elements": predicted * shape.vocabulary * counted.micro_batches / training.processes,
        "updates": float(parameters * counted.steps),
        "loss_terms": float(2 * len(pairs) * counted.micro_batches),
        "written": 8.0 * parameters + 12.0 * parameters * (counted.steps // training.checkpoint_every),
    }
    work = operations.masked_lm(shape, texts, pairs, encoder_mask, decoder_mask) * counted.micro_batches
    kind = "half_operations" if in_half(training, gpu) else "full_operations"
    _add(amounts, kind, work / training.processes)
    return amounts


def _pretraining_job(
    rule: str,
    key: str | None,
    shape: EncoderShape,
    training: Training,
    counted: Steps,
    texts: Texts,
    pairs: list[tuple[int, int]],
    amounts: dict[str, float],
    gpu: bool,
    text: str,
) -> Job:
    parameters = shape.parameters() + shape.head_parameters()
    keeps = "layers" if training.gradient_checkpointing else "all"
    deepest, half = max(layer for layer, _ in pairs), in_half(training, gpu)
    tokens = texts.tokens / training.processes
    taken = budgets.training_bytes(shape, deepest, parameters, tokens, tokens, half, keeps)
    # The head's gradient of the vocabulary, and the rows of every pair before it: float32, twice.
    taken += 4.0 * shape.vocabulary * shape.hidden + 24.0 * tokens * len(pairs) * shape.hidden
    after: list[tuple[str, object]] = [("fetch_data", text)]
    if key is not None:
        after.append(("backbone", None))
    return Job(
        rule,
        key,
        "pretrain",
        amounts,
        tokens=texts.tokens * counted.micro_batches,
        disk=4.0 * parameters
        + TOKENIZER_BYTES * shape.vocabulary
        + TELEMETRY_BYTES * counted.steps * (3 + 2 * len(pairs) * (key is not None)),
        memory=(RESIDENT["model"] * MEGABYTE + (8 * parameters if gpu else taken)) * training.processes,
        device_memory=taken if gpu else 0.0,
        after=tuple(after),
        processes=training.processes,
        accelerated=True,
    )


def loop_amounts(
    shape: EncoderShape, training: Training, counted: Steps, texts: Texts, layers: int, gpu: bool, recomputed: int
) -> dict[str, float]:
    """Passes and elements of all micro-batches, of one process: forward once, backward twice, recomputed once each."""
    budget = budgets.tokens_per_forward(gpu, training.tokens_per_forward)
    turns = (3 + recomputed) * counted.micro_batches
    passes = budgets.passes(texts.tokens / training.processes, budget)
    return {
        "layer_passes": float(passes * (layers + 1) * turns),
        "elements": texts.tokens / training.processes * (layers + 1) * shape.hidden * turns,
    }


def _add(amounts: dict[str, float], name: str, value: float) -> None:
    amounts[name] = amounts.get(name, 0.0) + value
