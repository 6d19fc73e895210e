"""What the program's own code never does: run what it reads. Behaviour is tested beside this; here no call is forgotten."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from matryobench.paths import NOTEBOOK, ROOT

FILES = sorted([*(ROOT / "workflow").rglob("*.py"), *(ROOT / "tools").rglob("*.py")])
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "tarfile", "runpy"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.save", "numpy.load", "np.load",
    "pandas.read_pickle", "pd.read_pickle", "importlib.import_module", "shutil.unpack_archive", "datasets.load_dataset",
    "load_dataset", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "SentenceTransformer.load",
    "torch.hub.load", "subprocess.getoutput",
}  # fmt: skip


def problems(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"import {name}" for name in names if name.partition(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: word.value for word in node.keywords}
        if called in CALLS:
            yield called
        if called == "yaml.load" and ast.unparse(given.get("Loader", ast.Constant(None))) not in (
            "_UniqueKeys", "yaml.SafeLoader",
        ):  # fmt: skip
            yield "yaml.load"
        for name in ("trust_remote_code", "shell", "allow_pickle"):
            if name in given and ast.unparse(given[name]) != "False":
                yield name
        # Left out, transformers asks at the terminal whether to run the code of the folder.
        if called.endswith(".from_pretrained") and "**FILES_ONLY" not in ast.unparse(node):
            yield "from_pretrained"
        # Archives are written, never unpacked.
        if called == "zipfile.ZipFile" and [ast.unparse(argument) for argument in node.args[1:]] != ["'w'"]:
            yield "zipfile.ZipFile"
        if called == "subprocess.run" and not isinstance(node.args[0], ast.List):
            yield "subprocess.run"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path: Path) -> None:
    assert list(problems(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_the_notebook_runs_nothing_that_it_reads() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert list(problems(ast.parse(cell.source))) == []


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from tarfile import open", "eval('1')", "torch.load(x)", "yaml.load(x)", "f(shell=True)",
     "yaml.load(x, Loader=yaml.Loader)", "A.from_pretrained(x)", "A.from_pretrained(x, trust_remote_code=True)",
     "subprocess.run('x')", "subprocess.run(f'x {y}')", "np.load(x, allow_pickle=True)"],
)  # fmt: skip
def test_the_check_sees(line: str) -> None:
    assert list(problems(ast.parse(line)))


def test_only_what_goes_without_asking_is_loaded() -> None:
    from matryobench.models.folders import FILES_ONLY

    assert FILES_ONLY == {"local_files_only": True, "trust_remote_code": False}
