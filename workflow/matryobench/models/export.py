"""Export of one cell of a run as a standalone model folder."""

from __future__ import annotations

import json
from pathlib import Path

from matryobench.errors import InputError
from matryobench.files import write_json
from matryobench.models.folders import load_encoder, read_settings, save_encoder


def export(run: Path, layer: int, dim: int, out: Path) -> None:
    """Writes the encoder of `run` truncated to `layer` layers, its vectors cut to `dim` coordinates.

    `run` is a run's folder (with model/ and run.json) or any model folder that says how it pools. The result loads in
    sentence-transformers and gives vectors of `dim` coordinates; matryobench.json records layer, dim and origin.
    Raises InputError for a cell outside the model, or `out` that exists.
    """
    folder = run / "model" if (run / "model").is_dir() else run
    settings = read_settings(folder)
    if settings.pooling is None:
        raise InputError(
            f"{folder}: does not say how it pools, so no cell of it can be exported; save it with pooling."
        )
    if out.exists():
        raise InputError(f"{out}: exists already; give a new folder or remove it.")
    encoder = load_encoder(folder, settings.pooling, layer)
    if not 1 <= dim <= encoder.width:
        raise InputError(f"--dim: dim {dim} is not in 1..{encoder.width}, the model's width; change it.")
    save_encoder(encoder, settings.weights, out, settings.max_length or 128, dim, settings.include_prompt)
    record = run / "run.json"
    origin = json.loads(record.read_text(encoding="utf-8"))["run_id"] if record.is_file() else folder.name
    write_json(out / "matryobench.json", {"layer": layer, "dim": dim, "exported_from": origin})
