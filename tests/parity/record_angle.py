"""Records AnglE's losses and its ESE ("espresso", 2DMSE) training step.

Regenerate from the project's root (Python 3.11). The current release:

    python3 -m venv angle && angle/bin/pip install torch==2.13.0 angle-emb==0.6.1
    angle/bin/python tests/parity/record_angle.py

The copy 0.5.1 that github.com/ielab/2DMSE-Reproduce (commit c7467c2) carries in code/STS_V2_Angle, which the
2D Matryoshka paper's V2 was trained with:

    python3 -m venv angle && angle/bin/pip install torch==2.13.0 transformers==4.45.2 peft==0.13.2 datasets==3.6.0 \
        bitsandbytes==0.49.2 boltons prettytable einops scipy scikit-learn
    angle/bin/python tests/parity/record_angle.py --source 2DMSE-Reproduce/code/STS_V2_Angle

Writes recorded/angle-<version>.json. The ESE step is the trainer's own compute_loss on a trainer object of which only
the attributes that it reads are set. Its compression targets come from a randomised SVD that draws from torch's global
generator: SEED is set once before the step. They change with the seed and with the rounding of their input, so every
target is recorded too, by index of hidden_states and in the order of the columns: anchors, positives, negatives.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import tiny_model
import torch

SEED = 7
BINARY = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0]
PAPER = {"ibn_w": 30.0, "cosine_w": 0.0, "angle_w": 1.0, "angle_tau": 20.0}
PAPER_IN_NEW = PAPER | {"ibn_w": 0.0, "cln_w": 60.0}  # what gives 0.5.1's loss of triplets in 0.6
ALL_TERMS = {"ibn_w": 2.0, "cosine_w": 3.0, "angle_w": 0.5, "cosine_tau": 10.0, "ibn_tau": 15.0, "angle_tau": 2.0}
NO_CONTRASTIVE = ALL_TERMS | {"ibn_w": 0.0}


def gradient_case(
    shape: tuple[int, ...], function: Callable[..., torch.Tensor], /, *given: Any, **at: Any
) -> dict[str, Any]:
    """Value and gradient of `function(*given, rows)`; rows: fixed (columns, rows, width) embeddings, interleaved."""
    columns = torch.from_numpy(tiny_model.fixed_embeddings(*shape)).requires_grad_()
    value = function(*given, columns.transpose(0, 1).flatten(0, 1))
    value.backward()
    assert columns.grad is not None
    return {"data": "fixed", "shape": list(shape), **at, "value": value.item(), "gradient": columns.grad.tolist()}


def fixed_cases(angle: ModuleType, new: bool) -> Iterator[dict[str, Any]]:
    """The loss terms and their combination on fixed embeddings; `new` is the 0.6 behaviour of triplets."""
    triplets, pairs = (3, 6, 12), (2, 8, 12)

    def contrastive(negatives: bool, rows: torch.Tensor) -> torch.Tensor:
        return angle.contrastive_with_negative_loss(rows[::3], rows[1::3], rows[2::3] if negatives else None, tau=20.0)

    for negatives in (True, False):
        yield gradient_case(triplets, contrastive, negatives, loss="contrastive", negatives=negatives)
    unlabelled = torch.full((18, 1), -1.0)
    for arguments in [PAPER, ALL_TERMS] + ([{}, PAPER_IN_NEW] if new else []):
        combined = angle.AngleLoss(dataset_format="C" if new else angle.DatasetFormats.B, **arguments)
        at = {"loss": "combined", "format": "triplets", "arguments": arguments}
        yield gradient_case(triplets, combined, unlabelled, **at)

    for scores in (BINARY, tiny_model.pair_columns()[1].tolist()):
        labels = torch.tensor(scores).repeat_interleave(2)[:, None]
        for name in ("cosine", "angle"):
            for tau in (20.0, 1.0):
                term = partial(getattr(angle, f"{name}_loss"), tau=tau)
                yield gradient_case(pairs, term, labels, loss=name, labels=scores, tau=tau)
        for arguments in (PAPER, ALL_TERMS, NO_CONTRASTIVE):
            combined = angle.AngleLoss(dataset_format="A" if new else angle.DatasetFormats.A, **arguments)
            at = {"loss": "combined", "format": "pairs", "labels": scores, "arguments": arguments}
            yield gradient_case(pairs, combined, labels, **at)
    labels = torch.tensor(BINARY).repeat_interleave(2)[:, None]
    yield gradient_case(pairs, angle.in_batch_negative_loss, labels, loss="in-batch", labels=BINARY, tau=20.0)


def trainer(angle: ModuleType, kind: str, model: torch.nn.Module, pooling: str, new: bool, **settings: Any) -> Any:
    """A trainer of AnglE with nothing set but what its compute_loss reads."""
    made = object.__new__(getattr(angle, kind))
    made.pooler = angle.Pooler(model, pooling_strategy=pooling, padding_side="right")
    made.loss_fct = (
        angle.AngleLoss(dataset_format="C", **PAPER_IN_NEW)
        if new
        else angle.AngleLoss(dataset_format=angle.DatasetFormats.B, **PAPER)
    )
    made.teacher_name_or_path, made.pad_token_id = None, 0
    made.n_layers = tiny_model.LAYERS
    made.ese_kl_temperature, made.ese_compression_size, made.apply_ese_pca, made.apply_mrl = 1.0, 16, True, False
    for name, value in settings.items():
        setattr(made, name, value)
    return made


def step(
    angle: ModuleType, folder: Path, kind: str, pooling: str, new: bool, seed: int = SEED, **settings: Any
) -> dict[str, Any]:
    """One training step: loss, gradient norms and compression targets."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).float().train()
    made = trainer(angle, kind, model, pooling, new, **settings)
    targets: dict[str, Any] = {}
    if hasattr(made, "pca_compress"):
        # Called for the last layer first, then for hidden_states 0, 1, ...
        compress, layers = made.pca_compress, iter([tiny_model.LAYERS, *range(tiny_model.LAYERS - 1)])

        def remembered(rows: torch.Tensor, size: int) -> torch.Tensor:
            target = compress(rows, size)
            targets[str(next(layers))] = target.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1).tolist()
            return target

        made.pca_compress = remembered
    batch = {name: torch.from_numpy(array) for name, array in tiny_model.interleaved_triplets().items()}
    batch["labels"] = torch.full((len(batch["input_ids"]), 1), -1.0)
    torch.manual_seed(seed)
    loss = made.compute_loss(model, batch)
    loss.backward()
    at = {"loss": kind, "data": "triplets", "pooling": pooling, "settings": settings}
    at["arguments"] = PAPER_IN_NEW if new else PAPER
    return (at | {"seed": seed}) | {
        "value": loss.item(),
        "gradient_norms": tiny_model.gradient_norms(model.named_parameters()),
        "targets": targets,
    }


