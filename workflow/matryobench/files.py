"""Files that are either whole or absent: written beside their place, flushed, then renamed onto it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from matryobench.errors import InputError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target`; when the block ends well, what was written there becomes `target`.

    The temporary path may be made a file or a folder. If the block raises, it is removed and `target` is untouched.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    _remove(partial)
    try:
        yield partial
        if partial.is_dir():
            _remove(target)
        else:
            with partial.open("rb") as written:
                os.fsync(written.fileno())
        os.replace(partial, target)
    except BaseException:
        _remove(partial)
        raise


def write_text(target: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with atomic_path(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Writes `value` as indented JSON with a final newline; NaN and infinity are refused (ValueError)."""
    write_text(target, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def inside(folder: Path, name: str, within: Path) -> Path:
    """`folder / name`, refused when it is absolute, goes up, or leads out of `within` through a symbolic link."""
    pure = PurePosixPath(name)
    path = folder / pure
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\\" in name:
        raise InputError(f"{name!r} leads out of the folder {folder}; use a path inside it, without '..'.")
    if not path.resolve().is_relative_to(within.resolve()):
        raise InputError(f"{path}: this symbolic link leads out of {within}; put the file itself there.")
    return path


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
