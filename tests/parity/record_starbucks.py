"""Records Starbucks' published STS loss (github.com/ielab/Starbucks, commit 2a3b24f, folder sts) on the tiny model.

Regenerate from the project's root (Python 3.11), with a sentence-transformers of its time:

    python3 -m venv st && st/bin/pip install torch==2.13.0 sentence-transformers==3.2.1 transformers==4.45.2
    st/bin/python tests/parity/record_starbucks.py --source Starbucks/sts

Writes recorded/starbucks-2a3b24f.json. The code runs as published, but for its literal full width
of 768, which a wrapper turns into the tiny model's 32, and `random.sample`, which returns the listed choice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sentence_transformers
import tiny_model
import torch
import transformers
from record_sentence_transformers import Picks, load, losses, scripted_sample, tensors


class FullWidth(torch.nn.Module):
    """The inner loss at min(dim, hidden size)."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: Any, labels: Any, dim: int) -> torch.Tensor:
        return self.inner(features, labels, min(dim, tiny_model.HIDDEN))


def step(
    folder: Path, base: str, pooling: str, sizes: list[tuple[int, int]], picks: Picks, **arguments: Any
) -> dict[str, Any]:
    from starbucks_loss import StarbucksLoss

    model = load(folder, pooling)
    layers, dims = zip(*sizes, strict=True)
    loss = StarbucksLoss(model, getattr(losses, base)(model), list(layers), list(dims), **arguments)
    loss.loss = FullWidth(loss.loss)
    columns, scores = (tiny_model.triplet_columns(), None) if base.startswith("Multiple") else tiny_model.pair_columns()
    with scripted_sample(picks):
        value = loss(tensors(columns), None if scores is None else torch.from_numpy(scores))
    value.backward()
    return {
        "loss": "StarbucksLoss",
        "base": base,
        "data": "triplets" if scores is None else "pairs",
        "pooling": pooling,
        "sizes": sizes,
        "arguments": arguments,
        "picks": picks,
        "value": value.item(),
        "gradient_norms": tiny_model.gradient_norms(model.named_parameters()),
    }


def cases(folder: Path) -> Iterator[dict[str, Any]]:
    sizes = list(tiny_model.SIZES)
    ranking, cosent = "MultipleNegativesRankingLoss", "CoSENTLoss"
    for pooling in ("mean", "cls"):
        yield step(folder, ranking, pooling, sizes, [])
        yield step(folder, cosent, pooling, sizes, [])
    yield step(folder, ranking, "mean", sizes, [], kl_div_weight=0.5)
    yield step(folder, ranking, "mean", sizes, [], kl_temperature=1.0)
    yield step(folder, ranking, "mean", sizes, [], kl_temperature=0.0)
    yield step(folder, ranking, "mean", [(2, 8), (4, 32)], [])
    # D11: a drawn layer gets the width of its place among the drawn ones, here layer 3 (index 2) width 4 instead of 16.
    yield step(folder, ranking, "mean", sizes, [[2]], n_selections_per_step=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="the folder sts of a checkout of ielab/Starbucks")
    sys.path.insert(0, str(parser.parse_args().source))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        recorded = list(cases(tiny_model.build(Path(work) / "tiny")))
    versions = {
        "Starbucks": "2a3b24f",
        "sentence-transformers": sentence_transformers.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    target = Path(__file__).parent / "recorded" / "starbucks-2a3b24f.json"
    tiny_model.write_recording(target, "Starbucks sts/starbucks_loss.py", versions, "2a3b24f", recorded)


if __name__ == "__main__":
    main()
