"""SMAE or plain masked-language-model pre-training that goes on from a finished encoder (Starbucks' first stage)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matryobench.files import sha256_of
from matryobench.models.folders import load_tokenizer, read_settings
from matryobench.plan import digest
from matryobench.pretraining.engine import check_fits, run
from matryobench.pretraining.masking import Masker, vocabulary_of
from matryobench.pretraining.smae import Pair, check_pairs
from matryobench.pretraining.spec import ContinueSpec
from matryobench.pretraining.start import load_masked_lm
from matryobench.pretraining.text import TextTable


def continue_pretraining(
    table: Path,
    spec: ContinueSpec,
    pairs: Sequence[Pair],
    start: Path,
    out: Path,
    work: Path,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Pre-trains the model folder `start` on the column `text` of a parquet table of any size and writes the folder `out`.

    `pairs` are the (layer, dim) sizes of SMAE; plain mlm has the full size alone and does not look at them. `out` loads as
    AutoModel and AutoModelForMaskedLM, see `engine.run` for it, `work` and the returned numbers; `new_head` is true where
    `start` is an encoder without masked-LM head, which then gets one. Started by torchrun or accelerate, all processes
    share every micro-batch.

    Raises InputError for a table without usable text, a start that cannot be pre-trained (type, tokenizer without [MASK],
    weights), sizes or a max_length that it does not have, a loss that is not finite, and fp16 on a CPU.
    """
    tokenizer = load_tokenizer(start)
    vocabulary = vocabulary_of(tokenizer, str(start))
    model, new_head = load_masked_lm(start, spec.seeds.init)
    full = (model.config.num_hidden_layers, model.config.hidden_size)
    chosen = list(pairs) if spec.objective == "smae" else [full]
    check_pairs(chosen, *full, str(start))
    check_fits(model, vocabulary, spec.max_length, str(start))
    source = TextTable(table, tokenizer, vocabulary, spec.max_length, spec.seeds.data)
    decoder_mask = spec.decoder_mask if spec.objective == "smae" else None
    weights = read_settings(start).weights
    files = sorted([*weights.glob("*.safetensors"), *weights.glob("tokenizer.json")])
    settings = spec.model_dump(mode="json", exclude={"text", "sizes"})
    numbers = run(
        model,
        source,
        Masker(vocabulary, spec.whole_words, spec.encoder_mask, decoder_mask),
        chosen,
        spec.training,
        spec.seeds,
        digest([settings, chosen, source.fingerprint(), [sha256_of(file) for file in files]]),
        weights,
        out,
        work,
        device,
        progress,
    )
    return {**numbers, "objective": spec.objective, "new_head": new_head}
