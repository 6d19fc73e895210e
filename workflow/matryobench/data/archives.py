"""Files that may be compressed, as bytes."""

from __future__ import annotations

import gzip
import lzma
import zlib
from pathlib import Path
from typing import IO

# What reading a damaged or cut archive raises.
ARCHIVE_DAMAGE = (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError)


def open_bytes(path: Path) -> IO[bytes] | gzip.GzipFile | lzma.LZMAFile:
    """The file's bytes, decompressed where its name ends in .gz or .xz."""
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return lzma.open(path, "rb") if path.suffix == ".xz" else path.open("rb")
