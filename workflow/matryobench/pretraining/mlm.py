"""Plain masked-language-model pre-training of a small BERT from scratch (Devlin et al. 2019, arXiv 1810.04805, sec. 3.1).

15 % (or as set) of the tokens are predicted: 80 % of them masked, 10 % replaced by a random token, 10 % left. No next-sentence
task. Every random choice depends only on its seed and the step number, so a run that was killed continues from its last
checkpoint to exactly the weights of a run that was not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from matryobench.errors import InputError
from matryobench.files import atomic_path, write_json
from matryobench.pretraining.blocks import mixed, order, pack
from matryobench.pretraining.spec import PretrainSpec
from matryobench.pretraining.tokenizer import train_tokenizer

CLIP, WEIGHT_DECAY = 1.0, 0.01
LOSS_WINDOW = 50  # steps over which the reported final loss is averaged


class Blocks(Dataset[dict[str, Any]]):
    """Training examples in their final order: item i is block `which[i]`, and knows its own number i."""

    def __init__(self, blocks: Sequence[Sequence[int]], which: Sequence[int]) -> None:
        self._blocks, self._which = blocks, which

    def __len__(self) -> int:
        return len(self._which)

    def __getitem__(self, item: int) -> dict[str, Any]:
        return {"input_ids": self._blocks[self._which[item]], "example": item}


class SeededMasking:
    """DataCollatorForLanguageModeling whose choices depend on the seed and on which examples are in the batch only."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, probability: float, seed: int) -> None:
        self._collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=probability)
        self._collator.generator = torch.Generator()
        self._seed = seed

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask, labels, each (batch, tokens); labels are -100 where nothing is predicted."""
        self._collator.generator.manual_seed(mixed(self._seed, examples[0]["example"]))
        batch: dict[str, torch.Tensor] = self._collator([{"input_ids": list(e["input_ids"])} for e in examples])
        return batch


class MlmTrainer(Trainer):
    """Trainer that stops at the first loss that is not a number; examples come in the order of the dataset."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Mean cross entropy of the masked tokens; the head, half of the work at this size, sees only those."""
        labels = inputs["labels"]
        masked = labels != -100
        states = model.base_model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
        loss = torch.nn.functional.cross_entropy(model.cls(states[masked]).float(), labels[masked])
        if not torch.isfinite(loss):
            raise InputError(
                f"pre-training: the loss became {loss.item()} at step {self.state.global_step + 1}; lower 'learning_rate' "
                f"(now {self.args.learning_rate:g}) or raise 'warmup_steps' (now {self.args.warmup_steps:g})."
            )
        return loss


class SeededDropout(TrainerCallback):
    """Seeds dropout anew for every step. Dropout has no generator argument, so this is torch's global one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called by the Trainer before each step."""
        torch.manual_seed(mixed(self._seed, state.global_step))


