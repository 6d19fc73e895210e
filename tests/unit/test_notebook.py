"""The analysis notebook: runs on any experiment's results, says what they lack, and gives one page without the network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from test_grid_tests import CELLS, gold_scores, query_scores, sts_scores, write_run

from matryobench.analysis import cells
from matryobench.cli import main
from matryobench.errors import InputError
from matryobench.notebook import run_notebook
from matryobench.paths import NOTEBOOK


def code_cells() -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]


def words(html: str) -> str:
    return re.sub(r"<style.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL)


def collected(results: Path) -> Path:
    """Joins the evaluations in a results folder, as the workflow does."""
    cells.write(cells.collect(sorted(results.glob("evaluation/*/cells.parquet"))), results / "tables" / "cells.parquet")
    return results


def sts_results(results: Path) -> Path:
    """bert, and 2dmse-v1 with less noise, on two sets of pairs."""
    for method, noise, seed in (("bert", 2.0, 0), ("2dmse-v1", 0.5, 10)):
        write_run(results / "evaluation" / f"sts-{method}-s0", "sts", sts_scores(noise, seed), method=method)
    (results / "data").mkdir()
    for name, scores in gold_scores().items():
        pd.DataFrame({"score": scores}).to_parquet(results / "data" / f"{name}.parquet")
    return collected(results)


def retrieval_results(results: Path) -> Path:
    for method, shift, seed in (("bert", 0.0, 0), ("2dmse", 0.1, 10)):
        folder = results / "evaluation" / f"retrieval-{method}-s0"
        write_run(folder, "retrieval", query_scores(shift, seed), method=method)
    return collected(results)


def mteb_results(results: Path) -> Path:
    place = {"query_layer": 2, "layer": 2, "n_items": 10, "dataset": "banking", "metric": "accuracy"}
    line = {"experiment": "tiny", "task": "mteb", "variant": "paper", "recipe": "v1", "backend": "native", "seed": 0}
    rows = [
        {**line, **place, "method": method, "dim": dim, "value": dim / 100 + shift, "run_id": f"mteb-{method}"}
        for method, shift in (("ff", 0.0), ("mrl", 0.25))
        for dim in (8, 16)
    ]
    cells.write(pd.DataFrame(rows), results / "tables" / "cells.parquet")
    return results


# --- the committed notebook -------------------------------------------------------------------------------------------


def test_the_notebook_is_committed_without_outputs_and_says_before_every_step_what_is_asked() -> None:
    nodes = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(nodes)
    kinds = [cell.cell_type for cell in nodes.cells]
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells())
    assert all(before == "markdown" for before, kind in pairwise(kinds) if kind == "code")
    assert "parameters" in code_cells()[0].metadata["tags"]


# --- executed ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, dict[str, str], str, Path]:
    """The averages, the text that each cell of the executed notebook shows by its id, the page, and its folder."""
    results = sts_results(tmp_path_factory.mktemp("tiny"))
    notebook, page = run_notebook(results, results / "notebooks" / "analysis")
    shown = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            assert not [one for one in cell.outputs if one.output_type == "error" or one.get("name") == "stderr"]
            shown[cell.id] = "".join(one.get("text") or words(one.data.get("text/html", "")) for one in cell.outputs)
    frame = cells.read(results / "tables" / "cells.parquet")
    return frame[frame["dataset"] == "average"], shown, page.read_text(encoding="utf-8"), page.parent


def test_it_shows_the_numbers_of_the_table(executed: Any) -> None:
    frame, shown, page, folder = executed
    value = frame.set_index(["method", "layer", "dim"])["value"]
    ours, bert = value["2dmse-v1"], value["bert"]
    assert "tiny: 2 runs, 24 scores" in shown["read"]
    assert "Chosen: sts, average, spearman_cosine (over first, second)" in shown["choose"]
    assert "Method: 2dmse-v1 (paper, v1); baseline: bert (paper, v1)" in shown["lines"]
    for cell in CELLS:
        assert f"{ours[cell]:.4f}" in shown["grid"]
        difference = f"{ours[cell] - bert[cell]:+.3f} ["
        assert difference in shown["difference"] and difference in page
    assert "above in 4 of 4 cells (4 beyond chance), below in 0 (0 beyond chance)" in shown["difference"]
    assert "bootstrap over pairs" in shown["difference"]
    best = ours[ours.index.get_level_values("dim") <= 8]
    layer, dim = best.idxmax()
    assert "at most 8 dims" in shown["bound"]
    share = f"{best.max() / ours[2, 16]:.1%}"
    assert re.search(rf"2dmse-v1\s+paper\s+{layer}\s+{dim}\s+{best.max():.4f}\s+\S+\s+{share}", shown["bound"])
    assert "layers 1→" in shown["published"] and "2→12" in shown["published"]
    assert re.search(r"v1\s+bert\s+paper\s+2dmse-v1", shown["effects"])  # the pair, with its signs
    assert "ours: reproduced (2/2 cells)" in shown["claim"] and "published: " in shown["claim"]
    for ending in ("svg", "png", "pdf"):
        assert (folder / f"sts-own-figure.{ending}").stat().st_size > 1000


def test_the_page_needs_no_network(executed: Any) -> None:
    page = executed[2]
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?\s*(?:https?:)?//""", page)
    assert not re.findall(r"""(?:url|import)\(\s*["']?\s*(?:https?:)?//""", page)
    assert "<script" not in page and 'src="data:image/png;base64,' in page
    assert 'alt="spearman_cosine of 2dmse-v1 (paper, v1) and bert (paper, v1)"' in page
    assert "Going on from the tables" in page and "<title>" in page


