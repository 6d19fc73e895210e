"""Reference backend: plain bert for retrieval by tevatron 0.1.0's DenseModel, QPCollator and DenseTrainer.

Used of the package: the model with its loss, the collator, the trainer. Not used: its dataset class (`TrainDataset`
draws a group's negatives in its own way, and its tokenisation calls what transformers 5 no longer has), its drivers,
its gradient cache (needs another package) and its FAISS retriever.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset

from matryobench.errors import InputError
from matryobench.models.folders import device_of, load_encoder, load_tokenizer, quiet, read_settings, save_encoder

if TYPE_CHECKING:
    from matryobench.models.encoder import Pooling
    from matryobench.objectives.recipe import ContrastiveLoss
    from matryobench.tasks import Training

Texts = Sequence[Any]  # token id lists or tensors


def train_tevatron(
    start: Path,
    out_model: Path,
    work: Path,
    *,
    batches: Callable[[int], Sequence[Any]],
    texts: Callable[[Any], tuple[Texts, Texts]],
    group_size: int,
    base: ContrastiveLoss,
    pooling: Pooling,
    query_max_length: int,
    passage_max_length: int,
    training: Training,
    init_seed: int,
    dropout_seed: int,
    label: str,
    device_name: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Trains from the model folder `start` and writes `out_model` in our form and `work`/telemetry.jsonl.

    batches(epoch): the epoch's micro-batches in order, of any kind; texts(batch): the token ids (special tokens
    included) of its B queries and of their B x group_size passages, query by query, the positive first. Returns steps,
    resumed_at (0), train_seconds, precision, final_loss, backend and backend_versions. Raises InputError where
    tevatron is not installed, for a pooling other than cls and a base loss other than dot products at temperature 1
    with all negatives kept (tevatron has no other), for texts longer than their maximum, and for a loss not finite.

    The same as in a native run: queries, drawn passages and their order, start weights, AdamW (fused; biases and norms
    not decayed), warm-up and decay, clipping, precision, accumulation, number of steps. Different, because it is the
    implementation: queries and passages are padded to their maximum lengths and passed whole in two passes; dropout
    masks come from one global stream seeded with dropout_seed; under mixed precision scores are computed in it,
    natively in float32; after an fp16 overflow the schedule waits; `tokens_per_forward`, `gradient_caching` and
    `checkpoint_every` mean nothing. tevatron's own loader drops an epoch's short last batch; here it is trained on, as
    in a native run.

    The Trainer's checkpoints are pickles, so none are written: an interrupted run starts again.
    """
    device = device_of(device_name)
    if pooling != "cls":
        raise InputError(f"{label}: backend tevatron pools the first token only; set pooling to cls, not {pooling}.")
    if (base.similarity, base.temperature, base.false_negatives) != ("dot", 1.0, "keep"):
        raise InputError(
            f"{label}: backend tevatron only has similarity dot, temperature 1 and false_negatives keep; set base to these."
        )
    try:
        import tevatron  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(f"{label}: the package tevatron is not installed; install tevatron 0.1.0.") from None

    from matryobench.training.reference.trainer import Job, restored_randomness, versions

    job = Job(batches, training, dropout_seed, 0, work, device, label, progress)
    limits = (query_max_length, passage_max_length)
    with restored_randomness(init_seed), quiet():
        encoder = load_encoder(start, pooling)
        if training.gradient_checkpointing:
            encoder.backbone.activation_checkpointing_enable()
        outcome = job.run(_trainer(job, encoder.backbone, load_tokenizer(start), texts, group_size, limits))
    save_encoder(encoder.to("cpu"), read_settings(start).weights, out_model, passage_max_length)
    return {
        **outcome,
        "backend": "tevatron",
        "backend_versions": versions("tevatron", "transformers", "accelerate"),
    }


class _Batches(Dataset[Any]):
    """The micro-batches of an epoch, each in the form that tevatron's dataset gives its collator."""

    def __init__(self, job: Any, texts: Callable[[Any], tuple[Texts, Texts]], group_size: int, limits: tuple[int, int]):
        self.job = job
        self.texts = texts
        self.group_size = group_size
        self.limits = limits
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Goes to the batches of an epoch."""
        self.batches = self.job.batches(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> list[tuple[dict[str, list[int]], list[dict[str, list[int]]]]]:
        if number >= len(self):
            raise IndexError(number)
        queries, passages = self.texts(self.batches[number])
        if len(passages) != len(queries) * self.group_size:
            raise InputError(
                f"{self.job.label}: a batch has {len(passages)} passages for {len(queries)} queries; give"
                f" {self.group_size} for each."
            )
        for name, texts, limit in zip(("query", "passage"), (queries, passages), self.limits, strict=True):
            longest = max(map(len, texts))
            if longest > limit:  # the collator pads to the limit and cuts nothing
                raise InputError(f"{self.job.label}: a {name} has {longest} tokens; cut texts to {limit}.")
        encoded = [_features(text) for text in passages]
        size = self.group_size
        return [(_features(text), encoded[row * size : (row + 1) * size]) for row, text in enumerate(queries)]


def _features(text: Sequence[Any]) -> dict[str, list[int]]:
    return {"input_ids": [int(token) for token in text]}


class _Loader(DataLoader[Any]):
    """Tells its dataset the epoch, which the Trainer tells it."""

    def set_epoch(self, epoch: int) -> None:
        """Goes to an epoch."""
        assert isinstance(self.dataset, _Batches)
        self.dataset.set_epoch(epoch)


def _trainer(
    job: Any,
    backbone: Any,
    tokenizer: Any,
    texts: Callable[[Any], tuple[Texts, Texts]],
    group_size: int,
    limits: tuple[int, int],
) -> Any:
    """DenseTrainer as transformers 5 calls it, with our batches and schedule."""
    from tevatron.arguments import DataArguments, DenseTrainingArguments
    from tevatron.data import QPCollator
    from tevatron.modeling import DenseModel
    from tevatron.trainer import DenseTrainer

    from matryobench.training.reference.trainer import NativeSchedule, OneDevice

    class Arguments(OneDevice, DenseTrainingArguments):
        pass

    class Trainer(NativeSchedule, DenseTrainer):
        def get_train_dataloader(self) -> Any:
            """Whole batches in our order, where tevatron's own shuffles and drops the short last one."""
            return _Loader(self.train_dataset, batch_size=None, collate_fn=self.data_collator)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """tevatron's, with the arguments of today's Trainer."""
            # DenseModel shapes its scores by this number; an epoch's last batch may be shorter than the others.
            model_settings.per_device_train_batch_size = len(inputs[0]["input_ids"])
            return super().compute_loss(model, inputs)

    arguments = Arguments(**job.arguments())
    model_settings = copy.copy(arguments)
    model = DenseModel(
        lm_q=backbone,
        lm_p=backbone,
        data_args=DataArguments(train_n_passages=group_size, q_max_len=limits[0], p_max_len=limits[1]),
        train_args=model_settings,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=_Batches(job, texts, group_size, limits),
        data_collator=QPCollator(tokenizer, max_q_len=limits[0], max_p_len=limits[1]),
    )
    trainer.job = job
    return trainer