class Bar(TrainerCallback):
    """A progress bar with the loss."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Opens the bar, at the step that a resumed run starts from."""
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="pretrain", unit="step")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """One step further."""
        if self._bar is not None:
            self._bar.update(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Shows the loss."""
        if self._bar is not None and logs and "loss" in logs:
            self._bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()


def pretrain(
    text: Sequence[str],
    spec: PretrainSpec,
    out: Path,
    work: Path,
    device: str | None = None,
    progress: bool = True,
    checkpoint_every: int = 500,
) -> dict[str, Any]:
    """Trains a tokenizer and an encoder on `text` and writes both to the folder `out`; returns numbers about the run.

    `out` has the form of a published BERT checkpoint (safetensors, with pooler and MLM head; the pooler is as
    initialised), so AutoModel, AutoModelForMaskedLM and AutoTokenizer load it. `work` holds checkpoints (every
    `checkpoint_every` steps) until `out` is written; a call with the same text and spec continues from them.
    `device`: "cpu", "cuda", or None for a GPU when there is one. fp32 on CPU, bf16 (autocast) on GPU.

    Raises InputError for text without content, a vocabulary that is too small, and a loss that is not finite.
    """
    started = time.perf_counter()
    digest = _digest(text, spec)
    _prepare(work, digest)
    size = train_tokenizer(text, spec.vocab_size, work / "tokenizer", spec.architecture.max_length)
    tokenizer = AutoTokenizer.from_pretrained(str(work / "tokenizer"))
    blocks = _blocks(text, tokenizer, spec.architecture.max_length)
    which = order(len(blocks), spec.steps * spec.batch_size, spec.seeds.data).tolist()
    model, whole = _models(spec, size, tokenizer.pad_token_id)
    trainer = MlmTrainer(
        model=model,
        args=_arguments(spec, work, device, checkpoint_every),
        train_dataset=Blocks(blocks, which),
        data_collator=SeededMasking(tokenizer, spec.mask_probability, spec.seeds.masking),
        callbacks=[SeededDropout(spec.seeds.dropout), *([Bar()] if progress else [])],
    )
    trainer.remove_callback(PrinterCallback)
    last = _last_checkpoint(work)
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except InputError:
        shutil.rmtree(work, ignore_errors=True)  # a checkpoint of a run that diverged is of no use
        raise
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    whole.load_state_dict(trainer.model.to("cpu").state_dict(), strict=False)
    with atomic_path(out) as folder:
        whole.save_pretrained(str(folder))
        shutil.copytree(work / "tokenizer", folder, dirs_exist_ok=True)
    shutil.rmtree(work)
    return {
        "text_and_spec_sha256": digest,
        "documents": len(text),
        "blocks": len(blocks),
        "passes": round(len(which) / len(blocks), 3),
        "steps": spec.steps,
        "resumed_at_step": int(last.name.rpartition("-")[2]) if last else 0,
        "tokens": sum(len(blocks[number]) for number in which),
        "vocab_size": size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "final_loss": sum(losses[-LOSS_WINDOW:]) / len(losses[-LOSS_WINDOW:]),
        "device": str(trainer.args.device),
        "dtype": "bf16 autocast" if trainer.args.bf16 else "fp32",
        "seconds": round(time.perf_counter() - started, 2),
    }


def _digest(text: Sequence[str], spec: PretrainSpec) -> str:
    whole = hashlib.sha256(spec.model_dump_json().encode())
    for document in text:
        whole.update(b"\n" + document.encode())
    return whole.hexdigest()


def _prepare(work: Path, digest: str) -> None:
    """Keeps checkpoints only if they belong to this text and spec."""
    note = work / "run.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8")).get("text_and_spec_sha256")
    except (OSError, ValueError):
        known = None
    if known != digest:
        shutil.rmtree(work, ignore_errors=True)
        write_json(note, {"text_and_spec_sha256": digest})


def _last_checkpoint(work: Path) -> Path | None:
    """The newest complete checkpoint. The Trainer writes trainer_state.json last, so one without it was cut off."""
    found = {}
    for folder in work.glob("checkpoint-*"):
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            found[int(folder.name.rpartition("-")[2])] = folder
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
    return found[max(found)] if found else None


def _blocks(text: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int) -> list[list[int]]:
    # transformers warns of documents longer than the model; pack() cuts them
    logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)
    ids = tokenizer(list(text), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)
    return pack(ids["input_ids"], length, tokenizer.cls_token_id, tokenizer.sep_token_id)


def _models(spec: PretrainSpec, vocab_size: int, padding: int) -> tuple[BertForMaskedLM, BertForPreTraining]:
    """The model to train, and the one to save: the same weights and a pooler."""
    sizes = spec.architecture
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=sizes.max_length,
        hidden_dropout_prob=sizes.dropout,
        attention_probs_dropout_prob=sizes.dropout,
        pad_token_id=padding,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seeds.init)
        whole = BertForPreTraining(config)
        model = BertForMaskedLM(config)
    model.load_state_dict(whole.state_dict(), strict=False)
    return model, whole


def _arguments(spec: PretrainSpec, work: Path, device: str | None, checkpoint_every: int) -> TrainingArguments:
    on_gpu = torch.cuda.is_available() and device != "cpu"
    if device not in (None, "cpu") and not on_gpu:
        raise InputError(f"device {device!r}: this machine has no such device; use 'cpu' or leave it out.")
    replicas = torch.cuda.device_count() if on_gpu else 1
    if spec.batch_size % replicas:
        raise InputError(
            f"batch_size: {spec.batch_size} cannot be shared by {replicas} GPUs; set CUDA_VISIBLE_DEVICES to one of them."
        )
    return TrainingArguments(
        output_dir=str(work),
        max_steps=spec.steps,
        per_device_train_batch_size=spec.batch_size // replicas,
        learning_rate=spec.learning_rate,
        warmup_steps=spec.warmup_steps,
        lr_scheduler_type="linear",
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=CLIP,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        save_strategy="steps" if checkpoint_every < spec.steps else "no",
        save_steps=checkpoint_every,
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=10 if spec.steps > LOSS_WINDOW else 1,
        logging_nan_inf_filter=False,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        seed=spec.seeds.dropout,
        disable_tqdm=True,
        report_to=[],
    )
