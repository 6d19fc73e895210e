"""The pages on methods, deviations and additions say what the code does: generated parts, links, tests, numbers, examples."""

from __future__ import annotations

import ast
import json
import math
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from test_figures import grid
from test_plan import config

from matryobench import products
from matryobench.config import Experiment
from matryobench.objectives.build import objective_of
from matryobench.objectives.objective import Objective
from matryobench.objectives.registry import load_methods
from matryobench.paths import CLAIMS, DATASETS, METHODS, ROOT
from matryobench.plan import Plan

DOCS = ROOT / "docs"
CELLS = ROOT / "results" / "reference" / "minilm" / "tables" / "cells.csv"
PAGES = ("deviations.md", "methods.md", "adding.md", "analysis.md", "provenance.md")


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


def test_the_functions_that_the_page_on_analysis_names_exist() -> None:
    for file, names in re.findall(r"^\| \[[^\]]+\]\(\.\./(\S+\.py)\) \| ([^|]+) \|", page("analysis.md"), re.MULTILINE):
        assert set(re.findall(r"`(\w+)`", names)) <= functions_of(ROOT / file), file


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
    rows = frame[(frame["dataset"] == "average") & (frame["task"] == "sts") & (frame["method"] == method)]
    rows = rows[(rows["variant"] == variant) & (rows["recipe"] == recipe) & (rows["backend"] == "native")]
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


