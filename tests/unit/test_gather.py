"""Several processes and gradient caching give the loss and gradients of one process with the whole batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from matryobench.errors import InputError
from matryobench.models.folders import load_encoder
from matryobench.objectives.recipe import ContrastiveLoss
from matryobench.objectives.registry import load_methods
from matryobench.objectives.retrieval import RetrievalObjective
from matryobench.paths import ROOT
from matryobench.training.gather import gather_embeddings, share

WORKER = """
import json, sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
sys.path.insert(0, sys.argv[4])
from test_gather import GROUP, objective, step, texts
from matryobench.models.folders import load_encoder
from matryobench.training.module import AllLayers

folder, out, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=2)
encoder = load_encoder(folder, "cls").double().eval()
module = DistributedDataParallel(AllLayers(encoder, 64))
loss = step(module, objective(encoder), *texts())
loss.backward()
if rank == 0:
    gradients = {name: value.grad.tolist() for name, value in encoder.named_parameters() if value.grad is not None}
    (out / "two.json").write_text(json.dumps({"loss": loss.item(), "gradients": gradients}))
dist.destroy_process_group()
"""
GROUP = 3


def texts() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """5 queries and 15 passages of different lengths: the shares of two processes differ in size."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(3, 12, (20,), generator=generator).tolist()
    drawn = [torch.randint(5, 20, (length,), generator=generator) for length in lengths]
    return drawn[:5], drawn[5:]


def objective(encoder: Any) -> RetrievalObjective:
    """2DMSE with alignment: its compression sees the whole batch at once."""
    variant = load_methods()["2dmse"].variants["paper"]
    return RetrievalObjective(
        variant=variant, base=ContrastiveLoss(loss="contrastive"), depth=encoder.depth, width=encoder.width,
        target_dims=(2, 4),  # no more than the rank of five centred queries: beyond it axes are arbitrary
    )  # fmt: skip


def step(module: Any, objective: RetrievalObjective, queries: list[Any], passages: list[Any]) -> torch.Tensor:
    rows = share(torch.arange(len(queries))).tolist()
    own = [*(queries[row] for row in rows), *(p for row in rows for p in passages[row * GROUP : (row + 1) * GROUP])]
    layers = objective.query_layers()
    pooled = module(own, layers)
    sides = [gather_embeddings(side) for side in pooled.tensor_split([len(rows)], dim=1)]
    asked, found = (dict(zip(layers, side, strict=True)) for side in sides)
    return objective(asked, found, None, torch.Generator().manual_seed(1))[0]


def test_two_gloo_processes_equal_one(tiny_bert: Path, tmp_path: Path) -> None:
    from matryobench.training.module import AllLayers

    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tiny_bert), str(tmp_path), str(rank), str(Path(__file__).parent)],
            stderr=subprocess.PIPE, text=True, env=environment,
        )
        for rank in range(2)
    ]  # fmt: skip
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    encoder = load_encoder(tiny_bert, "cls").double().eval()
    loss = step(AllLayers(encoder, 64), objective(encoder), *texts())
    loss.backward()
    two = json.loads((tmp_path / "two.json").read_text())
    assert two["loss"] == pytest.approx(loss.item(), abs=1e-10)
    one = {name: value.grad for name, value in encoder.named_parameters() if value.grad is not None}
    assert set(one) == set(two["gradients"]) and len(one) > 30
    for name, gradient in one.items():
        difference = (torch.tensor(two["gradients"][name], dtype=torch.float64) - gradient).abs().max()
        assert difference < 1e-10 * max(1.0, float(gradient.abs().max())), name


def test_gradient_caching_equals_the_whole_batch_with_dropout_and_keeps_less(tiny_bert: Path) -> None:
    from matryobench.training.module import AllLayers

    queries, passages = texts()
    results = []
    for cached in (False, True):
        encoder = load_encoder(tiny_bert, "mean").double().train()
        torch.manual_seed(5)
        kept: list[int] = []

        def pack(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = step(AllLayers(encoder, 32, cached), objective(encoder), queries, passages)
        held = sum(kept)
        loss.backward()
        gradients = {name: value.grad for name, value in encoder.named_parameters() if value.grad is not None}
        results.append((loss.item(), gradients, held))
    (loss, gradients, held), (cached_loss, cached_gradients, cached_held) = results
    assert cached_loss == pytest.approx(loss, abs=1e-12)
    assert set(gradients) == set(cached_gradients)
    for name, value in gradients.items():
        torch.testing.assert_close(cached_gradients[name], value, rtol=1e-10, atol=1e-12)
    assert cached_held < held / 5


def test_a_batch_too_small_for_the_processes_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matryobench.training.gather.world_size", lambda: 3)
    with pytest.raises(InputError, match="a batch of 2 queries cannot be shared by 3 processes; use fewer"):
        share(torch.arange(2))


def test_without_a_process_group_nothing_is_gathered() -> None:
    own = torch.randn(2, 3, 4, requires_grad=True)
    assert gather_embeddings(own) is own
    assert share(torch.arange(5)).tolist() == [0, 1, 2, 3, 4]
