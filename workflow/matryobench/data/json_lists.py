"""JSON files that are one long list of objects, read object by object: MEDI's is 2.5 GB on a single line."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matryobench.data.archives import ARCHIVE_DAMAGE, open_bytes
from matryobench.errors import InputError

_PIECE = 1 << 20  # bytes read at a time
_LONGEST = 1 << 26  # characters of one object at most; what has no end by then is broken
_SPACE = re.compile(r"[ \t\r\n]*")


def begins_list(path: Path) -> bool:
    """Whether the file's first character that is no space is [. Raises InputError as `list_rows` does."""
    return _Text(path).peek() == "["


def list_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, held one at a time.

    Raises InputError with file and row for what is not JSON, is no object, or follows the list; with the file for what is
    not UTF-8 or is a damaged archive.
    """
    text = _Text(path)
    text.take("[")
    if text.peek() != "]":
        yield text.row()
        while text.peek() == ",":
            text.take(",")
            yield text.row()
    text.take("]")
    if text.peek():
        raise InputError(f"{path}: there is more after the list that ends with row {text.rows}; remove it.")


class _Text:
    """A file's text from a position on, of which only the piece in work is held."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0  # objects read
        self._buffer, self._at, self._line = "", 0, 1
        self._pieces = _pieces(path)

    def peek(self) -> str:
        """The next character that is no space, "" at the end."""
        while True:
            found = _SPACE.match(self._buffer, self._at)
            assert found is not None  # it may be empty
            self._at = found.end()
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def take(self, character: str) -> None:
        """Goes past the character that must be next."""
        if self.peek() != character:
            raise self._broken(f"{character} or a comma is missing", self._at)
        self._at += 1

    def row(self) -> dict[str, Any]:
        """The next object."""
        self.rows += 1
        if self.peek() != "{":
            raise self._broken("an object is needed", self._at)
        while True:
            try:
                value, self._at = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if len(self._buffer) - self._at > _LONGEST or not self._more():
                    raise self._broken(error.msg, error.pos) from None
            else:
                assert isinstance(value, dict)  # it begins with a brace
                return value

    def _more(self) -> bool:
        """Drops what was read and adds a piece; False, and nothing is changed, where there is none."""
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._line += self._buffer.count("\n", 0, self._at)
        self._buffer, self._at = self._buffer[self._at :] + piece, 0
        return True

    def _broken(self, problem: str, position: int) -> InputError:
        line = self._line + self._buffer.count("\n", 0, position)
        return InputError(
            f"{self.path} row {self.rows} (line {line}): this is not a valid JSON list of objects ({problem}); correct it."
        )


_DECODER = json.JSONDecoder()


def _pieces(path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    try:
        with open_bytes(path) as stream:
            while piece := stream.read(_PIECE):
                text = decoder.decode(piece)
                yield text if read else text.removeprefix("\ufeff")
                read += len(piece)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: after {read} bytes this is not UTF-8 (byte 0x{error.object[error.start]:02x}); save it as UTF-8."
        ) from None
    except ARCHIVE_DAMAGE as error:
        raise InputError(
            f"{path}: after {read} bytes the compressed file is damaged or cut short ({error}); get it again."
        ) from None
