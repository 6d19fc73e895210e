"""What is known of a backbone without loading it: where it is, how deep and how wide."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from matryobench.config import Backbone, HubBackbone, PackageBackbone, PretrainedBackbone
from matryobench.data.mirror import Mirror, NotInMirror
from matryobench.errors import InputError


@dataclass(frozen=True)
class Shape:
    """L and H of the backbone, None where it can only be known after it was fetched."""

    layers: int | None
    hidden: int | None


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
    match backbone:
        case PretrainedBackbone():
            return Shape(backbone.spec.architecture.layers, backbone.spec.architecture.hidden)
        case PackageBackbone():
            folder = package_folder(backbone, place)
        case HubBackbone():
            try:
                folder = Mirror(mirror).model_folder(backbone.id, backbone.revision)
            except NotInMirror:
                return Shape(None, None)
        case _:
            folder = backbone.path
    config_file = folder / "config.json"
    try:
        settings = json.loads(config_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{place}: backbone: {config_file} does not exist; give a transformers model folder."
        ) from None
    except ValueError:
        raise InputError(f"{place}: backbone: {config_file} is not JSON; give an intact model folder.") from None
    layers = settings.get("num_hidden_layers", settings.get("n_layers"))
    hidden = settings.get("hidden_size", settings.get("dim"))
    if not isinstance(layers, int) or not isinstance(hidden, int):
        raise InputError(f"{place}: backbone: {config_file} names no number of layers and width; is it an encoder?")
    return Shape(layers, hidden)
