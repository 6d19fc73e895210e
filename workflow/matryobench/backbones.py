"""What is known of a backbone without loading it: where it is, how deep and how wide."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matryobench.config import Backbone, HubBackbone, PackageBackbone, PathBackbone, PretrainedBackbone
from matryobench.data.mirror import Mirror, NotInMirror
from matryobench.errors import InputError

OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")


@dataclass(frozen=True)
class Shape:
    """L and H of the backbone and its longest text, None where they can only be known after it was fetched."""

    layers: int | None
    hidden: int | None
    positions: int | None = None  # tokens of the longest text; None also where they are not limited


def package_folder(backbone: PackageBackbone, place: str) -> Path:
    """The model folder inside an installed package; the package is located, not imported."""
    found = importlib.util.find_spec(backbone.package)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"{place}: backbone.package: no package '{backbone.package}' is installed; install it with pip."
        )
    folder = Path(found.submodule_search_locations[0]) / backbone.folder
    if not folder.is_dir():
        raise InputError(f"{place}: backbone.folder: package '{backbone.package}' has no folder '{backbone.folder}'.")
    return folder


def backbone_shape(backbone: Backbone, mirror: Path, place: str) -> Shape:
    """L and H of a backbone from its config.json, without loading it; unknown for a hub model not yet fetched."""
    if isinstance(backbone, PretrainedBackbone):
        sizes = backbone.spec.architecture
        return Shape(sizes.layers, sizes.hidden, sizes.max_length)
    settings = backbone_settings(backbone, mirror, place)
    if settings is None:
        return Shape(None, None)
    layers = settings.get("num_hidden_layers", settings.get("n_layers"))
    hidden = settings.get("hidden_size", settings.get("dim"))
    if not isinstance(layers, int) or not isinstance(hidden, int):
        raise InputError(f"{place}: backbone: its config.json names no number of layers and width; is it an encoder?")
    return Shape(layers, hidden, usable_positions(settings))


def backbone_settings(
    backbone: HubBackbone | PathBackbone | PackageBackbone, mirror: Path, place: str
) -> Mapping[str, Any] | None:
    """A backbone's config.json; None for a hub model not yet fetched. Raises InputError where it is missing or damaged."""
    match backbone:
        case PackageBackbone():
            folder = package_folder(backbone, place)
        case HubBackbone():
            try:
                folder = Mirror(mirror).model_folder(backbone.id, backbone.revision)
            except NotInMirror:
                return None
        case _:
            folder = backbone.path
    config_file = folder / "config.json"
    try:
        settings: Mapping[str, Any] = json.loads(config_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{place}: backbone: {config_file} does not exist; give a transformers model folder."
        ) from None
    except ValueError:
        raise InputError(f"{place}: backbone: {config_file} is not JSON; give an intact model folder.") from None
    return settings


def usable_positions(settings: Mapping[str, Any]) -> int | None:
    """Tokens of the longest text, by a model's config.json; None where positions are not limited.

    The RoBERTa family counts positions from after the padding token's number.
    """
    positions = settings.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    offset = settings.get("model_type") in OFFSET_POSITIONS
    return positions - int(settings.get("pad_token_id") or 0) - 1 if offset else positions