def test_the_same_results_give_the_same_files_and_the_notebook_s_own_environment_is_told(tmp_path: Path) -> None:
    results = mteb_results(tmp_path / "results")
    source = "import os, sys\nprint(sys.executable)\nprint(os.environ['MATRYOBENCH_OUT'])\nobject()"
    own = tmp_path / "own.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, id="a")]), own)
    first = [file.read_bytes() for file in run_notebook(results, tmp_path / "out" / "own", own)]
    assert [file.read_bytes() for file in run_notebook(results, tmp_path / "out" / "own", own)] == first
    assert str((tmp_path / "out").resolve()).encode() in first[0] and b"<object>" in first[0]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"own.ipynb", "own.html"}


# --- other experiments, in this process: what exists is chosen, what does not is said -----------------------------------


@pytest.fixture
def run_cells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[str, dict[str, Any]]]:
    def run(results: Path, **parameters: Any) -> tuple[str, dict[str, Any]]:
        """What the code cells print with these parameters, and the names that they leave."""
        monkeypatch.setenv("MATRYOBENCH_RESULTS", str(results))
        monkeypatch.delenv("MATRYOBENCH_OUT", raising=False)
        names: dict[str, Any] = {"display": print}
        for number, cell in enumerate(code_cells()):
            exec(compile(cell.source, cell.id, "exec"), names)
            names.update(parameters if number == 0 else {})
        return capsys.readouterr().out, names

    return run


def test_an_experiment_with_retrieval_only(tmp_path: Path, run_cells: Any) -> None:
    text, names = run_cells(retrieval_results(tmp_path))
    assert "Chosen: retrieval, search, ndcg@10" in text and "paired t-test over queries" in text
    assert "above in 4 of 4 cells" in text and "Nothing is published of search, ndcg@10" in text
    assert names["title"](names["method"]) == "2dmse (paper, v1)"
    assert (tmp_path / "notebooks" / "retrieval-own-figure.pdf").is_file()


def test_an_experiment_with_mteb_only(tmp_path: Path, run_cells: Any) -> None:
    text, names = run_cells(mteb_results(tmp_path))
    assert "Chosen: mteb, banking, accuracy" in text and "mteb keeps no scores per item" in text
    assert (names["ours"] - names["grid"](names["baseline"])).round(9).eq(0.25).all(axis=None)


def test_tables_alone_are_enough(tmp_path: Path, run_cells: Any) -> None:
    results = sts_results(tmp_path)
    for file in results.glob("evaluation/*/items.parquet"):
        file.unlink()
    assert "items.parquet is not there, so there are no intervals" in run_cells(results)[0]


def test_a_single_method_has_nothing_to_be_compared_with(tmp_path: Path, run_cells: Any) -> None:
    write_run(tmp_path / "evaluation" / "sts-bert-s0", "sts", sts_scores(1.0, 0), method="bert")
    text, names = run_cells(collected(tmp_path))
    assert "nothing to compare" in text and "none, this is the only line" in text and names["baseline"] is None


def test_the_first_cell_chooses(tmp_path: Path, run_cells: Any) -> None:
    results = sts_results(tmp_path)
    line = ("v1", "bert", "paper")
    text, names = run_cells(results, DATASET="second", METHOD=line, LARGEST_DIM=16)
    assert "Chosen: sts, second" in text and "at most 16 dims" in text
    assert (names["method"], names["baseline"]) == (line, ("v1", "2dmse-v1", "paper"))
    assert "below in 4 (4 beyond chance)" in text
    for wrong, said in (({"TASK": "stss"}, "sts"), ({"METHOD": ("v1", "bert", "no")}, "v1 bert paper")):
        with pytest.raises(InputError, match=said):
            run_cells(results, **wrong)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_results_without_a_cells_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["matryobench", "notebook", str(tmp_path), "--out", str(tmp_path / "a")])
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err
    assert f"{tmp_path}/tables/cells.parquet does not exist; run the experiment" in said
    assert said.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        ("no json", "is not a Jupyter notebook"),
        (json.dumps({"cells": 3}), "is not a Jupyter notebook"),
    ],
)
def test_what_is_no_notebook(tmp_path: Path, content: str | None, said: str) -> None:
    own = tmp_path / "own.ipynb"
    if content is not None:
        own.write_text(content)
    with pytest.raises(InputError, match=f"own.ipynb {said}"):
        run_notebook(mteb_results(tmp_path), tmp_path / "out", own)


def test_a_failing_cell_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    v4 = nbformat.v4
    own = tmp_path / "own.ipynb"
    good, bad = (v4.new_code_cell(source, id=source[0]) for source in ("x = 1", "y = x / 0"))
    nbformat.write(v4.new_notebook(cells=[good, v4.new_markdown_cell("## What now?\nText."), bad]), own)
    with pytest.raises(InputError, match=r"code cell 2 \('What now\?'\) failed with ZeroDivisionError: division by"):
        run_notebook(mteb_results(tmp_path), tmp_path / "out" / "page", own)
    assert not list((tmp_path / "out").iterdir())
