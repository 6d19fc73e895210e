"""Model folders: reading any transformers or sentence-transformers folder, writing one that both libraries load."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench.errors import InputError
from matryobench.files import atomic_path, folder_sha256, inside, write_json

if TYPE_CHECKING:
    import torch

    from matryobench.models.encoder import Encoder, Pooling

# Families whose hidden_states follow the index convention; checked by tests/unit/test_encoder.py.
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet", "modernbert")
# A folder is data. Left out, the second would have transformers ask at the terminal whether to run the folder's own code.
FILES_ONLY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_WITHOUT_POOLER_ARGUMENT = ("distilbert", "modernbert")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json",
                   "merges.txt", "added_tokens.json", "sentencepiece.bpe.model")  # fmt: skip


@dataclass(frozen=True)
class FolderSettings:
    """What a sentence-transformers folder says besides the weights; the defaults for a plain transformers folder."""

    weights: Path
    pooling: Pooling | None = None
    max_length: int | None = None
    dim: int | None = None
    include_prompt: bool = True  # whether the tokens of an instruction are pooled with those of the text
    normalised: bool = False  # its embeddings are scaled to length 1, which cosines do not see and classifiers do


def read_settings(folder: Path) -> FolderSettings:
    """Reads pooling, maximum length and dimension of a model folder.

    Raises InputError where the folder is no model folder or uses parts that a layer's pooling cannot stand for.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give a model folder or a hub id that is in the mirror.")
    modules_file = folder / "modules.json"
    if not modules_file.exists():
        return FolderSettings(folder)
    modules = _modules(modules_file)
    weights = _part(modules_file, modules[0])
    pooling, dim, include_prompt, normalised = None, None, True, False
    for module in modules[1:]:
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            settings = _part(modules_file, module) / "config.json"
            pooling = _pooling(settings)
            include_prompt = _read_json(settings).get("include_prompt", True)
        elif kind == "Dense" and (folder / "matryobench.json").exists():
            dim = _read_json(folder / "matryobench.json")["dim"]
        elif kind == "Normalize":
            normalised = True
        else:
            raise InputError(
                f"{modules_file}: module '{kind}' after the transformer is not supported; pool or strip it."
            )
    lengths = folder / "sentence_bert_config.json"
    max_length = _read_json(lengths).get("max_seq_length") if lengths.exists() else None
    return FolderSettings(weights, pooling, max_length, dim, include_prompt, normalised)


def _modules(file: Path) -> list[dict[str, str]]:
    """The modules that a sentence-transformers folder lists. Their types are read as names and never imported."""
    modules = _read_json(file)
    listed = isinstance(modules, list) and len(modules) > 0 and all(isinstance(one, dict) for one in modules)
    if not listed or not all(isinstance(one.get(key), str) for one in modules for key in ("path", "type")):
        raise InputError(f"{file}: not a list of modules with a path and a type each; the model folder is damaged.")
    return list(modules)


def _part(modules_file: Path, module: dict[str, str]) -> Path:
    """The folder of a module, which must be in the model folder (where it is an empty path: that folder itself)."""
    folder = modules_file.parent
    return inside(folder, module["path"], folder) if module["path"] not in ("", ".") else folder


def _pooling(config_file: Path) -> Pooling:
    settings = _read_json(config_file)
    modes = [key.removeprefix("pooling_mode_") for key, on in settings.items() if on is True and "pooling_mode_" in key]
    mode = settings.get("pooling_mode") or (modes[0] if len(modes) == 1 else "+".join(modes))
    known: dict[str, Pooling] = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls"}
    if mode not in known:
        raise InputError(f"{config_file}: pooling '{mode}' is not supported; mean and cls are.")
    return known[mode]


def read_config(folder: Path) -> tuple[Path, Any]:
    """(weights folder, transformers config) of a model folder; InputError where it has no config or no safetensors."""
    from transformers import AutoConfig

    weights = read_settings(folder).weights
    if not (weights / "config.json").is_file():
        raise InputError(f"{weights}: has no config.json; give a transformers model folder.")
    if not list(weights.glob("*.safetensors")):
        raise InputError(f"{weights}: has no *.safetensors weights; save the model with safetensors first.")
    try:
        config = AutoConfig.from_pretrained(weights, **FILES_ONLY)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"{weights / 'config.json'}: it cannot be used ({reason}); use an intact folder of a known model type."
        ) from None
    return weights, config


def load_weights(kind: Any, weights: Path, config: Any, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    """(model, what transformers reports of the loading) of one of its Auto classes, from safetensors only.

    Raises InputError where the folder's safetensors are not the weights of the model, or are damaged.
    """
    from safetensors import SafetensorError

    try:
        model, report = kind.from_pretrained(
            weights, config=config, use_safetensors=True, output_loading_info=True, **FILES_ONLY, **arguments
        )
    except SafetensorError as error:
        raise InputError(f"{weights}: its weights are damaged ({error}); get or make the model again.") from None
    except OSError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"{weights}: the weights cannot be loaded ({reason}); save the model as safetensors."
        ) from None
    return model, report


