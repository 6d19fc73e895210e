"""What the system refuses (a full disk, no permission, no memory), as one sentence that names the place and the fix."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

from matryobench.errors import InputError
from matryobench.files import WriteError

_ALLOCATION = re.compile(r"DefaultCPUAllocator|[Cc]annot allocate memory|can't allocate memory|[Oo]ut of memory")
_TRAINS = ("train", "pretrain")
_AGAIN = "then run the same command again: it goes on where it stopped"


def explain(error: Exception, verb: str = "") -> str | None:
    """The sentence for an InputError or an error of the system in the step `verb`; None for a fault of the program."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return _memory(error, verb)
    if isinstance(error, OSError):
        return _storage(error)
    # torch's errors by name and text: torch need not be imported for this.
    if isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or _ALLOCATION.search(str(error))
    ):
        return _memory(error, verb)
    return None


def _memory(error: Exception, verb: str) -> str:
    detail = " ".join(str(error).split()).split(". ")
    wanted = next((part for part in detail if "ried to allocate" in part or "nable to allocate" in part), "")
    amount = re.search(r"allocate ([\d.]+ ?(?:bytes|[KMGT]i?B))", wanted)
    asked = f" ({amount[1]} were asked for)" if amount else ""
    if verb in _TRAINS:
        fix = (
            "lower training.tokens_per_forward, set training.gradient_caching: true, or lower the batch"
            " (training.batch_size), "
        )
    else:
        fix = "run fewer jobs at once (snakemake --cores), "
    where = "of the GPU is" if "CUDA" in str(error) or "HIP" in str(error) else "is"
    return f"{verb or 'this step'}: the memory {where} used up{asked}; {fix}or give the job more memory, {_AGAIN}."


def _storage(error: OSError) -> str | None:
    place = error.filename2 or error.filename
    file = os.fsdecode(place) if isinstance(place, str | bytes) else "a file"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            what = "disk is full" if error.errno == errno.ENOSPC else "disk quota is used up"
            return f"{file}: the {what}{_missing(error, file)}; make space, {_AGAIN}."
        case errno.EFBIG:
            return (
                f"{file}: the file may not get this large{_missing(error, file)}; raise the limit of file sizes (ulimit -f), "
                f"{_AGAIN}."
            )
        case errno.EROFS:
            return f"{file}: the file system is read-only; mount it writable or use another folder, {_AGAIN}."
        case errno.EACCES | errno.EPERM:
            return f"{file}: permission denied; give yourself the right to use it (chmod, chown), {_AGAIN}."
        case errno.EIO | errno.ESTALE:
            return f"{file}: the disk reports an error ({error.strerror}); check it, {_AGAIN}."
        case errno.EMFILE | errno.ENFILE:
            return f"{file}: too many files are open; raise the limit (ulimit -n), {_AGAIN}."
        case errno.ENAMETOOLONG:
            return (
                f"{file}: this path is too long for the file system; use a shorter results folder or experiment name."
            )
        case errno.ENOENT | errno.ENOTDIR | errno.EISDIR | errno.EEXIST | errno.ENOTEMPTY if place is not None:
            return f"{file}: {(error.strerror or 'it cannot be used').lower()}; correct the path, {_AGAIN}."
    return None


def _missing(error: OSError, file: str) -> str:
    """How much was written and how much would still fit, where that is known."""
    parts = []
    if isinstance(error, WriteError):
        parts.append(f"it has more than the {_size(error.written)} that could be written")
    if error.errno == errno.ENOSPC:
        folder = next((parent for parent in Path(file).absolute().parents if parent.is_dir()), None)
        if folder is not None:
            parts.append(f"{_size(shutil.disk_usage(folder).free)} are free")
    return f" ({', '.join(parts)})" if parts else ""


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
