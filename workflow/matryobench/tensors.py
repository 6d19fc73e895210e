"""Tensors with a few facts about them as one safetensors file: token files, rankings, results that are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from matryobench.errors import InputError
from matryobench.files import atomic_path


def write_tensors(tensors: dict[str, Tensor], meta: dict[str, Any], path: Path) -> None:
    """Writes tensors and their meta (plain JSON values) as one safetensors file, whole or not at all."""
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={"matryobench": json.dumps(meta, sort_keys=True)})


def read_tensors(path: Path, needed: Sequence[str], what: str, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote, memory-mapped.

    Raises InputError where it is missing, damaged or lacks one of the tensors that are `needed`; `what` names such a
    file in the sentence and `remedy` says how to make it, e.g. "token file", "tokenise".
    """
    try:
        with safe_open(path, framework="pt") as stored:
            meta = json.loads(stored.metadata()["matryobench"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such {what}; {remedy} first.") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable {what} ({error}); remove it and {remedy} again.") from None
    if lacking := [name for name in needed if name not in tensors]:
        raise InputError(f"{path}: this {what} has no {lacking[0]!r}; it is of another kind, so name the right file.")
    return tensors, meta


def read_meta(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """The meta alone of what `write_tensors` wrote; errors as `read_tensors`."""
    try:
        with safe_open(path, framework="np") as stored:
            meta: dict[str, Any] = json.loads(stored.metadata()["matryobench"])
            return meta
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable {what} ({error}); remove it and {remedy} again.") from None
