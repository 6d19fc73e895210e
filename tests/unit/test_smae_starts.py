"""What continued pre-training starts from: heads, models of other types, sizes and texts that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from smae_cases import LINES, run, spec, weights

from matryobench.backbones import usable_positions
from matryobench.errors import InputError
from matryobench.pretraining.batches import MaskedTexts
from matryobench.pretraining.masking import Masker, vocabulary_of
from matryobench.pretraining.parts import head_of, layers_of
from matryobench.pretraining.start import load_masked_lm
from matryobench.pretraining.text import Blocks


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "text.parquet"
    pq.write_table(pa.table({"text": LINES}), path, row_group_size=20)
    return path


# --- starts and bad input --------------------------------------------------------------------------------------------


def test_a_new_head_depends_on_the_seed_alone(tiny_bert: Path) -> None:
    heads = []
    for seed, other in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(other)
        heads.append(head_of(load_masked_lm(tiny_bert, seed)[0]).dense.weight)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_the_real_minilm_can_be_a_start(minilm: Path) -> None:
    model, new = load_masked_lm(minilm, 1)
    assert new and model.config.num_hidden_layers == 6 and usable_positions(model.config.to_dict()) == 512
    stored = load_file(minilm / "model.safetensors")["encoder.layer.5.output.dense.weight"]
    assert torch.equal(layers_of(model)[5].output.dense.weight, stored)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_a_start_that_lacks_weights_or_is_of_another_type_is_one_sentence(tiny_bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model, _ = load_masked_lm(tiny_bert, 1)
    model.save_pretrained(tmp_path / "whole")
    stored = weights(tmp_path / "whole")
    for name, message in (
        ("bert.encoder.layer.1.output.dense.weight", "the weights lack 1 parameters, first bert.encoder.layer.1"),
        ("cls.predictions.transform.dense.weight", "the masked-LM head lacks cls.predictions.transform.dense.weight"),
    ):
        save_file({n: v for n, v in stored.items() if n != name}, tmp_path / "whole" / "model.safetensors",
                  metadata={"format": "pt"})  # fmt: skip
        with pytest.raises(InputError, match=message):
            load_masked_lm(tmp_path / "whole", 1)
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    (tmp_path / "whole" / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    with pytest.raises(
        InputError, match="model type 'gpt2' cannot be pre-trained here; start from one of bert, roberta"
    ):
        load_masked_lm(tmp_path / "whole", 1)


def test_too_long_texts_for_the_model_are_one_sentence(table: Path, tiny_bert: Path) -> None:
    settings = spec().model_copy(update={"max_length": 33})
    with pytest.raises(InputError, match="it has 32 positions and max_length is 33; lower max_length"):
        run(table, tiny_bert, "out", settings)


def test_a_size_beyond_the_backbone_is_one_sentence_before_anything_is_trained(table: Path, tiny_bert: Path) -> None:
    with pytest.raises(InputError, match=r"the size \(12, 768\) does not fit the backbone, whose layers are 1\.\.4"):
        run(table, tiny_bert, "out", pairs=[(2, 8), (12, 768)])
    assert not (table.parent / "out").exists()


def test_a_tokenizer_without_mask_token_is_one_sentence(table: Path, tiny_bert: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()
    for file in tiny_bert.iterdir():
        (start / file.name).write_bytes(file.read_bytes())
    settings = json.loads((start / "tokenizer_config.json").read_text())
    (start / "tokenizer_config.json").write_text(json.dumps({**settings, "mask_token": None}))
    with pytest.raises(InputError, match="its tokenizer has no mask token, which masked-language modelling needs"):
        run(table, start, "out")


def test_a_micro_batch_too_small_for_the_processes_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tiny_bert: Path
) -> None:
    from matryobench.models.folders import load_tokenizer

    vocabulary = vocabulary_of(load_tokenizer(tiny_bert), "test")
    texts = MaskedTexts(Blocks([[2, 7, 3]] * 4, 1), Masker(vocabulary, True, 0.2, None), [(1, 4)], 2, 1)
    monkeypatch.setattr("matryobench.pretraining.batches.world_size", lambda: 3)
    with pytest.raises(InputError, match="a micro-batch of 2 texts cannot be shared by 3 processes; use fewer"):
        texts.masked(texts.batches(0)[0], 1)
