"""The all-layer encoder: index convention, truncation, batching, saving and export, in every supported family."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matryobench.errors import InputError
from matryobench.models.encoder import length_batches, pool
from matryobench.models.export import export
from matryobench.models.folders import encoder_identity, load_encoder, load_tokenizer, read_settings, save_encoder

TEXTS = ["the dog sees the cat", "a ball", "the small man runs not the red house", "cat"]


@pytest.fixture(scope="module", params=["bert", "roberta", "distilbert", "mpnet", "modernbert"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model folder of each family, 4 layers, width 32."""
    from transformers import AutoModel, BertConfig, DistilBertConfig, ModernBertConfig, MPNetConfig, RobertaConfig

    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
             "intermediate_size": 48, "max_position_embeddings": 40}  # fmt: skip
    special = {"pad_token_id": 1, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    config = {
        "bert": lambda: BertConfig(**sizes),
        "roberta": lambda: RobertaConfig(**sizes, pad_token_id=1),
        "distilbert": lambda: DistilBertConfig(
            vocab_size=60, dim=32, n_layers=4, n_heads=4, hidden_dim=48, max_position_embeddings=40
        ),
        "mpnet": lambda: MPNetConfig(**sizes, pad_token_id=1),
        "modernbert": lambda: ModernBertConfig(**sizes, **special, global_attn_every_n_layers=2, local_attention=8),
    }[request.param]()
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(3)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def sequences(count: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(5, 60, (int(size),), generator=generator) for size in [9, 3, 12, 5, 7][:count]]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_every_layer_is_hidden_states_l_and_truncation_gives_the_same(family: Path, pooling: str) -> None:
    encoder = load_encoder(family, pooling).eval()
    texts = sequences()
    with torch.no_grad():
        together = encoder.embed(texts, [1, 2, 3, 4], 30)
        for number, text in enumerate(texts):
            output = encoder.backbone(
                input_ids=text[None], attention_mask=torch.ones_like(text[None]), output_hidden_states=True
            )
            for layer in (1, 2, 3, 4):
                states = output.hidden_states[layer]
                if hasattr(encoder.backbone, "final_norm") and layer < 4:  # what a truncated ModernBERT ends with
                    states = encoder.backbone.final_norm(states)
                expected = pool(states, torch.ones_like(text[None]), pooling)[0]
                assert (together[layer - 1, number] - expected).abs().max() < 1e-5
        for layer in (1, 2, 3):
            truncated = load_encoder(family, pooling, layer).eval()
            assert (truncated.depth, truncated.width) == (layer, 32)
            assert (truncated.embed(texts, [layer], 30)[0] - together[layer - 1]).abs().max() < 1e-5


def test_a_truncated_encoder_holds_no_more_layers(family: Path) -> None:
    whole, cut = load_encoder(family, "mean"), load_encoder(family, "mean", 1)
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in whole.parameters())
    assert not [name for name, _ in cut.named_parameters() if ".1." in name or ".2." in name]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 200))
def test_length_batches_cover_all_in_order_within_the_budget(lengths: list[int], budget: int) -> None:
    ordered = sorted(lengths, reverse=True)
    batches = length_batches(ordered, budget)
    assert [index for batch in batches for index in batch] == list(range(len(ordered)))
    assert all(len(batch) == 1 or len(batch) * ordered[batch.start] <= budget for batch in batches)