def step_cases(angle: ModuleType, folder: Path, new: bool) -> Iterator[dict[str, Any]]:
    # 0.5.1 divides "avg" pooling by the number of tokens of the whole batch; only 0.6 has mean pooling.
    for pooling in ("cls", "mean") if new else ("cls",):
        yield step(angle, folder, "AngleTrainer", pooling, new)
        for mode in ({},) if new else ({}, {"apply_mrl": True}):
            for settings in ({}, {"ese_compression_size": 8, "ese_kl_temperature": 2.0}, {"apply_ese_pca": False}):
                yield step(angle, folder, "AngleESETrainer", pooling, new, **settings, **mode)
    values = [step(angle, folder, "AngleESETrainer", "cls", new, seed)["value"] for seed in range(10)]
    yield {"loss": "seeds", "data": "triplets", "pooling": "cls", "seeds": list(range(10)), "values": values}


def alignment_cases(angle: ModuleType, new: bool) -> Iterator[dict[str, Any]]:
    """The compression target and the distillation term on fixed embeddings.

    The embeddings are scaled so that the singular values are apart: only then is the target the same to rounding.
    """
    common = {"data": "fixed", "shape": [3, 6, 12], "scale": 0.3, "size": 6, "seed": SEED}
    rows = 0.3 * torch.from_numpy(tiny_model.fixed_embeddings(3, 6, 12)).flatten(0, 1)
    made = trainer(angle, "AngleESETrainer", torch.nn.Identity(), "cls", new)
    torch.manual_seed(SEED)
    target = made.pca_compress(rows, 6)
    yield {"loss": "pca_compress"} | common | {"target": target.tolist()}
    for temperature in (1.0, 2.0):
        student = rows[:, :6].clone().requires_grad_()
        value = made.compute_distillation_loss(student, target, kl_temperature=temperature)
        value.backward()
        assert student.grad is not None
        yield (
            {"loss": "distillation"}
            | common
            | {
                "temperature": temperature,
                "value": value.item(),
                "gradient": student.grad.tolist(),
            }
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--source", type=Path, help="folder that holds the package angle_emb; default: the installed one"
    )
    arguments = parser.parse_args()
    if arguments.source:
        sys.path.insert(0, str(arguments.source))
    import angle_emb.angle as angle
    import transformers
    from angle_emb.version import __version__ as version

    torch.set_num_threads(1)
    new = not version.startswith("0.5")
    with tempfile.TemporaryDirectory() as work:
        folder = tiny_model.build(Path(work) / "tiny")
        cases = [*fixed_cases(angle, new), *alignment_cases(angle, new), *step_cases(angle, folder, new)]
    tiny_model.write_recording(
        Path(__file__).parent / "recorded" / f"angle-{version}.json",
        "angle-emb",
        {"angle-emb": version, "transformers": transformers.__version__, "torch": torch.__version__},
        "0.6" if new else "0.5 (2DMSE-Reproduce c7467c2)",
        cases,
    )


if __name__ == "__main__":
    main()
