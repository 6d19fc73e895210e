"""The model that a pre-training starts from: a folder's, whose masked-LM head may be missing, or a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matryobench.errors import InputError
from matryobench.models.folders import quiet, read_config, reading_weights
from matryobench.pretraining.parts import HEADS
from matryobench.pretraining.spec import Architecture


def load_masked_lm(folder: Path, init_seed: int) -> tuple[Any, bool]:
    """Loads a masked-language model in float32 from a transformers or sentence-transformers folder.

    Returns it and whether its head is new: a folder of an encoder alone gets one (drawn from `init_seed`, the projection
    tied to the word embeddings). Raises InputError for other model types, missing or non-safetensors weights.
    """
    import torch
    from transformers import AutoModelForMaskedLM

    weights, config = read_config(folder)
    if config.model_type not in HEADS:
        raise InputError(
            f"{weights}: model type '{config.model_type}' cannot be pre-trained here; start from one of {', '.join(HEADS)}."
        )
    if not getattr(config, "tie_word_embeddings", True):
        raise InputError(f"{weights}: its masked-LM head is not tied to the word embeddings; start from one that is.")
    with quiet(), reading_weights(weights), torch.random.fork_rng(devices=[]):
        torch.manual_seed(init_seed)
        model, report = AutoModelForMaskedLM.from_pretrained(
            weights, config=config, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    head = HEADS[config.model_type]
    missing = sorted(report["missing_keys"])
    lacking = [name for name in missing if not name.startswith(head)]
    if lacking:
        raise InputError(
            f"{weights}: the weights lack {len(lacking)} parameters, first {lacking[0]}; is the folder whole?"
        )
    own = [name for name, _ in model.named_parameters() if name.startswith(head)]
    if missing and len(set(own) - set(missing)):
        raise InputError(f"{weights}: the masked-LM head lacks {missing[0]}; is the folder whole?")
    return model, bool(missing)


def new_masked_lm(sizes: Architecture, vocabulary: int, padding: int, init_seed: int) -> Any:
    """A BertForMaskedLM with random weights that depend on `init_seed` only."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

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
        torch.manual_seed(init_seed)
        return BertForMaskedLM(config)
