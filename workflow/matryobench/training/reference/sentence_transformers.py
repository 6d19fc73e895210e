"""Reference backend: bert, mse (v1) and 2dmse-v1 (st-5.7) by SentenceTransformerTrainer and that library's losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from matryobench.errors import InputError
from matryobench.models.folders import device_of, load_encoder, quiet, read_settings, save_encoder
from matryobench.objectives.recipe import BaseLoss, MNRLoss

if TYPE_CHECKING:
    from matryobench.models.encoder import Encoder, Pooling
    from matryobench.tasks import Training

Loss = Literal["mnrl", "matryoshka", "matryoshka-2d"]
"""mnrl: MultipleNegativesRankingLoss (bert). matryoshka: MatryoshkaLoss of it (mse v1). matryoshka-2d:
Matryoshka2dLoss of it with its defaults (2dmse-v1, variant st-5.7)."""


def train_sentence_transformers(
    start: Path,
    out_model: Path,
    work: Path,
    *,
    columns: Mapping[str, Sequence[str]],
    batches: Callable[[int], Sequence[Any]],
    loss: Loss,
    base: BaseLoss,
    dims: Sequence[int],
    pooling: Pooling,
    max_length: int,
    training: Training,
    init_seed: int,
    dropout_seed: int,
    draw_seed: int,
    label: str,
    device_name: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Trains from the model folder `start` and writes `out_model` in our form and `work`/telemetry.jsonl.

    columns: name -> texts (anchor, positive and further columns of hard negatives), all of one length. batches(epoch):
    the epoch's micro-batches in order, each a list or tensor of row numbers. dims: the nested widths of the matryoshka
    losses. Returns steps, resumed_at (0), train_seconds, precision, final_loss, backend and backend_versions. Raises
    InputError for a base loss other than mnrl, widths that the encoder has not, and a loss that is not finite.

    The same as in a native run: rows and their order, start weights, pooling, truncation, AdamW (fused; biases and
    norms not decayed), warm-up and decay, clipping, precision, accumulation, number of steps. Different, because it is
    the implementation: a batch is padded per column and passed whole, not sorted by length and cut; dropout masks and
    the drawn layers and widths come from the library's global generators (seeded with dropout_seed and draw_seed), so
    they are equally likely but not the same ones; under mixed precision the loss is computed in it, natively in
    float32; after an fp16 overflow the schedule waits; an encoder with a final norm (ModernBERT) does not get it on
    the sub-layers of Matryoshka2dLoss; `tokens_per_forward`, `gradient_caching` and `checkpoint_every` mean nothing.

    The Trainer's checkpoints are pickles, so none are written: an interrupted run starts again.
    """
    device = device_of(device_name)
    if not isinstance(base, MNRLoss):
        raise InputError(f"{label}: backend sentence-transformers has no base loss '{base.loss}' here; use mnrl.")
    if len({len(texts) for texts in columns.values()}) != 1 or len(columns) < 2:
        raise InputError(
            f"{label}: the columns {', '.join(columns)} are not two or more of one length; check the data."
        )

    from matryobench.training.reference.trainer import Job, restored_randomness, versions

    job = Job(batches, training, dropout_seed, draw_seed, work, device, label, progress)
    with restored_randomness(init_seed), quiet():
        encoder = load_encoder(start, pooling)
        if loss != "mnrl" and not (dims and min(dims) > 0 and max(dims) <= encoder.width):
            raise InputError(f"{label}: nested_dims {list(dims)} must be widths in 1..{encoder.width}; correct them.")
        if training.gradient_checkpointing:
            encoder.backbone.activation_checkpointing_enable()
        weights = read_settings(start).weights
        model = _model(encoder, weights, max_length, device)
        outcome = job.run(_trainer(job, model, columns, _loss(model, loss, base.scale, list(dims))))
    save_encoder(encoder.to("cpu"), weights, out_model, max_length)
    return {
        **outcome,
        "backend": "sentence-transformers",
        "backend_versions": versions("sentence-transformers", "transformers", "accelerate", "datasets"),
    }


def _model(encoder: Encoder, weights: Path, max_length: int, device: torch.device) -> Any:
    """The library's model around the very encoder that a native run starts from."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(str(weights), max_seq_length=max_length, config_kwargs={"local_files_only": True})
    transformer.model = encoder.backbone  # float32, checked for completeness, without the unused pooler
    return SentenceTransformer(modules=[transformer, Pooling(encoder.width, encoder.pooling)], device=str(device))


def _loss(model: Any, loss: Loss, scale: float, dims: list[int]) -> Any:
    from sentence_transformers.sentence_transformer import losses

    ranking = losses.MultipleNegativesRankingLoss(model, scale=scale)
    match loss:
        case "mnrl":
            return ranking
        case "matryoshka":
            return losses.MatryoshkaLoss(model, ranking, dims)
        case "matryoshka-2d":
            return losses.Matryoshka2dLoss(model, ranking, dims)


def _trainer(job: Any, model: Any, columns: Mapping[str, Sequence[str]], loss: Any) -> Any:
    """SentenceTransformerTrainer, with our order of rows and schedule through the hooks that it has for them."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import DefaultBatchSampler

    from matryobench.training.reference.trainer import NativeSchedule, OneDevice

    class Arguments(OneDevice, SentenceTransformerTrainingArguments):
        pass

    class Batches(DefaultBatchSampler):
        def __iter__(self) -> Iterator[list[int]]:
            return iter([_numbers(rows) for rows in job.batches(self.epoch)])

        def __len__(self) -> int:
            return len(job.batches(0))

    class Trainer(NativeSchedule, SentenceTransformerTrainer):
        def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **kwargs: Any) -> Any:
            return Batches(dataset, batch_size, drop_last)

        def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
            """None: it would look the model up on the hub."""

    dataset = Dataset.from_dict({name: list(texts) for name, texts in columns.items()})
    trainer = Trainer(model=model, args=Arguments(**job.arguments()), train_dataset=dataset, loss=loss)
    trainer.job = job
    return trainer


def _numbers(rows: Tensor | Sequence[int]) -> list[int]:
    return [int(row) for row in rows]
