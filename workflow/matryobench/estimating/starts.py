"""What the start of each kind of job takes: Python, this program, and the libraries that it loads."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

from matryobench.estimating.probes import Probe
from matryobench.paths import ROOT


def start_probes(repeats: int) -> Iterator[Probe]:
    """Starts of Python with what each kind of job loads, in processor time of the new process."""
    for name, code in _STARTS.items():
        seconds = []
        for _ in range(repeats):
            before = _children()
            subprocess.run(
                [sys.executable, "-c", _BEGIN + indent(f"{_PLAN}{code}", "    ")], check=True, cwd=ROOT, capture_output=True,
                env=_environment(),
            )  # fmt: skip
            seconds.append(_children() - before)
        yield Probe(f"start: {name}", {f"start_{name}": 1.0}, seconds)


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


_BEGIN = """
from pathlib import Path
from matryobench.cli import app, uncollected
from matryobench.plan import Plan
with uncollected():
"""
_PLAN = """
plan = Plan.load(Path("config/demo.yaml"))
"""
_TABLES = "import pandas, pyarrow.parquet, matryobench.analysis.cells, matryobench.reports"
_TORCH = "import transformers, matryobench.data.tokens\nfrom transformers import AutoTokenizer, PreTrainedTokenizerFast"
_FIGURE = """
import tempfile
from matryobench.analysis import published
from matryobench.figures import panels, theme
name, drawn = next(iter(published.FIGURES.items()))
styles = {name: theme.Style(one.title, one.colour, one.marker) for name, one in plan.methods.items()}
rows = published.figure_rows(name)
figure = panels.draw(rows, styles, dataset=drawn.dataset, metric=drawn.metric, methods=["bert", "mse"])
theme.save(figure, Path(tempfile.mkdtemp()) / "figure", {})
"""
_MODEL = """
import torch, accelerate, transformers, matryobench.training.runs, matryobench.evaluation.runs
from accelerate import Accelerator
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel
BertModel(BertConfig(hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=256, vocab_size=800))
Accelerator(cpu=True)
torch.optim.AdamW([torch.zeros(1)], fused=True)
"""
_MTEB = "import mteb, sklearn.linear_model, matryobench.evaluation.mteb_adapter, matryobench.evaluation.mteb_tasks"
_STARTS = {
    "light": "",
    "tables": _TABLES,
    "tokenise": _TORCH,
    "figures": f"{_TABLES}\n{_FIGURE}",
    "model": _MODEL,
    "mteb": f"{_MODEL}\n{_MTEB}",
}
