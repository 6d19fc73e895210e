"""Files that are either whole or absent: written beside their place, flushed, then renamed onto it.

What is being written is called .<name>.<host>.<pid>.partial, which no reader looks for; what a killed process left of
it is removed by the next one that writes the same name on that host.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from matryobench.errors import InputError

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "host"
_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?P<host>[A-Za-z0-9-]+)\.(?P<pid>\d+)\.partial", re.DOTALL)
# Libraries in Rust put the number into the text, as in "I/O error: No space left on device (os error 28)".
_RUST = re.compile(r"\(os error (\d+)\)")

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class WriteError(OSError):
    """Writing a file failed: errno, strerror and filename as any OSError has them, and the bytes that were written."""

    def __init__(self, number: int, target: Path, written: int) -> None:
        super().__init__(number, os.strerror(number), str(target))
        self.written = written


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target`; when the block ends well, what was written there becomes `target`.

    The temporary path may be made a file or a folder. If the block raises, it is removed and `target` is untouched.
    What the system refuses (a full disk, no permission) is raised as WriteError, whichever library was writing.
    """
    target = Path(target)
    partial, written = partial_path(target), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_dead(target.parent, target.name)
        remove(partial)
        try:
            yield partial
            _flush(partial)
            if partial.is_dir():
                discard(target)
            os.replace(partial, target)
        except BaseException:
            written = _bytes_in(partial)
            remove(partial)
            raise
    except Exception as error:
        number = _refused(error, partial)
        if number is None:
            raise
        raise WriteError(number, target, written) from error


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` for what is needed on the way to it; removed at the end, whatever that is.

    What a killed process left of it, the next one that writes `target` removes.
    """
    folder = partial_path(target.with_name(f"{target.name}.scratch"))
    remove(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove(folder)


@contextmanager
def appending(path: Path) -> Iterator[TextIO]:
    """Opens a text file to add lines to; WriteError names it where the system refuses them, as on a full disk."""
    try:
        with path.open("a", encoding="utf-8") as stream:
            yield stream
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        raise WriteError(error.errno, path, path.stat().st_size) from error


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


def folder_sha256(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by path relative to it, sorted; hidden ones (Snakemake's) do not count."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def partial_path(target: Path) -> Path:
    """Where this process writes what will be `target`."""
    return target.with_name(f".{target.name}.{_HOST}.{os.getpid()}.partial")


def partial_name(name: str) -> str | None:
    """The name of the file that a file of this name is being written for; None where it is no such file."""
    found = _PARTIAL.fullmatch(name)
    return found["name"] if found else None


def remove_dead(folder: Path, prefix: str) -> None:
    """Removes what processes of this host that are no more left half-written in a folder for names with this prefix."""
    for path in folder.glob(f".{_escaped(prefix)}*.partial"):
        found = _PARTIAL.fullmatch(path.name)
        if found and found["host"] == _HOST and not _runs(int(found["pid"])):
            remove(path)


def discard(path: Path) -> None:
    """Removes a file or folder, if it is there, in such a way that nobody ever sees half of it, however this ends."""
    away = partial_path(path.with_name(f"{path.name}.old"))
    remove(away)
    try:
        os.replace(path, away)
    except FileNotFoundError:
        return
    with suppress(OSError):  # it is out of sight; the next writer removes what is left of it
        remove(away)


def remove(path: Path) -> None:
    """Removes a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _refused(error: Exception, partial: Path) -> int | None:
    """The number of the system's error where it is about writing `partial`."""
    if isinstance(error, OSError):
        place = error.filename2 or error.filename  # libraries that write through a stream name no file
        about = place is None or str(place).startswith(str(partial))
        return error.errno if about and not isinstance(error, FileNotFoundError) else None
    rust = type(error) is Exception or type(error).__name__ == "SafetensorError"
    found = _RUST.search(str(error)) if rust else None
    return int(found[1]) if found else None


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _flush(path: Path) -> None:
    """To the disk before the rename: some file systems only then say that they are full."""
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            with file.open("rb") as written:
                os.fsync(written.fileno())


def _bytes_in(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