def test_what_was_encoded_otherwise_is_not_taken_for_the_same(tiny_bert: Path, tmp_path: Path) -> None:
    """Unfinished searches and finished mteb sets go on by this identity."""
    shutil.copytree(tiny_bert, tmp_path / "same")
    shutil.copytree(tiny_bert, tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text("{}", encoding="utf-8")
    one = encoder_identity(tiny_bert, "fp32")
    assert encoder_identity(tmp_path / "same", "fp32") == one
    others = {encoder_identity(tiny_bert, precision) for precision in ("bf16", "fp16")}
    assert len(others | {one, encoder_identity(tmp_path / "other", "fp32")}) == 4


def test_mean_pooling_ignores_padding() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    assert pool(states, torch.tensor([[1, 1, 0]]), "mean").tolist() == [[2.0, 3.0]]
    assert pool(states, torch.tensor([[1, 1, 0]]), "cls").tolist() == [[1.0, 2.0]]


def test_threads_divide_the_passes_of_inference_and_never_those_with_dropout(tiny_bert: Path) -> None:
    encoder = load_encoder(tiny_bert, "mean").eval()
    texts = [torch.tensor(ids) for ids in load_tokenizer(tiny_bert)(TEXTS * 5)["input_ids"]]
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            for mode in (torch.no_grad, torch.inference_mode):
                with mode():
                    found.append(encoder.embed(texts, [1, 4], 16).numpy())
            with torch.no_grad():
                torch.manual_seed(3)
                found.append(encoder.train().embed(texts, [1, 4], 16).numpy())
            encoder.eval()
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    one, several = found[:3], found[3:]
    assert all(np.abs(left - right).max() < 1e-6 for left, right in zip(one, several, strict=True))
    assert np.abs(one[2] - one[0]).max() > 1e-3  # dropout did something


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_moves_embeddings_by_its_rounding_and_pools_in_float32(
    tiny_bert: Path, dtype: torch.dtype
) -> None:
    encoder = load_encoder(tiny_bert, "mean").eval()
    texts = [torch.tensor(ids) for ids in load_tokenizer(tiny_bert)(TEXTS)["input_ids"]]
    with torch.no_grad():
        whole = encoder.embed(texts, [1, 4], 1000)
        encoder.computed_in = dtype
        half, apart = encoder.embed(texts, [1, 4], 1000), encoder.embed(texts, [1, 4], 1)
        encoder.computed_in = None
        assert torch.equal(encoder.embed(texts, [1, 4], 1000), whole)
    assert half.dtype == torch.float32 and not torch.equal(half, half.to(dtype).float())
    largest = float((half - whole).abs().max() / whole.abs().max())
    assert 0 < largest < 8 * torch.finfo(dtype).eps
    assert torch.allclose(half, apart, atol=8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_sentence_transformers_loads_a_saved_folder_and_encodes_identically(
    tiny_bert: Path, tmp_path: Path, pooling: str
) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder(tiny_bert, pooling).eval()
    save_encoder(encoder, tiny_bert, tmp_path / "saved", max_length=16)
    assert read_settings(tmp_path / "saved").pooling == pooling
    assert not list((tmp_path / "saved").rglob("*.bin"))
    tokens = load_tokenizer(tmp_path / "saved")(TEXTS, truncation=True, max_length=16)["input_ids"]
    with torch.no_grad():
        ours = encoder.embed([torch.tensor(text) for text in tokens], [4], 1000)[0].numpy()
    library = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert library.max_seq_length == 16
    assert np.abs(library.encode(TEXTS) - ours).max() < 1e-5
    cut = SentenceTransformer(str(tmp_path / "saved"), device="cpu", truncate_dim=8)
    assert np.abs(cut.encode(TEXTS) - ours[:, :8]).max() < 1e-5


def test_export_writes_a_standalone_model_of_one_cell(tiny_bert: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder(tiny_bert, "mean").eval()
    save_encoder(encoder, tiny_bert, tmp_path / "run" / "model", max_length=16)
    (tmp_path / "run" / "run.json").write_text('{"run_id": "sts-x-s1"}', encoding="utf-8")
    export(tmp_path / "run", 2, 8, tmp_path / "cell")
    tokens = load_tokenizer(tiny_bert)(TEXTS)["input_ids"]
    with torch.no_grad():
        ours = encoder.embed([torch.tensor(text) for text in tokens], [2], 1000)[0, :, :8].numpy()
    library = SentenceTransformer(str(tmp_path / "cell"), device="cpu")
    assert np.abs(library.encode(TEXTS) - ours).max() < 1e-5
    assert json.loads((tmp_path / "cell" / "config.json").read_text())["num_hidden_layers"] == 2
    record = json.loads((tmp_path / "cell" / "matryobench.json").read_text())
    assert record == {"layer": 2, "dim": 8, "exported_from": "sts-x-s1"}


def test_a_model_of_instructed_texts_leaves_prompts_out_of_the_pooling_also_as_one_cell(
    tiny_bert: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    from matryobench.data.instructed_tokens import encode_pairs

    encoder = load_encoder(tiny_bert, "mean").eval()
    save_encoder(encoder, tiny_bert, tmp_path / "model", max_length=16, include_prompt=False)
    export(tmp_path / "model", 2, 8, tmp_path / "cell")
    pairs = [("the red ball", text) for text in TEXTS]
    tokens, skips = encode_pairs(pairs, load_tokenizer(tiny_bert), 16, "test")
    with torch.no_grad():
        ours = encoder.embed([torch.tensor(text) for text in tokens], [2, 4], 1000, skips=skips).numpy()
    for folder, expected in (("model", ours[1]), ("cell", ours[0, :, :8])):
        library = SentenceTransformer(str(tmp_path / folder), device="cpu")
        assert np.abs(library.encode(TEXTS, prompt="the red ball ") - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("layer", "dim", "sentence"),
    [(5, 8, "layer 5 is not in 1..4"), (2, 33, "dim 33 is not in 1..32")],
)
def test_export_of_a_cell_outside_the_model_names_the_range(
    tiny_bert: Path, tmp_path: Path, layer: int, dim: int, sentence: str
) -> None:
    save_encoder(load_encoder(tiny_bert, "mean"), tiny_bert, tmp_path / "model", max_length=16)
    with pytest.raises(InputError, match=sentence):
        export(tmp_path / "model", layer, dim, tmp_path / "cell")
    assert not (tmp_path / "cell").exists()


def test_folders_that_are_no_models_are_named(tmp_path: Path, tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        load_encoder(tmp_path / "nothing", "mean")
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_encoder(tmp_path, "mean")
    (tmp_path / "config.json").write_text((tiny_bert / "config.json").read_text(), encoding="utf-8")
    with pytest.raises(InputError, match="no \\*.safetensors weights"):
        load_encoder(tmp_path, "mean")
