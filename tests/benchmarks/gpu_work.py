"""Encoder, texts and searches that gpu.py measures. Every way ends with its result on the host, so that its time is whole."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from matryobench.evaluation.search import TopK
from matryobench.models.encoder import Encoder, default_tokens_per_forward
from matryobench.models.folders import quiet

Way = Callable[[], Any]
K = 100


@dataclass(frozen=True)
class Shape:
    """Encoder, batch and corpus. *_lengths: mean and standard deviation of tokens, and the most that there are."""

    layers: int
    hidden: int
    heads: int
    vocabulary: int
    steps: int
    queries: int
    group: int
    query_lengths: tuple[float, float, int]
    passage_lengths: tuple[float, float, int]
    passages_encoded: int
    documents: int
    searches: int
    dims: tuple[int, ...]

    @classmethod
    def bert_base(cls) -> Shape:
        """BERT-base, and lengths as of MS MARCO's queries and passages in WordPiece tokens."""
        return cls(12, 768, 12, 30522, 10, 128, 8, (9, 3, 32), (80, 30, 196), 20_000, 1_000_000, 6980,
                   (8, 16, 32, 64, 128, 256, 512, 768))  # fmt: skip

    @classmethod
    def toy(cls) -> Shape:
        """What a CPU does in seconds."""
        return cls(2, 32, 2, 100, 2, 4, 3, (5, 1, 8), (12, 5, 24), 30, 600, 20, (8, 16, 32))

    def told(self) -> str:
        """For the table."""
        return f"{self.layers} layers x {self.hidden}, bf16"


def texts(shape: Shape, count: int, lengths: tuple[float, float, int], seed: int) -> list[Tensor]:
    """Random token sequences (tokens,) int32 whose lengths are normal, cut to 4 and to the longest."""
    source = torch.Generator().manual_seed(seed)
    mean, deviation, most = lengths
    sizes = (torch.randn(count, generator=source) * deviation + mean).round().clamp(4, most).int().tolist()
    return [torch.randint(5, shape.vocabulary, (size,), generator=source, dtype=torch.int32) for size in sizes]


def encoder_of(shape: Shape, device: torch.device) -> Encoder:
    """The same random weights every time, without dropout so that ways can be compared."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, intermediate_size=4 * shape.hidden, max_position_embeddings=512,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return Encoder(BertModel(config, add_pooling_layer=False), "cls", 0).to(device)


def encode_ours(shape: Shape, device: torch.device, passages: list[Tensor], found: dict[str, Any]) -> Way:
    """All layers of every passage, as an evaluation with `encode_precision: bf16` encodes."""
    encoder = encoder_of(shape, device).eval()
    encoder.computed_in = torch.bfloat16
    layers = list(range(1, shape.layers + 1))
    piece = 4096  # as the corpus pass: embeddings at all layers are held for a piece only

    @torch.inference_mode()
    def way() -> None:
        last = []
        for start in range(0, len(passages), piece):
            pooled = encoder.embed(passages[start : start + piece], layers, default_tokens_per_forward(device))
            last.append(pooled[-1:].cpu())
        found["ours"] = torch.cat(last, dim=1)

    return way


def encode_peer(
    shape: Shape, device: torch.device, passages: list[Tensor], found: dict[str, Any], scratch: Path
) -> tuple[Way, Any]:
    """SentenceTransformer.encode of the last layer at its fastest of a few batch sizes, and the encoder's configuration.

    Texts are words that its tokenizer turns into the very tokens: w17 is token 17, without special tokens.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    encoder = encoder_of(shape, device).eval()
    folder = scratch / "peer"
    words = {"[PAD]": 0, "[UNK]": 1} | {f"w{number}": number for number in range(2, shape.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with quiet():
        encoder.backbone.save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
            folder
        )
        transformer = Transformer(str(folder), max_seq_length=shape.passage_lengths[2])
        model = SentenceTransformer(modules=[transformer, Pooling(shape.hidden, "cls")], device=str(device)).eval()
    if device.type == "cuda":  # the toy needs no speed
        model = model.bfloat16()
    written = [" ".join(f"w{int(token)}" for token in one) for one in passages]

    def encode(batch: int) -> Any:
        return model.encode(written, batch_size=batch, convert_to_tensor=True, show_progress_bar=False)

    def seconds(batch: int) -> float:
        started = time.perf_counter()
        encode(batch)
        return time.perf_counter() - started

    encode(32)
    best = min((32, 128, 512), key=lambda batch: statistics.median(seconds(batch) for _ in range(2)))

    def way() -> None:
        found["peer"] = encode(best).float().cpu()

    return way, encoder.backbone.config


def search_ours(shape: Shape, device: torch.device, found: dict[str, Any]) -> Way:
    """All widths of one layer; the corpus is on the device, piece by piece as an encoder would leave it."""
    queries, documents = _vectors(shape, device)

    def way() -> None:
        best = TopK([(1, 1, dim) for dim in shape.dims], {1: queries}, min(K, shape.documents))
        for start in range(0, len(documents), 4096):
            best.add({1: documents[start : start + 4096]}, start)
        found["ours"] = best.result()

    return way


def search_peer(shape: Shape, device: torch.device, found: dict[str, Any]) -> Way:
    """One width: a product and a top k per piece, and the top k of both."""
    queries, documents = _vectors(shape, device)
    k, piece = min(K, shape.documents), 65_536

    @torch.inference_mode()
    def way() -> None:
        scores = torch.full((len(queries), k), -torch.inf, device=device)
        numbers = torch.zeros((len(queries), k), dtype=torch.long, device=device)
        for start in range(0, len(documents), piece):
            some = queries @ documents[start : start + piece].T
            value, place = some.topk(min(k, some.shape[1]), dim=1)
            scores, kept = torch.cat([scores, value], dim=1).topk(k, dim=1)
            numbers = torch.cat([numbers, place + start], dim=1).gather(1, kept)
        found["peer"] = numbers.cpu()

    return way


def _vectors(shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    source = torch.Generator(device=device).manual_seed(1)
    return (
        torch.randn(shape.searches, shape.hidden, generator=source, device=device),
        torch.randn(shape.documents, shape.hidden, generator=source, device=device),
    )
