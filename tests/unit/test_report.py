"""The report: everything of the plan has its place, what is missing is named, nothing leads outside, nothing runs that
was in a table."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_cases import COMMIT, DIMS, HOSTILE, INTERVAL, LAYERS, LINES, SETS, SVG, plan, results, score

from matryobench import products
from matryobench.errors import InputError
from matryobench.paths import ROOT
from matryobench.plan import Plan
from matryobench.report import captions, embedding
from matryobench.report.page import write_report
from matryobench.report.places import place


class Page(HTMLParser):
    """The elements, ids and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.within: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append((tag, given))
        self.within = [tag]
        if given.get("id"):
            self.ids.append(str(given["id"]))

    def handle_data(self, data: str) -> None:
        if self.within not in (["script"], ["style"]):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [given for name, given in self.elements if name == tag]

    def data(self) -> Any:
        found = re.search(r'id="grid-data">(.*?)</script>', self.source, re.DOTALL)
        assert found
        return json.loads(found[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, Page]:
    plan, root = results(tmp_path_factory.mktemp("report"))
    assert write_report(plan, root, root / "report.html") == []
    return plan, root, Page((root / "report.html").read_text(encoding="utf-8"))


def test_every_product_of_the_plan_has_its_place_and_a_caption(whole: tuple[Plan, Path, Page]) -> None:
    plan, _, page = whole
    for name in products.figures(plan):
        assert f"figure-{name}" in page.ids
    for name in products.tables(plan):
        assert f"table-{name}" in page.ids
    count = len(products.figures(plan))
    assert page.source.count("<figcaption>") == len(page.all("img")) == count
    assert f"Figure {count}." in page.text and f"Figure {count + 1}." not in page.text
    assert "Complete: every figure, table and record" in page.text


def test_links_of_the_page_stay_in_it_and_lead_somewhere(whole: tuple[Plan, Path, Page]) -> None:
    page = whole[2]
    assert len(page.ids) == len(set(page.ids))
    for given in page.all("a"):
        assert str(given["href"]).startswith("#") and str(given["href"])[1:] in page.ids, given
    outside = re.sub(r"data:image/[^\"]*", "", page.source)
    assert re.search(r"(https?:)?//[a-z]", re.sub(r"<script>.*?</script>", "", outside, flags=re.DOTALL)) is None
    assert not [
        given for tag, given in page.elements if tag in ("link", "iframe", "object") and given.get("href") != "data:,"
    ]
    assert all(str(given["src"]).startswith("data:image/svg+xml;base64,") for given in page.all("img"))


def test_what_tables_say_is_text_and_never_markup(whole: tuple[Plan, Path, Page]) -> None:
    page = whole[2]
    assert not [given for given in page.all("img") if given.get("src") == "x"]
    assert len(page.all("script")) == 2  # the data and the program
    assert not page.all("i") and not page.all("b")
    assert "B <i>x</i>" in page.text and "Two is <b>better</b>." in page.text and HOSTILE in page.text
    assert HOSTILE in {grid["variant"] for grid in page.data()["grids"]}


def test_the_policy_lets_only_the_script_and_style_of_the_page_run(whole: tuple[Plan, Path, Page]) -> None:
    policy = next(str(given["content"]) for given in whole[2].all("meta") if given.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert len(re.findall(r"'sha256-[\w+/]{43}='", policy)) == 2 and "unsafe" not in policy
    assert not [given for _, given in whole[2].elements if "style" in given]


def test_the_explorer_has_every_cell_of_every_seed(whole: tuple[Plan, Path, Page]) -> None:
    data = whole[2].data()
    assert len(data["grids"]) == len(LINES) * (len(SETS) + 1)
    assert data["grids"][0]["set"] == "average" and data["baselines"] == {"sts": ["bert"]}
    for grid in data["grids"]:
        assert (grid["layers"], grid["dims"]) == (list(LAYERS), list(DIMS))
        for seed, rows in grid["seeds"].items():
            for layer, row in zip(LAYERS, rows, strict=True):
                for dim, value in zip(DIMS, row, strict=True):
                    sets = SETS if grid["set"] == "average" else (grid["set"],)
                    scores = [score(grid["method"], grid["variant"], int(seed), one, layer, dim) for one in sets]
                    absent = (grid["method"], layer, dim) == ("bert", 4, 8)
                    assert value is None if absent else value == pytest.approx(sum(scores) / len(scores), abs=1e-7)
    tested = data["tests"]
    assert [test[9:14] for test in tested] == [[2, 8, *INTERVAL, 0.0123]]


def test_verdicts_are_counted_and_shown_with_their_evidence(whole: tuple[Plan, Path, Page]) -> None:
    page = whole[2]
    assert "2 statements of the papers" in page.text
    counts = re.search(r'id="verdict-counts">.*?</table>', page.source, re.DOTALL)
    assert counts
    rows = re.findall(r'<th scope="row">(\w+)</th>((?:<td class="number">\d</td>)+)', counts[0])
    assert {side: re.findall(r">(\d)<", cells) for side, cells in rows} == {
        "published": ["1", "0", "1", "0"],
        "tiny": ["0", "1", "0", "1"],
    }
    assert "Not so: (1, 8) -0.1; (2, 8) -0.2" in page.text
    assert "#figure-sts-panels" in {given["href"] for given in page.all("a")}


def test_provenance_and_cost_are_those_of_the_records(whole: tuple[Plan, Path, Page]) -> None:
    plan, _, page = whole
    assert COMMIT in page.text and "a machine" in page.text and "torch 2.13.0" in page.text
    assert f"{len(plan.runs)} of {len(plan.runs)} runs, made 2026-01-02; seeds 1, 2" in page.text
    assert "triplets, seed 0" in page.text
    cost = re.search(r"task: sts</th>(.*?)</tr>", page.source)
    assert cost
    count = len(plan.runs)
    assert re.findall(r">([^<]+)</td>", cost[1]) == [
        str(count),
        f"{2.0 * count:.1f}",
        f"{3.5 * count:.1f}",
        f"{0.5 * count:.2f}",
    ]


def test_what_is_missing_is_named_in_its_place_with_its_command(tmp_path: Path) -> None:
    plan, root = results(tmp_path)
    gone = [
        "figures/sts-panels.svg",
        "tables/sts-grid.md",
        "tables/claims.csv",
        "tables/cells.parquet",
        "tables/cells.csv",
    ]
    run = plan.runs[0].run_id
    for file in [*gone, f"runs/{run}/run.json", f"evaluation/{run}/evaluation.json"]:
        (root / file).unlink()
    missing = write_report(plan, root, tmp_path / "report.html")
    files = {one.file for one in missing}
    assert files == {*gone[:4], f"runs/{run}/run.json", f"evaluation/{run}/evaluation.json"}
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "6 files are missing" in page.text
    for one in missing:
        assert one.anchor in page.ids
        assert f"snakemake --cores all {root / one.file} --configfile {plan.place}" in page.text
    figure = page.source[page.source.index('id="figure-sts-panels"') :]
    assert figure.index("Missing:") < figure.index("</figure>")
    assert "no run.json" in page.text and "grid-data" not in page.ids


def test_reference_folders_have_their_records_in_two_lists(tmp_path: Path) -> None:
    plan, root = results(tmp_path)
    for kind, listed in (("runs/*/run.json", "runs.json"), ("evaluation/*/evaluation.json", "evaluations.json")):
        paths = sorted(root.glob(kind))
        (root / listed).write_text(json.dumps([json.loads(path.read_text()) for path in paths]), encoding="utf-8")
        for path in paths:
            path.unlink()
    (root / "tables" / "cells.parquet").unlink()  # of which they have the .csv
    assert write_report(plan, root, tmp_path / "report.html") == []


def test_of_svg_and_png_the_smaller_one_is_embedded_at_its_size(tmp_path: Path) -> None:
    (tmp_path / "one.svg").write_text(SVG, encoding="utf-8")
    small = embedding.picture(tmp_path / "one")
    assert small is not None and base64.b64decode(small.uri.partition(",")[2]).decode() == SVG
    assert (small.width, small.height) == (896, 448)  # 7 by 3.5 inches
    (tmp_path / "one.svg").write_text(SVG + " " * 1000, encoding="utf-8")
    from matplotlib.figure import Figure

    Figure(figsize=(0.5, 0.25)).savefig(tmp_path / "one.png", dpi=200)
    picture = embedding.picture(tmp_path / "one")
    assert picture is not None and picture.uri.startswith("data:image/png;base64,")
    assert (picture.width, picture.height) == (64, 32)
    assert embedding.picture(tmp_path / "two") is None


def test_json_in_a_script_element_cannot_end_it() -> None:
    value = {"a": ["</script>", "<!--", "&amp;", "\u2028", "ρ"]}
    text = embedding.as_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028") & set(text) and "ρ" in text
    with pytest.raises(ValueError, match="JSON"):
        embedding.as_json(float("nan"))


def test_markdown_tables_are_sortable_and_links_are_their_text() -> None:
    text = embedding.markdown("| a | b |\n| :-- | --: |\n| **1** | 2 |\n\n[x](http://y.z) ![p](q.png)", 'a "label"')
    assert '<table class="sortable">' in text and '<th scope="col" class="number">b</th>' in text
    assert '<td><strong>1</strong></td><td class="number">2</td>' in text.replace("\n", "")
    assert "http" not in text and "<img" not in text and 'aria-label="a &quot;label&quot;"' in text


def test_kinds_without_texts_of_their_own_still_have_a_title_and_a_group() -> None:
    product = products.Product("new-kind", "sts", "average", "spearman_cosine")
    assert captions.title_of(product, True, {}) == (
        "New kind, mean of the test sets, Spearman's ρ of cosine similarity"
    )
    assert captions.kind_of(product, False).group == captions.GROUPS[-1]
    assert captions.reading_of(product, True, {}) == ""


def test_snakemakes_report_has_the_same_groups_and_equal_labels(whole: tuple[Plan, Path, Page]) -> None:
    plan = whole[0]
    places = [place(plan, name, figure=True) for name in products.figures(plan)]
    places += [place(plan, name, figure=False) for name in products.tables(plan)]
    assert {one.category for one in places} == {"Semantic textual similarity"}
    assert {one.subcategory for one in places} <= set(captions.GROUPS)
    assert {tuple(one.labels) for one in places} == {("kind", "shows", "methods")}


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("tables/cells.csv", "a,b\n1,2\n", "lacks the column"),
        ("tables/claims.csv", "claim,paper\nx,ir\n", "has no column of verdicts"),
        ("tables/claims.csv", "claim,tiny verdict\nx,partly\n", "lacks the column 'paper'"),
        ("figures/sts-panels.svg", "<svg/>", "is no svg picture that says how large it is"),
        ("runs.json", "[{}]", "names no run_id"),
        ("evaluations.json", "[", "is not JSON"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path, file: str, text: str, problem: str) -> None:
    plan, root = results(tmp_path)
    for path in [*root.glob("tables/cells.*"), *root.glob("runs/*/run.json"), *root.glob("evaluation/*/*.json")]:
        path.unlink()
    (root / file).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=problem) as caught:
        write_report(plan, root, tmp_path / "report.html")
    assert file in str(caught.value).replace("runs/*/run.json or ", "") and not (tmp_path / "report.html").exists()


def test_a_number_of_a_table_of_tests_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    plan, root = results(tmp_path)
    tests = pd.read_csv(root / "tables" / "sts-tests.csv", dtype="str").assign(p_holm="much")
    tests.to_csv(root / "tables" / "sts-tests.csv", index=False)
    with pytest.raises(InputError, match=r"sts-tests.csv line 2: a number is not one"):
        write_report(plan, root, tmp_path / "report.html")


def test_the_verb_writes_the_page_and_names_what_is_missing(tmp_path: Path) -> None:
    made, root = results(tmp_path)
    (root / "figures" / "sts-panels.svg").unlink()

    command = [sys.executable, str(ROOT / "workflow" / "run.py"), "report", made.place]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "missing: figures/sts-panels.svg" in result.stdout and (root / "report.html").is_file()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    made = plan(tmp_path)
    with pytest.raises(InputError, match="nowhere is no folder; run the experiment first"):
        write_report(made, tmp_path / "nowhere", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
