"""Runs the analysis notebook on an experiment's results: the executed notebook, and an HTML page that needs no network."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench import layout
from matryobench.errors import InputError
from matryobench.files import write_text
from matryobench.paths import NOTEBOOK

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from nbformat import NotebookNode

    from matryobench.chain.sources import Sources
    from matryobench.plan import Plan

# nbconvert's own page without the scripts that it would load from the network (require.js, MathJax, mermaid), and with the
# alternative texts of images, which it leaves out.
_PAGE = """{% extends "lab/index.html.j2" %}
{% block html_head_js %}{% endblock html_head_js %}
{% block html_head_js_mathjax %}{% endblock html_head_js_mathjax %}
{% block html_head_js_mermaidjs %}{% endblock html_head_js_mermaidjs %}
{% block data_png scoped %}
<div class="jp-RenderedImage jp-OutputArea-output">
<img src="data:image/png;base64,{{ output.data["image/png"] | escape_html }}"
 {%- for name in ("alt", "width", "height") if output | get_metadata(name, "image/png") is not none %}
 {{ name }}="{{ output | get_metadata(name, "image/png") | string | escape_html_keep_quotes | replace('"', "&quot;") }}"
 {%- endfor %}>
</div>
{% endblock data_png %}
{% block html_head_css %}
<style>
body.jp-Notebook { padding: 1rem; }
main { max-width: 64rem; margin: 0 auto; }
main .jp-InputPrompt, main .jp-OutputPrompt { display: none; }
main :is(.jp-OutputArea-output, .jp-InputArea-editor) { overflow-x: auto; }
main .jp-RenderedHTMLCommon table { margin-left: 0; font-variant-numeric: tabular-nums; }
main .jp-RenderedHTMLCommon tbody tr:nth-child(n) { background: none; }
main .jp-RenderedHTMLCommon tbody :is(th, td) { border-bottom: 1px solid #e8e8e8; vertical-align: top; }
main .jp-OutputArea-output pre { word-break: normal; overflow-wrap: anywhere; }
main .jp-RenderedHTMLCommon img { max-width: 100%; height: auto; }
</style>
{% endblock html_head_css %}
"""


def notebook_sources(plan: Plan, results: Path) -> Sources:
    """What notebooks/analysis.ipynb reads: the cells table, per-item scores, and the gold scores of STS sets."""
    from matryobench.chain.sources import Sources

    runs = [run.run_id for run in plan.runs if run.task != "mteb"]
    gold = [layout.table(name) for name in plan.sts.evaluate] if plan.experiment.sts is not None else []
    files = ["tables/cells.parquet", *map(layout.items, runs), *gold]
    return Sources.of(plan, results, [path for file in files if (path := results / file).is_file()])


def run_notebook(results: Path, stem: Path, notebook: Path = NOTEBOOK) -> list[Path]:
    """Executes `notebook` on the results folder of an experiment and writes `stem`.ipynb and .html, whole or not at all.

    The notebook runs in this Python, in the folder of `stem`, and finds the results in the environment variable
    MATRYOBENCH_RESULTS and the folder for files of its own in MATRYOBENCH_OUT (see its first cell). Raises InputError for
    results without a cells table, a file that is no notebook, and a cell that fails, which it names.
    """
    import nbformat

    if not (results / "tables" / "cells.parquet").is_file() and not (results / "tables" / "cells.csv").is_file():
        raise InputError(
            f"{results}/tables/cells.parquet does not exist; run the experiment, or `matryobench collect`, first."
        )
    nodes = _read(notebook)
    stem.parent.mkdir(parents=True, exist_ok=True)
    source = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="matryobench-") as scratch:
        environment = {
            **os.environ,
            "MATRYOBENCH_RESULTS": str(results.resolve()),
            "MATRYOBENCH_OUT": str(stem.parent.resolve()),
            "PYTHONPATH": source,
            "IPYTHONDIR": scratch,  # no start-up files of the user's
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        _execute(_client(nodes, Path(scratch), stem.parent), notebook, environment)
    _settle(nodes)
    pages = {".ipynb": nbformat.writes(nodes), ".html": _html(nodes, notebook.stem)}
    found = []
    for ending, text in pages.items():
        found.append(stem.with_name(stem.name + ending))
        write_text(found[-1], text)
    return found


def _read(notebook: Path) -> NotebookNode:
    import nbformat

    try:
        text = notebook.read_text(encoding="utf-8")
        nbformat.validate(json.loads(text), version=4)  # before nbformat converts what it takes for an old version
    except FileNotFoundError:
        raise InputError(f"{notebook} does not exist; give a Jupyter notebook (.ipynb).") from None
    except (OSError, ValueError, AttributeError, nbformat.ValidationError):
        raise InputError(f"{notebook} is not a Jupyter notebook; give a file in the format nbformat 4.") from None
    return nbformat.reads(text, as_version=4)


def _client(nodes: NotebookNode, scratch: Path, folder: Path) -> NotebookClient:
    """A client with a kernel in this very Python, whatever kernels are installed, on sockets in `scratch` where possible."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    transport = "ipc" if len(os.fsencode(scratch)) < 80 else "tcp"  # a socket's path has at most 104 to 108 bytes

    class ThisPython(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(argv=command, display_name="Python 3", language="python")

        def __init__(self, **options: Any) -> None:
            super().__init__(transport=transport, connection_file=str(scratch / "kernel"), **options)

    return NotebookClient(
        nodes,
        kernel_name="python3",
        kernel_manager_class=ThisPython,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )


def _execute(client: NotebookClient, notebook: Path, environment: dict[str, str]) -> None:
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        place, reason = f"{notebook}: {_failed(client.nb)}", " ".join(str(error.evalue).split())
        if error.ename == InputError.__name__:  # says itself what to do
            raise InputError(f"{place}: {reason}") from None
        raise InputError(
            f"{place} failed with {error.ename}: {reason.rstrip('.')}; mend it in Jupyter, where "
            f"MATRYOBENCH_RESULTS={environment['MATRYOBENCH_RESULTS']} gives it the same results."
        ) from None
    except DeadKernelError:
        raise InputError(
            f"{notebook}: Python died in {_failed(client.nb)}; run it again with more memory (mem_mb)."
        ) from None


def _failed(nodes: NotebookNode) -> str:
    """The code cell that was running last: its number among the code cells and the heading above it."""
    number, heading, last = 0, "", ""
    for cell in nodes.cells:
        lines = cell.source.splitlines()
        if cell.cell_type == "markdown":
            heading = next((line.lstrip("# ") for line in lines if line.startswith("#")), heading)
        elif cell.cell_type == "code" and cell.source.strip():
            number += 1
            place = f"code cell {number}" + (f" ('{heading}')" if heading else "")
            if cell.execution_count is None:
                return last or place
            last = place
            if any(output.output_type == "error" for output in cell.outputs):
                return place
    return last


def _settle(nodes: NotebookNode) -> None:
    """Takes addresses in memory out of the outputs, so that the same results give the same files."""
    for cell in nodes.cells:
        for output in cell.get("outputs", []):
            if "text/plain" in output.get("data", {}):
                output.data["text/plain"] = re.sub(r" at 0x[0-9a-f]+(?=>)", "", output.data["text/plain"])


def _html(nodes: NotebookNode, name: str) -> str:
    from nbconvert.exporters import HTMLExporter

    exporter = HTMLExporter(raw_template=_PAGE, embed_images=True, exclude_anchor_links=True)
    body, _ = exporter.from_notebook_node(nodes, resources={"metadata": {"name": name}})
    return str(body)
