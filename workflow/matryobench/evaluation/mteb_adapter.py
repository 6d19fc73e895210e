"""A (layer, dim) cell of an encoder as an mteb encoder; all cells of a task are served from one encoding.

Layer l in 1..L is hidden_states[l]; dim d its first d coordinates, of the vector normalised to length 1 at full width where
the model's folder says so. That is what SentenceTransformer(folder, truncate_dim=d) gives for the last layer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.similarity_functions import cos_sim, pairwise_cos_sim
from mteb.types import PromptType
from numpy.typing import NDArray

from matryobench.backbones import usable_positions
from matryobench.data.instructed_tokens import encode_pairs
from matryobench.data.tokens import encode_texts, pieces
from matryobench.errors import InputError
from matryobench.evaluation.instructions import Side
from matryobench.evaluation.sts import encode
from matryobench.models.encoder import default_tokens_per_forward

if TYPE_CHECKING:
    from torch import Tensor

    from matryobench.grid import Cell
    from matryobench.models.encoder import Encoder

IN_MEMORY = 2 * 1024**3
"""Bytes of embeddings that are held in memory; more of them are written to the disk and mapped."""

SIDES: dict[PromptType, Side] = {PromptType.query: "query", PromptType.document: "passage"}


class GridEmbeddings:
    """The embeddings of one task's texts at all layers of a grid; each distinct text of a side is encoded once.

    name: the set, which begins errors. instructions: side (None: classification) -> the instruction before its texts, left
    out of the pooling. folder: where embeddings beyond `in_memory` bytes are mapped; the caller removes it.
    """

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Any,
        layers: Sequence[int],
        max_length: int,
        folder: Path,
        *,
        name: str,
        instructions: Mapping[Side | None, str] | None = None,
        normalise: bool = False,
        in_memory: int = IN_MEMORY,
    ) -> None:
        positions = usable_positions(encoder.backbone.config.to_dict())
        if positions is not None and max_length > positions:
            raise InputError(
                f"{name}: texts of {max_length} tokens do not fit the encoder's {positions} positions; lower max_length to "
                f"{positions} or less."
            )
        self._name = name
        self.layers = tuple(sorted(set(layers)))
        self.texts, self.seconds = 0, 0.0  # encoded so far
        self._encoder, self._tokenizer, self.max_length = encoder.eval(), tokenizer, max_length
        self._instructions, self._normalise = dict(instructions or {}), normalise
        self._folder, self._room = folder, in_memory
        self._blocks: list[NDArray[np.float32]] = []  # (layers, texts, H) each
        self._places: dict[tuple[str | None, str], tuple[int, int]] = {}  # (instruction, text) -> block, row

    def of(self, texts: Sequence[str], side: Side | None, layer: int, dim: int) -> NDArray[np.float32]:
        """(n, dim) embeddings of texts at a cell, in the order given; what is not known yet is encoded at all layers."""
        instruction = self._instructions.get(side)
        self._add([text for text in dict.fromkeys(texts) if (instruction, text) not in self._places], instruction)
        places = np.array([self._places[instruction, text] for text in texts], dtype=np.int64).reshape(-1, 2)
        number = self.layers.index(layer)
        found = np.empty((len(texts), dim), dtype=np.float32)
        for block in np.unique(places[:, 0]):
            mine = np.flatnonzero(places[:, 0] == block)
            found[mine] = self._blocks[block][number, places[mine, 1], :dim]
        return found

    def _add(self, texts: list[str], instruction: str | None) -> None:
        if not texts:
            return
        began = time.perf_counter()
        budget = default_tokens_per_forward(next(self._encoder.parameters()).device)
        tokens, skips = self._tokenise(texts, instruction)
        block = self._empty((len(self.layers), len(texts), self._encoder.width))
        encode(self._encoder, tokens, self.layers, budget, progress=True, skips=skips, out=block)
        for states in block if self._normalise else ():  # layer by layer: a block may be larger than the memory
            states /= np.maximum(np.sqrt(np.einsum("nd,nd->n", states, states)), 1e-12)[:, None]
        number = len(self._blocks)
        self._blocks.append(block)
        self._places.update({(instruction, text): (number, row) for row, text in enumerate(texts)})
        self.texts += len(texts)
        self.seconds += time.perf_counter() - began

    def _empty(self, shape: tuple[int, int, int]) -> NDArray[np.float32]:
        size = 4 * int(np.prod(shape))
        if size <= self._room:
            self._room -= size
            return np.empty(shape, dtype=np.float32)
        self._folder.mkdir(parents=True, exist_ok=True)
        return np.memmap(self._folder / f"{len(self._blocks)}.f32", dtype=np.float32, mode="w+", shape=shape)

    def _tokenise(self, texts: list[str], instruction: str | None) -> tuple[list[Tensor], list[int] | None]:
        import torch

        if instruction is None:
            ids, offsets = encode_texts(pieces(texts), self._tokenizer, self.max_length)
            return [ids[start:stop] for start, stop in pairwise(offsets.tolist())], None
        pairs = [(instruction, text) for text in texts]
        encoded, skips = encode_pairs(pairs, self._tokenizer, self.max_length, self._name)
        return [torch.tensor(tokens, dtype=torch.int32) for tokens in encoded], skips


class CellEncoder:
    """One cell as mteb's EncoderProtocol; `name`, with the cell, and `revision` are what mteb's results call it."""

    def __init__(self, embeddings: GridEmbeddings, cell: Cell, name: str, revision: str) -> None:
        self._embeddings, self.cell = embeddings, cell
        self.mteb_model_meta = model_meta(name, revision, cell, embeddings.max_length)

    def encode(
        self, inputs: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> NDArray[np.float32]:  # fmt: skip
        """The (n, dim) embeddings of a dataloader's texts; mteb's keywords are taken and not needed."""
        # Its data set has the texts in the loader's order, without collating them in batches for every cell.
        texts = inputs.dataset["text"][:]
        return self._embeddings.of(texts, SIDES[prompt_type] if prompt_type else None, *self.cell)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosine of all pairs."""
        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosine row by row."""
        return cast("Tensor", pairwise_cos_sim(embeddings1, embeddings2))


def model_meta(name: str, revision: str, cell: Cell, max_length: int) -> ModelMeta:
    """What mteb's results record as the model: organisation/name, here of a cell, and a revision."""
    layer, dim = cell
    return ModelMeta.create_empty({
        "name": f"{name if '/' in name else f'matryobench/{name}'}.l{layer}.d{dim}",
        "revision": revision,
        "embed_dim": dim,
        "max_tokens": max_length,
        "framework": ["PyTorch"],
        "similarity_fn_name": ScoringFunction.COSINE,
    })  # fmt: skip
