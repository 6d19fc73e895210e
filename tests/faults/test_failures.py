"""Errors of the system as one sentence: the file, how much, the fix; and what is no such error stays what it is."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from matryobench.errors import InputError
from matryobench.failures import explain
from matryobench.files import WriteError


def system_error(number: int) -> OSError:
    return OSError(number, "as the system says", "results/x/cells.parquet")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (system_error(errno.EACCES), "results/x/cells.parquet: permission denied; give yourself the right"),
        (system_error(errno.EROFS), "results/x/cells.parquet: the file system is read-only; mount it writable"),
        (system_error(errno.EDQUOT), "results/x/cells.parquet: the disk quota is used up; make space, then run"),
        (system_error(errno.EIO), "results/x/cells.parquet: the disk reports an error (as the system says); check it"),
        (system_error(errno.EMFILE), "results/x/cells.parquet: too many files are open; raise the limit"),
        (system_error(errno.ENAMETOOLONG), "results/x/cells.parquet: this path is too long"),
        (system_error(errno.ENOENT), "results/x/cells.parquet: as the system says; correct the path"),
        (OSError(errno.ENOSPC, "full"), "a file: the disk is full"),
        (OSError(errno.ENOSPC, "full", "source", None, "target"), "target: the disk is full"),
        (InputError("a sentence."), "a sentence."),
    ],
)
def test_a_system_error_is_one_sentence(error: Exception, sentence: str) -> None:
    said = explain(error)
    assert said is not None and said.startswith(sentence)
    assert said.endswith(".") and "\n" not in said


def test_a_full_disk_says_how_much_was_written_and_is_free(tmp_path: Path) -> None:
    said = explain(WriteError(errno.ENOSPC, tmp_path / "new" / "model", 2_340_000))
    assert said is not None
    assert f"{tmp_path}/new/model: the disk is full (it has more than the 2.3 MB that could be written, " in said
    assert " MB are free); make space, then run the same command again" in said


def test_memory_names_what_was_asked_for_and_the_keys_to_lower() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    said = explain(caught.value, "train")
    assert said is not None
    assert said.startswith("train: the memory is used up (4000000000000000 bytes were asked for); lower ")
    for key in ("training.tokens_per_forward", "training.gradient_caching", "training.batch_size"):
        assert key in said
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79 GiB."
    )
    said = explain(error, "pretrain")
    assert said is not None and said.startswith("pretrain: the memory of the GPU is used up (2.50 GiB were asked for)")
    assert "training." not in str(explain(MemoryError(), "collect"))
    assert "run fewer jobs at once" in str(explain(OSError(errno.ENOMEM, "no memory"), "collect"))


@pytest.mark.parametrize(
    "error", [ValueError("x"), RuntimeError("a shape is wrong"), OSError("Can't load the model"), KeyError("x")]
)
def test_faults_of_the_program_keep_their_traceback(error: Exception) -> None:
    assert explain(error) is None