def test_the_demos_numbers_of_the_ledger_are_those_of_its_tables() -> None:
    ledger = {name: fields["Measured"] for name, fields in entries().items()}
    found = {}
    for name in ("sts-variants", "retrieval-variants-demo-search"):
        rows = pd.read_csv(ROOT / "results" / "reference" / "demo" / "tables" / f"{name}.csv")
        rows = rows[rows["band"] == "all"]
        found |= {(row["method"], row["variant"], row["other"]): row for row in rows.to_dict("records")}

    def mean(value: float) -> str:
        return f"{value:.4f}".removeprefix("0")

    own = found["2dmse-v1", "paper", "released"]
    assert f"Demo: above in {own['above']} of {own['cells']}" in ledger["D1"]
    own = found["bert-s", "paper", "released"]
    assert f"above `released` in {own['above']} and equal in {own['equal']}" in ledger["D4"] and own["cells"] == 6
    assert f"means {mean(own['mean'])} and {mean(own['other_mean'])}" in ledger["D4"]
    assert f"{mean(own['largest'])}, at ({own['layer']}, {own['dim']})" in ledger["D4"]
    own = found["2dmse", "released", "repaired"]
    assert f"below `repaired` in {own['below']} of {own['cells']}" in ledger["D7"]
    assert f"means {mean(own['mean'])} and {mean(own['other_mean'])}" in ledger["D7"]
    own = found["2dmse", "released", "paper"]
    assert f"below `paper` in {own['below']} of {own['cells']} ({mean(own['other_mean'])})" in ledger["D7"]
    own = found["srl", "paper", "released"]
    assert f"`released` is above `paper` in {own['below']} of {own['cells']}" in ledger["D11"]
    assert f"means {mean(own['other_mean'])} and {mean(own['mean'])}" in ledger["D11"]


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


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code and its registries with every example of the page added, as the page says."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("workflow", "config"):
        shutil.copytree(ROOT / name, checkout / name)
    for kind, registry in (("A method", METHODS), ("A dataset", DATASETS), ("A claim", CLAIMS)):
        (block,) = blocks("yaml", kind)
        copy = checkout / "config" / registry.name
        copy.write_text(copy.read_text(encoding="utf-8") + "\n" + block, encoding="utf-8")
    package = checkout / "workflow" / "matryobench"
    module, entry, case = blocks("python", "A figure")
    (package / "figures" / "depth.py").write_text(module, encoding="utf-8")
    for name, anchor, change in (
        ("products.py", r'^        found\[f"\{task\}-heatmaps\{ending\}"\] = .*\n', lambda found: found[0] + entry),
        ("reports.py", r'^        case "heatmaps":\n', lambda found: case + found[0]),
    ):
        source, count = re.subn(anchor, change, (package / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert count == 1, name
        (package / name).write_text(source, encoding="utf-8")
    return checkout


def matryobench(checkout: Path, *arguments: str | Path) -> str:
    command = [sys.executable, str(checkout / "workflow" / "run.py"), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=checkout)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_method_of_the_page_can_be_planned_and_trained(extended: Path, tiny_bert: Path, tmp_path: Path) -> None:
    from test_training import COLUMNS, NO_TABLE

    from matryobench.data.tokens import tokenise, write_tokens
    from matryobench.models.folders import load_tokenizer
    from matryobench.training.runs import train

    methods = extended / "config" / METHODS.name
    (entry,) = re.findall(r"`- (\{method: all-layers.*?\})`", page("adding.md"))
    training = {"batch_size": 4, "steps": 2, "learning_rate": 1e-3}
    changes = {"sts__runs": [yaml.safe_load(entry)], "sts__recipes__v1__training": training}
    plan = Plan(Experiment.model_validate(config(seeds=[1], **changes)), "tiny.yaml", methods=methods)
    assert [run.run_id for run in plan.runs] == ["sts-all-layers-plain-v1-s1", "sts-all-layers-aligned-v1-s1"]
    styles = load_methods(methods)
    assert len({method.colour.lower() for method in styles.values()}) == len(styles)
    assert styles["all-layers"].marker not in {m.marker for name, m in styles.items() if name != "all-layers"}
    write_tokens(tokenise(COLUMNS, load_tokenizer(tiny_bert), 16, {}), tmp_path / "tokens.safetensors")
    for run, widths in zip(plan.runs, ({32}, {8, 32}), strict=True):
        made = objective_of(plan, run, 4, 32)
        assert isinstance(made, Objective)
        assert {(term.layer, term.dim) for term in made.coverage()} >= {(layer, 32) for layer in (1, 2, 3, 4)}
        assert {term.dim for term in made.coverage()} == widths
        out = tmp_path / run.variant
        train(plan, run, tmp_path / "tokens.safetensors", NO_TABLE, tiny_bert, out, "cpu")
        steps = [json.loads(line) for line in (out / "telemetry.jsonl").read_text().splitlines()]
        assert len(steps) == json.loads((out / "run.json").read_text())["steps"] == 2
        assert all(math.isfinite(step["loss"]) for step in steps)
        before, after = (load_file(one / "model.safetensors") for one in (tiny_bert, out / "model"))
        assert any(not torch.equal(after[name], before[name]) for name in after)


def test_the_dataset_of_the_page_can_be_fetched_and_read(extended: Path, tmp_path: Path) -> None:
    from matryobench.data.prepare import fetch_data
    from matryobench.data.records import read_table

    (extended / "config" / "support").mkdir()
    (extended / "config" / "support" / "pairs.csv").write_text(
        "question,other,gold\nhow to pay,where to pay,0.8\nhow to pay,who are you,0\nopen it,close it,0.4\n",
        encoding="utf-8",
    )
    experiment = Experiment.model_validate(config(sts__evaluate=["support-pairs"]))
    plan = Plan(experiment, "tiny.yaml", datasets=extended / "config" / DATASETS.name)
    assert fetch_data(plan, "support-pairs", tmp_path / "pairs.parquet") == 3
    table, _ = read_table(tmp_path / "pairs.parquet")
    assert table.column("score").to_pylist() == [0.8, 0.0, 0.4]


def test_the_figure_of_the_page_is_drawn_by_the_command_of_the_page(extended: Path, tmp_path: Path) -> None:
    from matryobench.analysis import cells

    assert "matryobench figure CONFIG sts-depth --cells CELLS --out STEM" in page("adding.md")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config(seeds=[1])), encoding="utf-8")
    cells.write(pd.concat([grid("bert"), grid("mse", shift=0.1)]), tmp_path / "cells.parquet")
    stem = tmp_path / "sts-depth"
    matryobench(extended, "figure", tmp_path / "tiny.yaml", "sts-depth", "--cells", tmp_path / "cells.parquet",
                "--out", stem)  # fmt: skip
    assert all(stem.with_suffix(ending).stat().st_size > 1000 for ending in (".svg", ".png", ".pdf"))
    plan = Plan(Experiment.model_validate(config(seeds=[1])), "tiny.yaml")
    assert "sts-depth" not in products.figures(plan) and "sts-heatmaps" in products.figures(plan)


def test_the_claim_of_the_page_gets_a_verdict(extended: Path, tmp_path: Path) -> None:
    from matryobench.analysis import cells

    frame = pd.read_csv(CELLS)
    cells.write(frame[~((frame["method"] == "2dmse-v2") & (frame["variant"] == "paper"))], tmp_path / "cells.parquet")
    matryobench(extended, "claims", extended / "config" / "minilm.yaml", "--cells", tmp_path / "cells.parquet",
                "--out", tmp_path / "claims")  # fmt: skip
    verdicts = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("claim")
    row = verdicts.loc["v2-above-bert-below-the-last-layer"]
    ours, bert = values("2dmse-v2", "released", "v2"), values("bert", "paper", "v2")
    above = (ours > bert)[ours.index.get_level_values("layer") < 6]
    assert row["minilm counts"] == f"{above.sum()}/{len(above)} cells"
    assert row["published counts"].endswith("/40 cells") and row["minilm figure"].endswith("sts-panels.svg")
