"""The registry of methods: `config/methods.yaml`, checked."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from matryobench.errors import InputError, unknown_name
from matryobench.objectives.spec import Method
from matryobench.paths import METHODS
from matryobench.validation import parse, read_yaml


@lru_cache
def load_methods(path: Path = METHODS) -> dict[str, Method]:
    """All methods by name, in the file's order.

    Raises InputError where an entry is malformed, a colour is used twice, or `starts_from` names no method.
    """
    entries = read_yaml(path)
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{path}: expected a mapping of method names to definitions; add at least one method.")
    methods = {str(name): parse(Method, entry, f"{path}: method '{name}'") for name, entry in entries.items()}
    colours: dict[str, str] = {}
    for name, method in methods.items():
        if method.colour.lower() in colours:
            other = colours[method.colour.lower()]
            raise InputError(f"{path}: method '{name}': 'colour' is that of '{other}' too; give each method its own.")
        colours[method.colour.lower()] = name
        if method.starts_from is not None and method.starts_from not in methods:
            raise unknown_name(f"{path}: method '{name}': starts_from", "method", method.starts_from, methods)
    return methods