def load_encoder(folder: Path, pooling: Pooling, layers: int | None = None) -> Encoder:
    """Loads an encoder in float32, truncated to its first `layers` layers (None: all).

    Raises InputError for unknown families, missing or non-safetensors weights, and layers > L.
    """
    from transformers import AutoModel

    from matryobench.models.encoder import Encoder

    weights, config = read_config(folder)
    if config.model_type not in FAMILIES:
        raise InputError(f"{weights}: model type '{config.model_type}' is not supported; {', '.join(FAMILIES)} are.")
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            raise InputError(f"{weights}: layer {layers} is not in 1..{config.num_hidden_layers}; choose one of these.")
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    arguments = {} if config.model_type in _WITHOUT_POOLER_ARGUMENT else {"add_pooling_layer": False}
    # Layers above the truncation are reported as unexpected weights, which is what is wanted here.
    with quiet():
        import torch

        backbone, report = load_weights(AutoModel, weights, config, dtype=torch.float32, **arguments)
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"{weights}: the weights lack {len(missing)} parameters, first {missing[0]}; is the folder whole?"
        )
    return Encoder(backbone, pooling, config.pad_token_id if config.pad_token_id is not None else 0)


def save_encoder(
    encoder: Encoder,
    tokenizer_folder: Path,
    out: Path,
    max_length: int,
    dim: int | None = None,
    include_prompt: bool = True,
) -> None:
    """Writes a sentence-transformers folder (safetensors), whole or not at all.

    `include_prompt`: whether `SentenceTransformer(out).encode(texts, prompt=...)` pools the prompt too; not for models
    that were trained on texts with instructions.

    `SentenceTransformer(out)` encodes as the encoder's last layer does; with `dim` the folder ends in an exact cut to
    the first `dim` coordinates and says so in matryobench.json.
    """
    with atomic_path(out) as partial:
        partial.mkdir(parents=True)
        with quiet():
            encoder.backbone.save_pretrained(partial)
        for name in TOKENIZER_FILES:
            if (tokenizer_folder / name).is_file():
                shutil.copyfile(tokenizer_folder / name, partial / name)
        # The module names of every release of sentence-transformers since 2.0; newer ones map them to their own.
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        write_json(partial / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
        (partial / "1_Pooling").mkdir()
        write_json(
            partial / "1_Pooling" / "config.json",
            {
                "word_embedding_dimension": encoder.width,
                "pooling_mode_cls_token": encoder.pooling == "cls",
                "pooling_mode_mean_tokens": encoder.pooling == "mean",
                "include_prompt": include_prompt,
            },
        )
        if dim is not None:
            modules.append(("2_Dense", "Dense"))
            _save_cut(partial / "2_Dense", encoder.width, dim)
            write_json(partial / "matryobench.json", {"layer": encoder.depth, "dim": dim})
        write_json(
            partial / "modules.json",
            [
                {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for index, (path, kind) in enumerate(modules)
            ],
        )
        write_json(
            partial / "config_sentence_transformers.json",
            {
                "model_type": "SentenceTransformer",
                "prompts": {},
                "default_prompt_name": None,
                "similarity_fn_name": "cosine",
            },
        )


def _save_cut(folder: Path, width: int, dim: int) -> None:
    """A Dense module whose weight is the first `dim` rows of the identity: it drops the other coordinates exactly."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    save_file({"linear.weight": torch.eye(width)[:dim].contiguous()}, folder / "model.safetensors")
    settings = {"in_features": width, "out_features": dim, "bias": False}
    write_json(folder / "config.json", {**settings, "activation_function": "torch.nn.modules.linear.Identity"})


def load_tokenizer(folder: Path) -> Any:
    """The folder's fast tokenizer. Raises InputError where it has none."""
    from transformers import AutoTokenizer

    weights = read_settings(folder).weights
    try:
        return AutoTokenizer.from_pretrained(weights, **FILES_ONLY)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{weights}: no tokenizer could be loaded ({reason}); add its tokenizer files.") from None


def encoder_identity(folder: Path, precision: str) -> str:
    """A hash of what a model's embeddings follow from besides the texts: its files, and `precision` if not "fp32"."""
    from matryobench.plan import digest

    files = folder_sha256(folder)  # not run.json's, which holds times
    return digest(files) if precision == "fp32" else digest([files, precision])


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's own reports and progress bars, which would fill the logs."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def device_of(name: str | None = None) -> torch.device:
    """The device to compute on: the one named, else the first GPU, else the CPU. InputError for a GPU that is not there.

    Each of several training processes on a machine has a GPU of its own, which it makes the current one.
    """
    import torch

    if name is not None and name != "cpu" and not torch.cuda.is_available():
        raise InputError(f"device '{name}': this machine has no usable GPU; use cpu.")
    chosen = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda" and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return chosen


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; the model folder is not whole.") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); the model folder is damaged.") from None
