"""The one error that users are meant to see: a sentence that names the place, the problem and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Something that the user gave (config, data, model, arguments) cannot be used.

    The message is one complete sentence for the user. The command line prints it without a traceback and exits with
    code 2; nothing half-written is left behind.
    """


def unknown_name(place: str, kind: str, name: str, valid: Iterable[str]) -> InputError:
    """An InputError for a name that is not registered, with the nearest valid names and the whole list."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return InputError(f"{place}: unknown {kind} {name!r}; {hint}valid names are: {', '.join(names)}.")
