"""Plain masked-language-model pre-training of a small BERT from scratch (Devlin et al. 2019, arXiv 1810.04805, section 3.1).

The chosen share of the tokens is predicted: 80 % of them masked, 10 % replaced by a random token, 10 % left. No next-sentence
task. The training loop is the one of all runs, so a killed pre-training goes on to the same weights.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matryobench.files import atomic_path
from matryobench.models.folders import TOKENIZER_FILES, device_of, load_tokenizer, quiet
from matryobench.plan import digest
from matryobench.pretraining.blocks import pack
from matryobench.pretraining.spec import PretrainSpec
from matryobench.pretraining.tokenizer import train_tokenizer
from matryobench.tasks import Training
from matryobench.training.loop import Loop, epoch_order

if TYPE_CHECKING:
    from transformers import BertForMaskedLM


class MaskedLM(nn.Module):
    """Token ids, mask and labels to the mean cross entropy of the predicted tokens; the head sees only those."""

    def __init__(self, model: BertForMaskedLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """(batch, tokens) each; labels are -100 where nothing is predicted. Returns the scalar loss."""
        predicted = labels != -100
        states = self.model.base_model(input_ids, attention_mask=attention_mask).last_hidden_state
        if not predicted.any():  # a small batch may draw no token; the mean over none would be NaN
            nothing: Tensor = states.sum() * 0.0
            return nothing
        loss: Tensor = F.cross_entropy(self.model.cls(states[predicted]).float(), labels[predicted])
        return loss


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

    `out` is a transformers folder (safetensors) with the masked-LM head, which AutoModel, AutoModelForMaskedLM and
    AutoTokenizer load. `work` holds checkpoints until `out` is written; a call with the same text and spec goes on from
    them. `device`: "cpu", "cuda", or None for a GPU where there is one; fp32 on CPU, bf16 or fp16 on GPU.

    Raises InputError for text without content, a vocabulary that is too small, and a loss that is not finite.
    """
    from transformers import DataCollatorForLanguageModeling

    began = time.perf_counter()
    vocabulary = train_tokenizer(text, spec.vocab_size, work / "tokenizer", spec.architecture.max_length)
    tokenizer = load_tokenizer(work / "tokenizer")
    # Long documents are cut by `pack`, so the tokenizer need not warn of them.
    ids = tokenizer(list(text), add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    blocks = pack(ids, spec.architecture.max_length, tokenizer.cls_token_id, tokenizer.sep_token_id)
    model = _model(spec, vocabulary, tokenizer.pad_token_id)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=spec.mask_probability)
    batch_size = min(spec.batch_size, len(blocks))

    def batches(epoch: int) -> list[Tensor]:
        order = torch.from_numpy(epoch_order(len(blocks), spec.seeds.data, epoch))
        return list(torch.split(order, batch_size))[: len(blocks) // batch_size]  # full batches only

    def loss_of(module: nn.Module, numbers: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        collator.generator = generator
        batch = collator([{"input_ids": blocks[int(number)]} for number in numbers])
        loss = module(*(batch[key].to(target) for key in ("input_ids", "attention_mask", "labels")))
        return loss, {f"mlm/l{spec.architecture.layers}/d{spec.architecture.hidden}": loss.detach()}

    target = device_of(device)
    loop = Loop(
        module=MaskedLM(model).to(target),
        loss_of=loss_of,
        batches=batches,
        training=Training(
            batch_size=batch_size,
            steps=spec.steps,
            learning_rate=spec.learning_rate,
            warmup=spec.warmup_steps,
            weight_decay=0.01,
            checkpoint_every=checkpoint_every,
        ),
        dropout_seed=spec.seeds.dropout,
        draw_seed=spec.seeds.masking,
        identity=digest([spec.model_dump(mode="json"), list(text)]),
        work=work / "loop",
        device=target,
        label="pre-training",
        progress=progress,
    )
    outcome = loop.run()
    with atomic_path(out) as partial, quiet():
        model.to("cpu").save_pretrained(partial)
        for name in TOKENIZER_FILES:
            if (work / "tokenizer" / name).is_file():
                (partial / name).write_bytes((work / "tokenizer" / name).read_bytes())
    shutil.rmtree(work)
    return {
        **outcome,
        "documents": len(text),
        "blocks": len(blocks),
        "passes": round(spec.steps * batch_size / len(blocks), 3),
        "vocab_size": vocabulary,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "device": str(target),
        "seconds": round(time.perf_counter() - began, 2),
    }


def _model(spec: PretrainSpec, vocabulary: int, padding: int) -> BertForMaskedLM:
    from transformers import BertConfig, BertForMaskedLM

    sizes = spec.architecture
    config = BertConfig(
        vocab_size=vocabulary,
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
        return BertForMaskedLM(config)
