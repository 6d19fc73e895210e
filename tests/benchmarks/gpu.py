"""The engine on a GPU against sentence-transformers, a plain padded loop and a full-width torch search.

    python tests/benchmarks/gpu.py [NAMES] [--quick] [--repeats 5] [--out results/reference/benchmarks-gpu.md]

BERT-base's shape with random weights, bf16, token sequences of MS MARCO's lengths (random tokens: a matrix product takes as
long whatever it multiplies), 128 queries x 8 passages a step. Needs no data and no network. Without a GPU only --quick runs,
at a toy shape on the CPU, so that the code is exercised; it says so and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(Path(__file__).resolve().parent)]

import torch
from gpu_training import training_ways
from gpu_work import Shape, encode_ours, encode_peer, search_ours, search_peer, texts
from harness import Agreement, Outcome, Target, alternate, median_seconds, row
from machine import description, encoder_operations, rates
from page import markdown
from records import record_of

from matryobench.files import write_json, write_text

NO_GPU = "there is no GPU; --quick runs the code on the CPU at a toy size"


def main() -> int:
    """The command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("--quick", action="store_true", help="a toy shape; written to build/ without --out")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in PARTS]:
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(PARTS)}")
    cuda = torch.cuda.is_available()
    if not cuda:
        print(NO_GPU, file=sys.stderr)
        if not options.quick:
            return 2
    device = torch.device("cuda" if cuda else "cpu")
    shape = Shape.toy() if options.quick else Shape.bert_base()
    folder = ROOT / "build" if options.quick else ROOT / "results" / "reference"
    out = options.out or folder / ("benchmarks-gpu-quick.md" if options.quick else "benchmarks-gpu.md")
    file = out.with_suffix(".json")
    records = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    agreed = True
    for name in options.names or list(PARTS):
        with tempfile.TemporaryDirectory() as scratch:
            outcome = PARTS[name](shape, device, options.repeats, Path(scratch))
        if not cuda:
            outcome.notes.append("No GPU was there: a toy shape on the CPU, whose numbers mean nothing.")
        # Training and encoding are in bf16, the search is in float32: each has its own limit.
        dtype = torch.float32 if name == "search" else torch.bfloat16
        made = description() | ({"device": torch.cuda.get_device_name(device)} if cuda else {})
        records[name] = record_of(
            name,
            outcome,
            rates(device, options.quick, dtype),
            made,
            torch.get_num_threads(),
            options.quick,
            options.repeats,
        )
        for line in records[name]["rows"]:
            told = line["agreement"]
            agreed &= told is None or told["holds"]
            print(
                f"{line['name']} against {line['peer']}: {line['value']:.3g}; {told['text'] if told else ''}",
                flush=True,
            )
        write_json(file, records)
        write_text(out, markdown(records))
    print(f"-> {out} and {file}")
    return int(not agreed)


def training(shape: Shape, device: torch.device, repeats: int, scratch: Path) -> Outcome:
    """Training steps of 2dmse on groups of passages: ours, SentenceTransformerTrainer's, and a plain padded loop's."""
    ways = training_ways(shape, device, scratch)
    tokens = shape.steps * sum(ways.lengths)
    operations = shape.steps * 3 * encoder_operations(ways.config, ways.lengths, shape.layers)
    work = f"2dmse, {shape.told()}, {shape.steps} steps of {shape.queries} queries x {shape.group} passages"
    outcome = Outcome()
    for peer, name in (
        (ways.padded, "a plain padded loop"),
        (ways.library, "SentenceTransformerTrainer"),
    ):
        pairs = alternate(ways.ours, peer, repeats)
        mine, other = (_peak(way, device) for way in (ways.ours, peer))
        line = row("training step", work,
                   name, pairs, Target("times", 1.3), operations=operations, ours_mb=mine, peer_mb=other,
                   agreement=ways.agreement(peer))  # fmt: skip
        outcome.rows.append(line)
        rates_of = [round(tokens / median_seconds(costs)) for costs in (pairs.ours, pairs.peer)]
        outcome.notes.append(
            f"Training tokens a second, ours and {name}: {rates_of[0]} and {rates_of[1]} (padding not counted)."
        )
    return outcome


def encoding(shape: Shape, device: torch.device, repeats: int, scratch: Path) -> Outcome:
    """Passages a second, all layers in one pass, against one full-depth pass of sentence-transformers."""
    passages = texts(shape, shape.passages_encoded, shape.passage_lengths, seed=3)
    found: dict[str, Any] = {}
    ours = encode_ours(shape, device, passages, found)
    peer, config = encode_peer(shape, device, passages, found, scratch)
    pairs = alternate(ours, peer, repeats)
    similarity = torch.nn.functional.cosine_similarity(found["ours"][-1].float(), found["peer"].float(), dim=-1).min()
    line = row("encode", f"{len(passages)} passages, {shape.told()}, all layers pooled",
               "SentenceTransformer.encode in bf16, last layer", pairs, Target("times", 1.05),
               operations=encoder_operations(config, [len(one) for one in passages], shape.layers),
               agreement=Agreement(f"cosine of the last layers at least {float(similarity):.5f}", float(similarity) > 0.99),
               ours_mb=_peak(ours, device), peer_mb=_peak(peer, device))  # fmt: skip
    speed = round(len(passages) / median_seconds(pairs.ours))
    return Outcome([line], notes=[f"Passages a second, all layers: {speed}."])


def search(shape: Shape, device: torch.device, repeats: int, scratch: Path) -> Outcome:
    """The search of all widths against one torch search at full width that keeps a running top k."""
    found: dict[str, Any] = {}
    ours, peer = search_ours(shape, device, found), search_peer(shape, device, found)
    pairs = alternate(ours, peer, repeats)
    same = float((found["ours"].documents[-1].cpu() == found["peer"].cpu()).float().mean())
    line = row("grid search, one layer",
               f"{shape.documents} x {shape.hidden} documents, {shape.searches} queries, {len(shape.dims)} dims",
               "one torch search at full width, float32", pairs, Target("share", 1.3),
               operations=2.0 * shape.documents * shape.searches * shape.hidden,
               agreement=Agreement(f"{same:.4%} of ranks the same document", same > 0.999),
               ours_mb=_peak(ours, device), peer_mb=_peak(peer, device))  # fmt: skip
    return Outcome([line])


PARTS: dict[str, Callable[[Shape, torch.device, int, Path], Outcome]] = {
    "training": training, "encoding": encoding, "search": search,
}  # fmt: skip


def _peak(way: Callable[[], Any], device: torch.device) -> float | None:
    """MiB of device memory that a run needs at its peak beyond what is allocated before it; None without a GPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    way()
    torch.cuda.synchronize(device)
    return float((torch.cuda.max_memory_allocated(device) - before) / 2**20)


if __name__ == "__main__":
    sys.exit(main())
