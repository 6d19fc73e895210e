"""The pages on methods, deviations and additions say what the code does: generated parts, links, tests, numbers, examples."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from test_figures import grid
from test_plan import config

from matryobench import reports
from matryobench.config import Experiment
from matryobench.objectives.build import objective_of
from matryobench.objectives.objective import Objective
from matryobench.objectives.registry import load_methods
from matryobench.paths import CONFIG, DATASETS, METHODS, ROOT
from matryobench.plan import Plan

DOCS = ROOT / "docs"
CELLS = ROOT / "results" / "reference" / "minilm-sts" / "tables" / "cells.csv"
PAGES = ("deviations.md", "methods.md", "adding.md")


@cache
def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(kind: str, heading: str) -> list[str]:
    """The fenced blocks of a section of adding.md."""
    section = page("adding.md").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{kind}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


# --- links and names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for text, target in re.findall(r"\[([^\]]+)\]\(([^)\s]+)\)", page(name)):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        where = (DOCS / file).resolve() if file else DOCS / name
        assert where.exists(), (text, target)
        if anchor:
            headings = re.findall(r"^#+ (.+)$", where.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, (text, target)


@cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


# --- methods.md -------------------------------------------------------------------------------------------------------


def test_the_methods_page_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools" / "write_methods_page.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_method_has_a_section_with_a_formula() -> None:
    for name in load_methods():
        section = page("methods.md").split(f"\n### {name}\n")[1].split("<!-- method:")[0]
        assert re.search(r"^    \S", section, re.MULTILINE), name


# --- deviations.md ----------------------------------------------------------------------------------------------------


def entries() -> dict[str, dict[str, str]]:
    found = {}
    for part in page("deviations.md").split("\n## ")[1:]:
        name, _, body = part.partition("\n")
        if re.fullmatch(r"D\d+b?", name):
            fields = re.split(r"^- \*\*(\w+)\*\*: ", body, flags=re.MULTILINE)[1:]
            found[name] = dict(zip(fields[::2], (" ".join(text.split()) for text in fields[1::2]), strict=True))
    return found


def test_the_ledger_is_complete() -> None:
    ledger = entries()
    numbers = [f"D{number}" for number in range(1, 17)]
    assert list(ledger) == sorted([*numbers, "D2b", "D7b"], key=lambda name: (int(name[1:].rstrip("b")), name))
    for name, fields in ledger.items():
        assert list(fields) == ["Symptom", "Cause", "Here", "Measured", "Test"], name
    index = re.findall(r"^\| \[(D\d+b?)\]", page("deviations.md"), re.MULTILINE)
    assert index == list(ledger)


def test_every_deviation_of_a_variant_has_its_entry() -> None:
    ledger, methods = entries(), load_methods()
    for method, definition in methods.items():
        for name, variant in definition.variants.items():
            assert set(variant.deviations) <= set(ledger), (method, name)


def test_every_test_that_the_ledger_names_exists() -> None:
    for name, fields in entries().items():
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", fields["Test"])
        assert named, name
        for file, test in named:
            assert test in functions_of(ROOT / file), (name, file, test)


def values(method: str, variant: str, recipe: str) -> pd.Series:
    frame = pd.read_csv(CELLS)
    rows = frame[(frame["dataset"] == "average") & (frame["method"] == method)]
    rows = rows[(rows["variant"] == variant) & (rows["recipe"] == recipe)]
    return rows.set_index(["layer", "dim"])["value"]


def short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def test_measured_numbers_of_the_ledger_are_those_of_the_reference_results() -> None:
    ledger = {name: fields["Measured"] for name, fields in entries().items()}
    for name, method, recipe in (("D1", "2dmse-v1", "v1"), ("D2", "2dmse-v2", "v2")):
        paper, released = values(method, "paper", recipe), values(method, "released", recipe)
        last = paper.index.get_level_values("layer") == 6
        difference = paper - released
        for part, many in ((~last, 35), (last, 7)):
            assert len(difference[part]) == many
            assert f"in {(difference[part] > 0).sum()} of {many}" in ledger[name]
        assert f"means {short(paper[~last].mean())} and {short(released[~last].mean())}" in ledger[name]
        assert short(difference[last].mean()) in ledger[name]
    by_layer = (values("2dmse-v2", "paper", "v2") - values("2dmse-v2", "released", "v2")).groupby("layer").mean()
    assert f"layer {by_layer.idxmax()}, +{short(by_layer.max())}" in ledger["D2"]
    own, bert = values("bert-s", "paper", "v1"), values("bert", "paper", "v1")
    shared = (own - bert.loc[own.index]).drop((6, 384))
    assert abs(own[6, 384] - bert[6, 384]) < 1e-15 and f"in {(shared > 0).sum()} of {len(shared)}" in ledger["D4"]
    dip = [bert[layer, 64] < bert[layer, 32] for layer in (1, 2, 3, 4, 5)]
    assert dip == [True, True, True, True, False] and "layers 1 to 4 of BERT" in ledger["D15"]


def test_recorded_numbers_of_the_ledger_are_those_of_the_recordings() -> None:
    def recorded(name: str) -> list[dict[str, Any]]:
        file = ROOT / "tests" / "parity" / "recorded" / f"{name}.json"
        return list(json.loads(file.read_text(encoding="utf-8"))["cases"])

    for version, text in (("5.1.2", "3.737"), ("5.6.1", "3.358"), ("6.2.0", "4.876")):
        (case,) = (
            one for one in recorded(f"sentence_transformers-{version}")
            if one["loss"] == "AdaptiveLayerLoss" and one["layers"] == [2] and not one["arguments"]
        )  # fmt: skip
        assert f"{case['value']:.3f}" == text and text in entries()["D1"]["Measured"]
    (seeds,) = (one["values"] for one in recorded("angle-0.5.1") if one["loss"] == "seeds")
    assert f"{min(seeds):.2f} to {max(seeds):.2f} over ten seeds (2.3 %" in entries()["D3"]["Measured"]
    assert len(seeds) == 10 and f"{max(seeds) / min(seeds) - 1:.1%}" == "2.3%"
    starbucks = {
        one["arguments"].get("kl_temperature", 0.3): f"{one['value']:.3f}"
        for one in recorded("starbucks-2a3b24f")
        if one["pooling"] == "mean" and one["data"] == "triplets" and len(one["sizes"]) == 4 and not one["picks"]
        and "kl_div_weight" not in one["arguments"]
    }  # fmt: skip
    expected = f"{starbucks[0.0]} without the KL, {starbucks[0.3]} with 0.3 and {starbucks[1.0]} with 1"
    assert expected in entries()["D11"]["Measured"]


# --- adding.md --------------------------------------------------------------------------------------------------------


def extended(tmp_path: Path, registry: Path, block: str) -> Path:
    """A copy of a file of config/ with the block of the page at its end."""
    copy = tmp_path / registry.name
    copy.write_text(registry.read_text(encoding="utf-8") + "\n" + block, encoding="utf-8")
    return copy


def test_the_method_of_the_page_can_be_planned_and_evaluated(tmp_path: Path) -> None:
    (block,) = blocks("yaml", "A method")
    methods = extended(tmp_path, METHODS, block)
    (entry,) = re.findall(r"`- (\{method: all-layers.*?\})`", page("adding.md"))
    experiment = Experiment.model_validate(config(sts__runs=[yaml.safe_load(entry)], seeds=[1]))
    plan = Plan(experiment, "tiny.yaml", methods=methods)
    assert [run.run_id for run in plan.runs] == ["sts-all-layers-plain-v1-s1", "sts-all-layers-aligned-v1-s1"]
    styles = load_methods(methods)
    assert len({method.colour.lower() for method in styles.values()}) == len(styles)
    assert styles["all-layers"].marker not in {m.marker for name, m in styles.items() if name != "all-layers"}
    for run, widths in zip(plan.runs, ({32}, {8, 32}), strict=True):
        made = objective_of(plan, run, 4, 32)
        assert isinstance(made, Objective)
        assert {(term.layer, term.dim) for term in made.coverage()} >= {(layer, 32) for layer in (1, 2, 3, 4)}
        assert {term.dim for term in made.coverage()} == widths
        generator = torch.Generator().manual_seed(0)
        pooled = {layer: torch.randn(3, 12, 32, generator=generator) for layer in made.layers()}
        assert torch.isfinite(made(pooled, None, generator)[0])


def test_the_dataset_of_the_page_can_be_fetched(tmp_path: Path) -> None:
    from matryobench.data.prepare import fetch_data
    from matryobench.data.records import read_table

    (block,) = blocks("yaml", "A dataset")
    datasets = extended(tmp_path, DATASETS, block)
    (tmp_path / "support").mkdir()
    (tmp_path / "support" / "pairs.csv").write_text(
        "question,other,gold\nhow to pay,where to pay,0.8\nhow to pay,who are you,0\nopen it,close it,0.4\n",
        encoding="utf-8",
    )
    experiment = Experiment.model_validate(config(sts__evaluate=["support-pairs"]))
    plan = Plan(experiment, "tiny.yaml", datasets=datasets)
    assert fetch_data(plan, "support-pairs", tmp_path / "pairs.parquet") == 3
    table, _ = read_table(tmp_path / "pairs.parquet")
    assert table.column("score").to_pylist() == [0.8, 0.0, 0.4]


def test_the_figure_of_the_page_is_drawn_by_the_two_lines_in_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matryobench.analysis import cells

    module, entry, branch = blocks("python", "A figure")
    depth = types.ModuleType("matryobench.figures.depth")
    exec(compile(module, "depth.py", "exec"), depth.__dict__)
    monkeypatch.setitem(sys.modules, "matryobench.figures.depth", depth)
    source = Path(reports.__file__).read_text(encoding="utf-8")
    changed = source
    for anchor, replacement in (
        (r'^        found\[f"\{stem\}-heatmaps\{ending\}"\] = .*\n', lambda found: found[0] + entry),
        (r'^    elif product\.kind == "heatmaps":\n', lambda found: branch + found[0]),
    ):
        changed, count = re.subn(anchor, replacement, changed, flags=re.MULTILINE)
        assert count == 1, anchor
    patched = types.ModuleType("patched_reports")
    monkeypatch.setitem(sys.modules, "patched_reports", patched)
    exec(compile(changed, "reports.py", "exec"), patched.__dict__)
    plan = Plan(Experiment.model_validate(config(seeds=[1])), "tiny.yaml")
    assert "sts-depth" in patched.figures(plan) and "sts-depth" not in reports.figures(plan)
    frame = pd.concat([grid("bert"), grid("mse", shift=0.1)])
    cells.write(frame, tmp_path / "cells.parquet")
    files = patched.draw_figure(plan, "sts-depth", tmp_path / "cells.parquet", tmp_path / "sts-depth")
    assert [file.suffix for file in files] == [".svg", ".png", ".pdf"] and all(file.stat().st_size for file in files)


def test_the_claim_of_the_page_gets_a_verdict(tmp_path: Path) -> None:
    from matryobench.claims.evaluate import evaluate
    from matryobench.claims.registry import load_claims

    (block,) = blocks("yaml", "A claim")
    claims = load_claims(extended(tmp_path, CONFIG / "claims.yaml", block))
    frame = pd.read_csv(CELLS).assign(backend="native")
    frame = frame[~((frame["method"] == "2dmse-v2") & (frame["variant"] == "paper"))]
    verdict = evaluate(claims, frame)[-1]
    ours, bert = values("2dmse-v2", "released", "v2"), values("bert", "paper", "v2")
    above = (ours > bert)[ours.index.get_level_values("layer") < 6]
    assert verdict.claim == "v2-above-bert-below-the-last-layer"
    assert verdict.counts.startswith(f"{above.sum()}/") and verdict.figure == "sts-panels"
