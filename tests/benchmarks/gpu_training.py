"""Training steps that gpu.py measures: ours, a padded loop, and sentence-transformers' trainer, from equal weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_work import Shape, Way, encoder_of, texts
from harness import Agreement
from torch import Tensor, nn

from matryobench.models.encoder import Encoder, default_tokens_per_forward
from matryobench.models.folders import quiet
from matryobench.objectives.recipe import ContrastiveLoss
from matryobench.objectives.registry import load_methods
from matryobench.objectives.retrieval import RetrievalObjective


@dataclass(frozen=True)
class Training:
    """The three ways of a step, and what a step works on. lengths: tokens of each text."""

    ours: Way
    padded: Way
    library: Way
    lengths: list[int]
    config: Any
    losses: dict[Way, list[float]]

    def agreement(self, peer: Way) -> Agreement:
        """The first losses, from equal weights on equal batches with no dropout; bf16 rounds each way differently."""
        mine, other = self.losses[self.ours][0], self.losses[peer][0]
        return Agreement(f"first loss {mine:.4f} and {other:.4f}", abs(mine / other - 1) < 0.02)


def objective_of(shape: Shape) -> RetrievalObjective:
    """2dmse as released, with the papers' target width for the shape; the temperature keeps random weights' losses finite."""
    return RetrievalObjective(
        variant=load_methods()["2dmse"].variants["released"],
        base=ContrastiveLoss(loss="contrastive", similarity="cosine", temperature=0.05),
        depth=shape.layers, width=shape.hidden, target_dims=(shape.hidden // 6,),
    )  # fmt: skip


def training_ways(shape: Shape, device: torch.device, scratch: Path) -> Training:
    """Ours (length-sorted passes), one padded pass, and SentenceTransformerTrainer around the same objective."""
    queries = texts(shape, shape.queries, shape.query_lengths, seed=1)
    passages = texts(shape, shape.queries * shape.group, shape.passage_lengths, seed=2)
    objective = objective_of(shape)
    losses: dict[str, list[float]] = {"ours": [], "padded": [], "library": []}
    every = objective.query_layers()

    def step(name: str, embed: Callable[[Encoder], Tensor]) -> Way:
        encoder = encoder_of(shape, device).train()
        optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-5, fused=True)

        def one() -> None:
            with torch.autocast(device.type, torch.bfloat16):
                pooled = embed(encoder)
            asked, found = pooled.tensor_split([len(queries)], dim=1)
            sides = (dict(zip(every, side, strict=True)) for side in (asked, found))
            loss, _ = objective(*sides, None, torch.Generator().manual_seed(1))
            loss.backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            losses[name].append(float(loss.detach()))  # waits for the device

        return lambda: [one() for _ in range(shape.steps)]

    both = [*queries, *passages]
    ours = step("ours", lambda encoder: encoder.embed(both, every, default_tokens_per_forward(device)))

    def one_pass(encoder: Encoder) -> Tensor:
        parts = [encoder(*padded(some, device), every) for some in (queries, passages)]
        return torch.cat(parts, dim=1)

    plain = step("padded", one_pass)
    library = _library(shape, device, queries, passages, objective, losses["library"], scratch)
    return Training(
        ours, plain, library, [len(one) for one in both], encoder_of(shape, torch.device("cpu")).backbone.config,
        {ours: losses["ours"], plain: losses["padded"], library: losses["library"]},
    )  # fmt: skip


def padded(some: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """(batch, longest) token ids and mask of one padded batch."""
    ids = nn.utils.rnn.pad_sequence(list(some), batch_first=True)
    sizes = torch.tensor([len(one) for one in some])
    mask = (torch.arange(ids.shape[1]) < sizes[:, None]).long()
    return ids.long().to(device), mask.to(device)


def _library(
    shape: Shape, device: torch.device, queries: list[Tensor], passages: list[Tensor], objective: RetrievalObjective,
    losses: list[float], scratch: Path,
) -> Way:  # fmt: skip
    """The steps of SentenceTransformerTrainer on the padded batch, its own loop around our objective.

    Its collator would tokenise: it gets the tokens as columns instead, padded by itself column by column, as it does.
    """
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    encoder = encoder_of(shape, device)
    every = objective.query_layers()

    class Objective(nn.Module):
        """The objective as a loss of the library: features in, loss out."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, features: Any, labels: Any = None) -> Tensor:
            sides = []
            for one in features:
                pooled = self.encoder(one["input_ids"], one["attention_mask"], every)
                sides.append(dict(zip(every, pooled, strict=True)))
            return objective(sides[0], sides[1], None, torch.Generator().manual_seed(1))[0]

    class Losses(TrainerCallback):
        """Takes the losses."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                losses.append(float(logs["loss"]))

    class Trainer(SentenceTransformerTrainer):
        """The library's loop over one prepared batch."""

        def get_train_dataloader(self) -> Any:
            return [{"query": padded(queries, torch.device("cpu")), "passages": padded(passages, torch.device("cpu"))}]

        def collect_features(self, inputs: Any) -> tuple[list[dict[str, Tensor]], None]:
            names = ("input_ids", "attention_mask")
            sides = (inputs["query"], inputs["passages"])
            return [{name: part.to(device) for name, part in zip(names, side, strict=True)} for side in sides], None

        def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
            """None: it would look the model up on the hub."""

    from datasets import Dataset

    class Module(nn.Module):
        """The encoder, which the objective runs itself."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = encoder.backbone

        def forward(self, features: Any) -> Any:
            return features

    with quiet():
        model = SentenceTransformer(modules=[Module()], device=str(device))
    cuda = device.type == "cuda"
    with quiet():
        arguments = SentenceTransformerTrainingArguments(
            output_dir=str(scratch / "trainer"), max_steps=shape.steps,
            per_device_train_batch_size=shape.queries, learning_rate=1e-5,
            bf16=True, use_cpu=not cuda, save_strategy="no", logging_steps=1, report_to="none", disable_tqdm=True,
            optim="adamw_torch_fused", remove_unused_columns=False, seed=1,
        )  # fmt: skip
        trainer = Trainer(
            model=model, args=arguments, train_dataset=Dataset.from_dict({"query": ["a"] * shape.queries}), loss=Objective(),
            callbacks=[Losses()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)

    def way() -> None:
        with quiet():
            trainer.train()
            if cuda:
                torch.cuda.synchronize(device)

    return way
