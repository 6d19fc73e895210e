"""Small pieces of the program's own work with the seconds that they take here: what a calibration is fitted to."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from matryobench.data.tokens import Tokens
from matryobench.estimating import operations
from matryobench.estimating.evaluating import encoding
from matryobench.estimating.shapes import EncoderShape
from matryobench.estimating.texts import Texts
from matryobench.estimating.training import Steps, loop_amounts
from matryobench.models.encoder import Encoder, default_tokens_per_forward
from matryobench.objectives.objective import Objective
from matryobench.objectives.recipe import MNRLoss
from matryobench.objectives.registry import load_methods
from matryobench.paths import METHODS
from matryobench.tasks import Training
from matryobench.training.loop import Loop
from matryobench.training.module import AllLayers
from matryobench.training.sts import StsTraining

SEED = 0


@dataclass(frozen=True)
class Probe:
    """What was done, in units of work.QUANTITIES, and the seconds of every repetition."""

    name: str
    amounts: dict[str, float]
    seconds: list[float]

    @property
    def middle(self) -> float:
        """The median of the repetitions."""
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """Largest minus smallest repetition, relative to the median."""
        return (max(self.seconds) - min(self.seconds)) / self.middle


class Clock:
    """Seconds: of this process's processor where one thread computes, which other work disturbs less, else of the wall."""

    def __init__(self, device: torch.device, threads: int) -> None:
        self.device = device
        self.own = device.type == "cpu" and threads == 1
        self.name = "processor time of one thread" if self.own else f"wall time, {threads} threads"

    def now(self) -> float:
        """The time; a GPU's work is waited for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.own else time.perf_counter()

    def timed(self, call: Callable[[], Any], repeats: int) -> list[float]:
        """Seconds of every call, after one that does not count."""
        call()
        moments = [self.now()]
        for _ in range(repeats):
            call()
            moments.append(self.now())
        return [end - begin for begin, end in pairwise(moments)]


def new_encoder(shape: EncoderShape, device: torch.device) -> Encoder:
    """A random BERT of this shape, mean pooling."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, num_hidden_layers=shape.layers,
        num_attention_heads=max(2, shape.hidden // 64), intermediate_size=shape.intermediate,
        max_position_embeddings=shape.positions,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return Encoder(BertModel(config, add_pooling_layer=False).to(device), "mean", 0)


def random_tokens(shape: EncoderShape, rows: int, length: int) -> Tokens:
    """Triplets of different random texts of one length."""
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(shape.vocabulary, (3 * rows * length,), generator=generator, dtype=torch.int32)
    offsets = torch.arange(0, 3 * rows * length + 1, length)
    return Tokens(ids, offsets, torch.arange(3 * rows, dtype=torch.int32).view(rows, 3), None, {})


def training_probe(shape: EncoderShape, rows: int, length: int, sizes: bool, repeats: int, clock: Clock) -> Probe:
    """Steps of the training loop on `rows` triplets in float32: BERT's loss, or with `sizes` SRL's at four sizes."""
    depth, width = shape.layers, shape.hidden
    named = load_methods(METHODS)["srl" if sizes else "bert"]
    cells = tuple((max(1, depth * part // 4), width * part // 4) for part in (1, 2, 3, 4)) if sizes else ()
    variant = named.variants["released" if sizes else "paper"]
    objective = Objective(variant, MNRLoss(loss="mnrl", scale=20), depth, width, sizes=cells)
    work = StsTraining(random_tokens(shape, rows, length), objective, rows, SEED)
    training = Training(batch_size=rows, steps=repeats + 2, precision="fp32")
    moments: list[float] = []

    def loss_of(module: nn.Module, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        moments.append(clock.now())
        return work.loss_of(module, batch, generator)

    encoder = new_encoder(shape, clock.device)
    with tempfile.TemporaryDirectory() as folder:
        Loop(
            module=AllLayers(encoder, default_tokens_per_forward(clock.device)).to(clock.device), loss_of=loss_of,
            batches=work.batches, training=training, dropout_seed=SEED, draw_seed=SEED, identity="calibration",
            work=Path(folder) / "loop", device=clock.device, label="calibration", progress=False,
        ).run()  # fmt: skip
    texts = Texts(3 * rows, 3.0 * rows * length, 3.0 * rows * length * length)
    amounts = loop_amounts(shape, training, Steps(1, 1), texts, depth, clock.device.type != "cpu", 0)
    scored = operations.contrastive(rows, 2 * rows, [dim for _, dim in cells] or [width])
    amounts |= {
        "full_operations": operations.training(shape, texts, depth) + scored,
        "updates": float(shape.parameters()),
        "loss_terms": 7.0 if sizes else 1.0,  # four losses, three alignments
    }
    name = f"train {depth}x{width} {rows}x3x{length}{' srl' if sizes else ''}"
    return Probe(name, amounts, [end - begin for begin, end in pairwise(moments[1:])])


def half_probe(shape: EncoderShape, count: int, length: int, repeats: int, clock: Clock) -> Probe:
    """Forward and backward pass of texts under autocast to bfloat16. Not by the loop: accelerate keeps one precision per
    process."""
    encoder = new_encoder(shape, clock.device)
    ids = torch.randint(shape.vocabulary, (count, length), generator=torch.Generator().manual_seed(SEED))
    budget = default_tokens_per_forward(clock.device)

    def step() -> None:
        with torch.autocast(clock.device.type, dtype=torch.bfloat16):
            pooled = encoder.embed(list(ids), [shape.layers], budget)
        torch.autograd.backward(pooled.float().square().mean())

    texts = Texts(count, float(count * length), float(count * length * length))
    one = Training(batch_size=count, steps=1)
    amounts = loop_amounts(shape, one, Steps(1, 1), texts, shape.layers, clock.device.type != "cpu", 0)
    amounts["half_operations"] = operations.training(shape, texts, shape.layers)
    return Probe(f"train {shape.layers}x{shape.hidden} {count}x{length} bf16", amounts, clock.timed(step, repeats))


def encoding_probe(shape: EncoderShape, count: int, length: int, repeats: int, clock: Clock) -> Probe:
    """Texts of one length through all layers, by the function that evaluates."""
    from matryobench.evaluation.sts import encode

    encoder = new_encoder(shape, clock.device).eval()
    ids = torch.randint(shape.vocabulary, (count, length), generator=torch.Generator().manual_seed(SEED))
    budget, layers = default_tokens_per_forward(clock.device), list(range(1, shape.layers + 1))
    seconds = clock.timed(lambda: encode(encoder, list(ids), layers, budget, progress=False), repeats)
    texts = Texts(count, float(count * length), float(count * length * length))
    amounts = encoding(shape, texts, shape.layers, clock.device.type != "cpu", padding=1.0)
    return Probe(f"encode {shape.layers}x{shape.hidden} {count}x{length}", amounts, seconds)


def head_probe(width: int, vocabulary: int, rows: int, repeats: int, clock: Clock) -> Probe:
    """The masked-LM head's projection and loss, forward and backward."""
    from matryobench.pretraining.vocabulary_loss import vocabulary_loss

    generator = torch.Generator().manual_seed(SEED)
    states = torch.randn(rows, width, generator=generator).to(clock.device).requires_grad_()
    # Small, as trained ones are: large logits have exponentials that are denormal, and slow.
    weight = torch.randn(vocabulary, width, generator=generator).mul_(0.02).to(clock.device).requires_grad_()
    bias, shares = torch.zeros(vocabulary, device=clock.device), torch.full((rows,), 1 / rows, device=clock.device)
    targets = torch.randint(vocabulary, (rows,), generator=generator).to(clock.device)

    def step() -> None:
        torch.autograd.backward(vocabulary_loss(states, weight, bias, targets, shares)[0])

    amounts = {"full_operations": 6.0 * rows * width * vocabulary, "inner_elements": float(rows * vocabulary)}
    return Probe(f"head {width}x{vocabulary} {rows} rows", amounts, clock.timed(step, repeats))


def search_probe(queries: int, documents: int, width: int, dims: list[int], repeats: int, clock: Clock) -> Probe:
    """An exact search of random vectors at some dims, the best hundred."""
    from matryobench.evaluation.search import TopK

    generator = torch.Generator().manual_seed(SEED)
    asked = torch.randn(queries, width, generator=generator).to(clock.device)
    held = torch.randn(documents, width, generator=generator).to(clock.device)

    def search() -> None:
        best = TopK([(1, 1, dim) for dim in dims], {1: asked}, 100)
        best.add({1: held}, 0)
        best.result()

    amounts = {
        "search_operations": operations.search(queries, documents, max(dims)),
        "scores": float(queries * documents * len(dims)),
    }
    return Probe(f"search {queries}x{documents}x{width}, {len(dims)} dims", amounts, clock.timed(search, repeats))


def host_probes(clock: Clock) -> Iterator[Probe]:
    """What is done by a processor whatever the device: tokens, rows, metrics, resamples, classifiers, files."""
    from sklearn.linear_model import LogisticRegression

    from matryobench.analysis.paired import replicates
    from matryobench.data.demo_world import table
    from matryobench.data.tokens import encode_texts, pieces
    from matryobench.evaluation.metrics import per_query
    from matryobench.files import atomic_path, sha256_of
    from matryobench.models.folders import load_tokenizer
    from matryobench.pretraining.tokenizer import train_tokenizer

    host = Clock(torch.device("cpu"), 1)
    generator = np.random.default_rng(SEED)
    texts = table("text")["text"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        train_tokenizer(texts[:2000], 800, place / "tokenizer")
        tokenizer = load_tokenizer(place / "tokenizer")
        tokens = len(encode_texts(pieces(texts), tokenizer, 128)[0])
        seconds = host.timed(lambda: encode_texts(pieces(texts), tokenizer, 128), 2)
        yield Probe("tokenise", {"tokenised": float(tokens)}, seconds)
        yield Probe("rows", {"rows": float(len(texts) - 1)}, host.timed(lambda: _fetch_rows(texts, place), 2))
        block = generator.bytes(1 << 25)

        def write() -> None:
            with atomic_path(place / "block") as partial:
                partial.write_bytes(block)
            sha256_of(place / "block")

        yield Probe("hash and write", {"written": float(len(block))}, host.timed(write, 3))
    gold, similar = generator.random(2000), generator.random((8, 2000), dtype=np.float32)
    seconds = host.timed(lambda: replicates(gold, similar, np.random.default_rng(SEED), 250), 2)
    yield Probe("resample", {"resampled": float(2000 * 8 * 250)}, seconds)
    ids = [f"q{number}" for number in range(100)]
    found = [f"d{number:05}" for number in reversed(range(5000))]
    qrels = {query: {found[int(place)]: 1 for place in generator.integers(5000, size=3)} for query in ids}
    ranked = generator.integers(5000, size=(16, 100, 100))
    ranked.sort(axis=2)
    seconds = host.timed(lambda: per_query(ranked, ids, found, qrels, "calibration"), 2)
    yield Probe("metrics", {"rankings": float(16 * 100)}, seconds)
    points, labels = generator.random((128, 256)), np.arange(128) % 8
    seconds = host.timed(lambda: LogisticRegression(max_iter=100).fit(points, labels), 3)
    yield Probe("classifier", {"classifiers": 1.0}, seconds)


def _fetch_rows(texts: list[str], place: Path) -> None:
    """Fetches a file of one's own: read, checked, written."""
    import json

    from matryobench.data.fetch import fetch_dataset
    from matryobench.data.mirror import Mirror
    from matryobench.data.records import write_table
    from matryobench.data.specs import DatasetSpec, LocalSource

    file = place / "rows.jsonl"
    if not file.is_file():
        lines = (json.dumps({"anchor": text, "positive": other}) for text, other in pairwise(texts))
        file.write_text("\n".join(lines), encoding="utf-8")
    spec = DatasetSpec(
        kind="pairs", description="rows to calibrate with", citation="this program", licence="none",
        local=LocalSource(files=[str(file)]),
    )  # fmt: skip
    table, meta = fetch_dataset("rows", spec, Mirror(place / "mirror"), True)
    write_table(table, place / "rows.parquet", meta)
