"""From a file of settings to a checked pydantic model, or to one sentence that names file, key and fix."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from matryobench.errors import InputError


class Settings(BaseModel):
    """Base of every settings model: unknown keys are errors, values cannot be changed after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


S = TypeVar("S", bound=BaseModel)


def read_yaml(path: Path) -> Any:
    """Parses a YAML file; raises InputError with line and column where it is not YAML, not UTF-8 or not there."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; give the path of an experiment's YAML file.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder; give the path of a YAML file.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InputError(f"{path}: {where}not valid YAML ({error.problem}); correct that line.") from None


def parse(model: type[S], data: Any, place: str) -> S:
    """Checks `data` against `model`; `place` names the file (and entry) in the error."""
    if not isinstance(data, Mapping):
        raise InputError(
            f"{place}: expected a mapping of keys to values, found {_kind(data)}; write 'key: value' lines."
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(_sentence(model, error, place)) from None


def _sentence(model: type[BaseModel], error: ValidationError, place: str) -> str:
    problems = error.errors(include_url=False)
    # An unknown key explains a missing one beside it, so it goes first.
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    location = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = _keys_at(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), valid, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"remove it; valid keys here are: {', '.join(valid)}."
        return f"{place}: unknown key '{location}'{more}; {hint}"
    if first["type"] == "missing":
        return f"{place}: key '{location}' is missing{more}; add it."
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    message = message[0].lower() + message[1:] if not message.startswith(("'", '"')) else message
    found = first.get("input")
    shown = f", found {found!r}" if isinstance(found, str | int | float | bool | type(None)) else ""
    key = f"'{location}': " if location else ""
    return f"{place}: {key}{message}{shown}{more}."


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the (nested) model at an error's location, read from the JSON schema."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def options(node: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in node:
            return options(definitions[node["$ref"].rsplit("/", 1)[-1]])
        if "anyOf" in node or "oneOf" in node:
            return [found for part in node.get("anyOf") or node["oneOf"] for found in options(part)]
        return [node]

    nodes = [schema]
    for part in location:
        following: list[dict[str, Any]] = []
        for node in nodes:
            if part in node.get("properties", {}):
                following += options(node["properties"][part])
            elif isinstance(part, int) and "items" in node:
                following += options(node["items"])
            elif isinstance(node.get("additionalProperties"), dict):
                following += options(node["additionalProperties"])
        nodes = following or nodes  # a discriminator's tag is part of the location but not of the schema
    return sorted({key for node in nodes for key in node.get("properties", {})})


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


# libyaml parses the registries ten times faster; every job reads them.
class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML lets a repeated key silently win; here it is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping
