"""A model folder is data: nothing in it is run, whatever its files ask for, and what cannot be used is one sentence."""

from __future__ import annotations

import builtins
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from matryobench.data.mirror import Mirror
from matryobench.errors import InputError
from matryobench.models.folders import load_encoder, load_tokenizer, read_settings
from matryobench.pretraining.start import load_masked_lm

Loader = Callable[[Path], Any]
LOADERS: dict[str, Loader] = {
    "encoder": lambda folder: load_encoder(folder, "mean"),
    "tokenizer": load_tokenizer,
    "masked-lm": lambda folder: load_masked_lm(folder, 0),
}


class Touch:
    """Makes the file `canary` when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return builtins.open, (str(self.canary), "w")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that is there only if something of the folder was run."""
    return tmp_path / "canary"


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good model folder with Python files in it, which would be importable; at a question one would answer yes."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    code = f"""
open({str(canary)!r}, "w").close()
import torch
from transformers import BertConfig, BertModel, BertForMaskedLM, BertTokenizer
class Config(BertConfig): model_type = "foreign"
class Model(BertModel): config_class = Config
class MaskedLM(BertForMaskedLM): config_class = Config
class Tokenizer(BertTokenizer): pass
class Pooling(torch.nn.Module): pass
"""
    for name in ("foreign.py", "__init__.py", "conftest.py", "setup.py"):
        (folder / name).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # the folder below is not on Python's path
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    return folder


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8")


AUTO = {"AutoConfig": "foreign.Config", "AutoModel": "foreign.Model", "AutoModelForMaskedLM": "foreign.MaskedLM",
        "AutoTokenizer": ["foreign.Tokenizer", "foreign.Tokenizer"]}  # fmt: skip


@pytest.mark.parametrize("loader", LOADERS)
def test_code_beside_known_classes_is_not_run(folder: Path, canary: Path, loader: str) -> None:
    change(folder / "config.json", auto_map=AUTO)
    change(folder / "tokenizer_config.json", auto_map=AUTO, tokenizer_class="Tokenizer")
    loaded = LOADERS[loader](folder)
    assert "foreign" not in type(loaded).__module__
    assert not canary.exists() and "foreign" not in sys.modules


@pytest.mark.parametrize("loader", LOADERS)
def test_code_for_unknown_classes_is_refused(folder: Path, canary: Path, loader: str) -> None:
    change(folder / "config.json", auto_map=AUTO, model_type="foreign", architectures=["Model"])
    change(folder / "tokenizer_config.json", auto_map=AUTO, tokenizer_class="Tokenizer")
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(InputError) as raised:
        LOADERS[loader](folder)
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value)
    assert not canary.exists()


@pytest.mark.parametrize("loader", ["encoder", "masked-lm"])
@pytest.mark.parametrize("decoy", [False, True])
def test_pickled_weights_are_not_read(folder: Path, canary: Path, loader: str, decoy: bool) -> None:
    (folder / "model.safetensors").rename(folder / "decoy.safetensors")
    if not decoy:
        (folder / "decoy.safetensors").unlink()
    torch.save({"embeddings": Touch(canary)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"safetensors"):
        LOADERS[loader](folder)
    assert not canary.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert canary.exists()  # so the trap works


def test_pickles_beside_safetensors_are_ignored(folder: Path, canary: Path) -> None:
    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin", "tokenizer.pkl"):
        (folder / name).write_bytes(pickle.dumps(Touch(canary)))
    load_encoder(folder, "mean"), load_tokenizer(folder)
    assert not canary.exists()


def modules(folder: Path, *kinds_and_paths: tuple[str, str]) -> None:
    listed = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (kind, path) in enumerate(kinds_and_paths)]
    (folder / "modules.json").write_text(json.dumps(listed), encoding="utf-8")


def test_classes_that_modules_json_names_are_never_imported(folder: Path, canary: Path) -> None:
    modules(folder, ("foreign.Model", ""), ("foreign.Pooling", "1_Pooling"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}', encoding="utf-8")
    assert read_settings(folder).pooling == "mean"
    load_encoder(folder, "mean")
    modules(folder, ("foreign.Model", ""), ("foreign.Strange", ""))
    with pytest.raises(InputError, match="module 'Strange' after the transformer is not supported"):
        load_encoder(folder, "mean")
    assert not canary.exists() and "foreign" not in sys.modules


@pytest.mark.parametrize("path", ["..", "../elsewhere", "/etc", "a/../../b"])
def test_a_module_cannot_be_outside_its_folder(folder: Path, path: str) -> None:
    modules(folder, ("Transformer", path))
    with pytest.raises(InputError, match="leads out of the folder"):
        read_settings(folder)


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", '[{"path": ""}]', '[{"path": 1, "type": "Transformer"}]'])
def test_a_damaged_list_of_modules_is_said(folder: Path, text: str) -> None:
    (folder / "modules.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"modules\.json: not a list of modules with a path and a type each"):
        read_settings(folder)


def test_code_that_was_put_into_a_mirrored_model_is_refused(folder: Path, canary: Path, tmp_path: Path) -> None:
    """Also a file that the loading would ignore: what the manifest does not list has no business there."""
    for path in folder.glob("*.py"):
        path.unlink()
    mirror = Mirror(tmp_path / "mirror")
    entry = mirror.entry("models", "org/name", "a" * 40)
    with mirror.incoming() as gathered:
        shutil.copytree(folder, gathered, dirs_exist_ok=True)
        mirror.add(entry, gathered, {"id": "org/name", "revision": "a" * 40}, origin="hub")
    assert mirror.model_folder("org/name", "a" * 40) == entry
    (entry / "modeling_foreign.py").write_text(f"open({str(canary)!r}, 'w')", encoding="utf-8")
    with pytest.raises(InputError, match="the mirror's manifest does not list this file"):
        mirror.model_folder("org/name", "a" * 40)
    assert not canary.exists()
