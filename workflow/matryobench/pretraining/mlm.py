"""Plain masked-language-model pre-training of a small BERT from scratch (Devlin et al. 2019, arXiv 1810.04805, section 3.1).

The chosen share of the tokens is predicted: 80 % of them masked, 10 % replaced by a random token, 10 % left. No next-sentence
task. Documents are packed into blocks; all else is what continued pre-training does with one size and no decoder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matryobench.models.folders import load_tokenizer
from matryobench.plan import digest
from matryobench.pretraining.blocks import pack
from matryobench.pretraining.engine import run
from matryobench.pretraining.masking import Masker, vocabulary_of
from matryobench.pretraining.spec import PretrainSpec
from matryobench.pretraining.start import new_masked_lm
from matryobench.pretraining.text import Blocks
from matryobench.pretraining.tokenizer import train_tokenizer
from matryobench.tasks import Training


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
    sizes = spec.architecture
    # Of several processes each learns the same vocabulary, in a folder of its own.
    folder = work / f"tokenizer-{os.environ.get('RANK', '0')}"
    size = train_tokenizer(text, spec.vocab_size, folder, sizes.max_length)
    tokenizer = load_tokenizer(folder)
    vocabulary = vocabulary_of(tokenizer, str(folder))
    # Long documents are cut by `pack`, so the tokenizer need not warn of them.
    ids = tokenizer(list(text), add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    blocks = pack(ids, sizes.max_length, vocabulary.first, vocabulary.separator)
    numbers = run(
        new_masked_lm(sizes, size, vocabulary.padding, spec.seeds.init),
        Blocks(blocks, spec.seeds.data),
        Masker(vocabulary, spec.whole_words, spec.mask_probability, None),
        [(sizes.layers, sizes.hidden)],
        Training(
            batch_size=spec.batch_size,
            steps=spec.steps,
            learning_rate=spec.learning_rate,
            warmup=spec.warmup_steps,
            weight_decay=0.01,
            checkpoint_every=checkpoint_every,
        ),
        spec.seeds,
        digest([spec.model_dump(mode="json"), list(text)]),
        folder,
        out,
        work,
        device,
        progress,
    )
    return {**numbers, "documents": len(text), "blocks": len(blocks), "vocab_size": size}
