"""Tables of verdicts, and what claims.yaml may say."""

from __future__ import annotations

import csv
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from claims_cases import COMPARE, GRID, A, claims_of, frame

from matryobench.claims import registry, tables
from matryobench.claims.evaluate import Verdict, evaluate
from matryobench.claims.registry import load_claims
from matryobench.errors import InputError

# --- tables


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.rows: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        named = dict(attrs)
        self.links += [named["href"] or ""] if "href" in named else []
        self.rows += [named["id"] or ""] if tag == "tr" and "id" in named else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_tables_show_both_sides_with_links(tmp_path: Path) -> None:
    claims = claims_of(COMPARE, statement="a <b> | c & d", reading="as is")
    ours, theirs = evaluate(claims, frame(A)), [Verdict("c", "cannot be tested here", untested=("no numbers",))]
    sides = [tables.Side("published", theirs), tables.Side("ours", ours, {"f-average": "figures/f.svg"})]
    paths = tables.write(claims, sides, tmp_path / "claims")
    assert [path.name for path in paths] == ["claims.csv", "claims.md", "claims.html"]
    row = next(csv.DictReader(paths[0].read_text(encoding="utf-8").splitlines()))
    assert row["statement"] == "a <b> | c & d" and row["ours verdict"] == "partly"
    assert row["ours counts"] == "4/6 cells" and row["published evidence"] == "not tested: no numbers"
    assert row["ours figure"] == "figures/f.svg" and row["published figure"] == ""
    markdown = paths[1].read_text(encoding="utf-8")
    assert "| ours | 0 | 1 | 0 | 0 |" in markdown.replace("**", "") and "[ours](figures/f.svg)" in markdown
    assert r"a &lt;b> \| c & d" in markdown and "**partly** 4/6 cells" in markdown
    reader = _Reader()
    reader.feed(paths[2].read_text(encoding="utf-8"))
    assert reader.open == [] and reader.links == ["figures/f.svg"] and reader.rows == ["claim-c"]
    assert "a &lt;b&gt; | c &amp; d" in paths[2].read_text(encoding="utf-8")


def test_long_lists_of_failing_cells_are_cut_in_print_but_not_in_csv(tmp_path: Path) -> None:
    many = {(la, d): 0.0 for la in range(1, 8) for d in GRID["dims"]}
    claims = claims_of(COMPARE)
    sides = [tables.Side("ours", evaluate(claims, frame({"mse": many, "bert": dict.fromkeys(many, 1.0)})))]
    assert "and 9 more" in tables.to_md(claims, sides) and "and 9 more" not in tables.to_csv(claims, sides)
    assert tables.to_csv(claims, sides).count(" vs ") == 21


# --- bad entries

GOOD = """
papers:
  p:
    title: T
    source: s
    grid: {layers: [2, 12], dims: [8, 768]}
    sizes: {Demi: [2, 8]}
claims:
  one:
    paper: p
    section: "1"
    statement: It is so.
    task: sts
    dataset: average
    metric: spearman_cosine
    figure: sts-panels
    checks:
      - {kind: compare, method: mse, against: [bert], direction: above, cells: {layers: [2]}}
"""


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("method: mse", "method: mze", ["unknown method 'mze'", "did you mean mse"]),
        ("method: mse", "method: {method: mse, variants: [v9]}", ["unknown variant of mse 'v9'"]),
        ("layers: [2]", "layers: [3]", ["layer 3 is not on the paper's grid", "2, 12"]),
        ("layers: [2]", "pairs: [[2, 9]]", ["cell (2, 9) is not on the paper's grid"]),
        ("layers: [2]", "sizes: [Dmi]", ["unknown size 'Dmi'", "did you mean Demi"]),
        ("layers: [2]", "layers: lst", ["checks.0.compare.cells.layers", "all, last, below-last"]),
        ("layers: [2]", "layers: [2], sizes: [Demi]", ["not several of them"]),
        ("kind: compare", "kind: comparison", ["comparison", "'compare'"]),
        ("direction: above", "direction: over", ["checks.0.compare.direction", "'over'"]),
        ("direction: above", "direction: above, margn: 1", ["unknown key 'checks.0.compare.margn'"]),
        ("dataset: average", "dataset: stsx", ["unknown data set 'stsx'", "stsb"]),
        ("metric: spearman_cosine", "metric: pearson", ["'metric'", "'pearson'"]),
        ("    paper: p", "    paper: q", ["unknown paper 'q'"]),
        ("    section: \"1\"\n", "", ["key 'section' is missing"]),
        ("{layers: [2]}}", "{layers: [2]}, rule: {reproduced: 0.4}}", ["'partly' is above 'reproduced'"]),
        ("{layers: [2]}}", "{layers: [2]}, exceptions: [{cells: {dims: [9]}, direction: below}]}", ["dim 9 is not on"]),
    ],
)  # fmt: skip
def test_bad_entries_are_one_sentence(tmp_path: Path, old: str, new: str, parts: list[str]) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert list(load_claims(path).claims) == ["one"]
    assert GOOD.count(old) == 1
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_claims(bad)
    message = str(caught.value)
    assert message.startswith(f"{bad}: claim 'one'") and "\n" not in message and message.endswith((".", "?"))
    for part in parts:
        assert part in message, message


def test_predicates_with_contradictory_settings_are_refused() -> None:
    for check, part in (
        ({"kind": "trend", "method": "mse", "along": "dims"}, "give 'least', 'most' or both"),
        ({"kind": "dip", "method": "mse"}, "the one dim of the dip"),
        ({"kind": "outliers", "methods": ["mse"], "margin": 0.1, "expected": {"bert": [[1, 4]]}}, "not in 'methods'"),
    ):
        with pytest.raises(ValueError, match=part):
            claims_of(check)


def test_reading_the_claims_needs_no_pandas() -> None:
    code = (
        "import sys; from matryobench.claims.registry import load_claims; load_claims();"
        "print([name for name in ('torch', 'pandas', 'mteb', 'numpy') if name in sys.modules])"
    )
    folder = str(Path(registry.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": folder}
    )
    assert done.stdout.strip() == "[]"
