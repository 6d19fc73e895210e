"""Claims: every predicate on cells worked out by hand, the published counts, other backbones, and bad entries."""

from __future__ import annotations

import csv
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matryobench.analysis import cells as cells_table
from matryobench.analysis import published
from matryobench.claims import predicates, registry, tables
from matryobench.claims.evaluate import Setting, Verdict, combine, evaluate, evaluate_published
from matryobench.claims.registry import load_claims
from matryobench.claims.selectors import Grids, select
from matryobench.claims.spec import Cells, Claims, Paper
from matryobench.errors import InputError

GRID = {"layers": [1, 2], "dims": [4, 8, 16]}


def frame(values: dict[str, dict[tuple[int, int], float]], **other: Any) -> pd.DataFrame:
    """A cells table from method -> (layer, dim) -> value."""
    row = {
        "experiment": "tiny", "task": "sts", "dataset": "average", "metric": "spearman_cosine", "variant": "paper",
        "recipe": "r", "backend": "native", "seed": 0, "n_items": 1,
    }  # fmt: skip
    rows = [
        {**row, **other, "method": method, "query_layer": la, "layer": la, "dim": d, "value": v, "run_id": method}
        for method, own in values.items()
        for (la, d), v in own.items()
    ]
    return pd.DataFrame(rows)[list(cells_table.COLUMNS)]


def grid_of(rows: list[list[float]]) -> dict[tuple[int, int], float]:
    """Values of layers x dims of GRID from nested lists."""
    return {(la, d): v for la, row in enumerate(rows, 1) for d, v in zip(GRID["dims"], row, strict=True)}


def claims_of(*checks: dict[str, Any], **other: Any) -> Claims:
    claim = {
        "paper": "p", "section": "1", "statement": "s", "task": "sts", "dataset": "average",
        "metric": "spearman_cosine", "figure": "f-{dataset}", "checks": list(checks), **other,
    }  # fmt: skip
    sizes = {"Small": [1, 4], "Large": [2, 16]}
    paper = {"title": "T", "source": "s", "grid": GRID, "sizes": sizes}
    return Claims.model_validate({"papers": {"p": paper}, "claims": {"c": claim}})


def verdict(check: dict[str, Any], values: dict[str, Any], setting: Setting | None = None, **other: Any) -> Verdict:
    return evaluate(claims_of(check, **other), frame(values), setting)[0]


A = {"mse": grid_of([[0.2, 0.3, 0.4], [0.5, 0.6, 0.7]]), "bert": grid_of([[0.1, 0.3, 0.5], [0.4, 0.5, 0.6]])}
COMPARE = {"kind": "compare", "method": "mse", "against": ["bert"], "direction": "above"}


# --- predicates on cells worked out by hand


def test_compare_counts_cells_and_names_those_that_fail() -> None:
    found = verdict(COMPARE, A)
    assert found.verdict == "partly" and found.counts == "4/6 cells"  # (1, 8) ties, (1, 16) is below
    assert [text.split(" ", 2)[:2] for text in found.failing] == [["(1,", "8)"], ["(1,", "16)"]]
    assert "above in 4, equal in 1, below in 1 of 6 cells, mean 0.4500 against 0.4000" in found.evidence
    assert found.figure == "f-average"


@pytest.mark.parametrize(
    ("direction", "margin", "agree"),
    [("above", 0.1, 0), ("above", 0.099, 4), ("below", 0, 1), ("equal", 0, 1), ("equal", 0.1, 6), ("not-above", 0, 2),
     ("not-below", 0, 5), ("not-below", 0.1, 6)],
)  # fmt: skip
def test_directions_and_margins(direction: str, margin: float, agree: int) -> None:
    found = verdict({**COMPARE, "direction": direction, "margin": margin}, A)
    assert found.outcomes[0].agree == agree


def test_exceptions_turn_the_expected_sign_and_several_baselines_must_all_be_met() -> None:
    exceptions = [
        {"cells": {"pairs": [[1, 16]]}, "direction": "below"},
        {"cells": {"layers": [1]}, "direction": "equal"},
    ]
    found = verdict({**COMPARE, "exceptions": exceptions}, A)
    assert found.counts == "5/6 cells" and found.failing[0].startswith("(1, 4)")
    low = grid_of([[0.0] * 3, [0.0, 0.9, 0.0]])
    found = verdict({**COMPARE, "against": ["bert", "bert-s"]}, {**A, "bert-s": low})
    assert found.counts == "3/6 cells" and "against bert-s (r, paper): above in 5" in found.evidence


def test_rule_sets_the_verdict() -> None:
    for rule, wanted in (({"reproduced": 0.66}, "reproduced"), ({}, "partly"), ({"partly": 0.7}, "not reproduced")):
        assert verdict({**COMPARE, "rule": rule}, A).verdict == wanted


def test_best_is_strict_and_counts_ties_apart() -> None:
    found = verdict({"kind": "best", "method": "mse", "among": ["bert"]}, A)
    assert found.counts == "4/6 cells" and "(1 more tied)" in found.evidence


def test_mean_and_order() -> None:
    mean = {"kind": "mean", "method": "mse", "against": ["bert"], "direction": "above", "cells": {"layers": [1]}}
    assert verdict(mean, A).verdict == "not reproduced"  # .3 and .3
    assert verdict({**mean, "direction": "equal"}, A).verdict == "reproduced"
    low = dict.fromkeys(A["mse"], 0.01)
    order = {"kind": "order", "ascending": ["bert-s", "bert", "mse"]}
    assert verdict(order, {**A, "bert-s": low}).counts == "2/2 pairs"
    assert verdict({**order, "ascending": ["mse", "bert-s", "bert"]}, {**A, "bert-s": low}).counts == "1/2 pairs"


def test_minus_compares_gaps() -> None:
    gap = {"method": "mse", "minus": "bert"}
    check = {"kind": "mean", "method": gap, "against": [{"method": "bert", "minus": "mse"}], "direction": "above"}
    found = verdict(check, A)
    assert found.verdict == "reproduced" and "0.0500" in found.evidence and "-0.0500" in found.evidence


def test_trend_looks_at_steps_and_counts_lines() -> None:
    values = {"mse": grid_of([[0.2, 0.1, 0.3], [0.2, 0.3, 0.4]])}
    found = verdict({"kind": "trend", "method": "mse", "along": "dims", "least": 0.0}, values)
    assert found.counts == "1/2 layers" and found.failing == ("(1, 4) to (1, 8) -0.1000",)
    steep = {"kind": "trend", "method": "mse", "along": "dims", "most": 0.3, "relative": True}
    assert verdict({**steep, "cells": {"layers": [2]}}, values).verdict == "not reproduced"  # (.3 - .2) / .3
    assert verdict({**steep, "cells": {"layers": [2], "dims": [8, 16]}}, values).verdict == "reproduced"
    assert verdict({"kind": "trend", "method": "mse", "along": "layers", "least": 0.0}, values).counts == "3/3 dims"
    alone = verdict({**steep, "cells": {"dims": [8]}}, values)
    assert alone.verdict == "cannot be tested here" and "no two dims" in alone.evidence


def test_dip_is_below_both_neighbours() -> None:
    values = {"mse": grid_of([[0.3, 0.1, 0.2], [0.1, 0.2, 0.3]])}
    dip = {"kind": "dip", "method": "mse", "cells": {"dims": [8]}}
    assert verdict({**dip, "margin": 0.05}, values).failing == ("layer 2: 0.1000 @4, 0.2000 @8, 0.3000 @16",)
    assert verdict({**dip, "margin": 0.1}, values).counts == "0/2 layers"  # (1, 8) is below 16's by .1, not by more
    assert verdict({**dip, "margin": 0.1, "present": False}, values).verdict == "reproduced"
    edge = verdict({"kind": "dip", "method": "mse", "cells": {"dims": [16]}}, values)
    assert edge.verdict == "cannot be tested here"


def test_outliers_fall_short_of_a_smaller_cell_and_must_be_the_expected_ones() -> None:
    values = {"mse": grid_of([[0.5, 0.1, 0.45], [0.2, 0.6, 0.7]])}
    check = {"kind": "outliers", "methods": ["mse"], "margin": 0.2, "expected": {"mse": [[1, 8], [2, 16]]}}
    found = verdict(check, values)  # (1, 8) and (2, 4) are .4 and .3 below (1, 4); (2, 16) is the best of all
    assert found.counts == "1/3 cells"
    assert found.failing[0] == "mse (2, 16) is no outlier" and found.failing[1].startswith("mse (2, 4) 0.2000")


@given(st.floats(-1, 1), st.floats(0, 0.2))
def test_directions_divide_the_line(difference: float, margin: float) -> None:
    held = {name: predicates.holds(difference, name, margin) for name in predicates._SIGNS}
    assert held["above"] != held["not-above"] and held["below"] != held["not-below"]
    assert held["above"] + held["equal"] + held["below"] == 1
    assert held["equal"] == (held["not-above"] and held["not-below"])


@settings(max_examples=10)
@given(st.permutations(range(18)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    rows = frame({**A, "bert-s": dict.fromkeys(A["mse"], 0.45)})
    claims = claims_of({**COMPARE, "against": ["bert", "bert-s"]}, {"kind": "best", "method": "mse", "among": ["bert"]})
    assert evaluate(claims, rows.iloc[order].reset_index(drop=True)) == evaluate(claims, rows)


# --- what can be tested, and how claims are put together


def test_what_is_missing_is_the_reason() -> None:
    def reason(check: dict[str, Any], **other: Any) -> str:
        found = verdict(check, A, **other)
        assert found.verdict == "cannot be tested here" and not found.outcomes
        return found.evidence

    assert "method bert-s was not run" in reason({**COMPARE, "against": ["bert-s"]})
    assert "recipe v1 was not run" in reason(COMPARE, recipes=["v1"])
    assert "test set stsb was not evaluated" in reason(COMPARE, dataset="stsb")
    assert "task retrieval was not run" in reason(COMPARE, task="retrieval")
    assert "metric accuracy was not computed" in reason(COMPARE, metric="accuracy")
    assert "variant released of mse" in reason({**COMPARE, "method": {"method": "mse", "variants": ["released"]}})


def test_several_predicates_must_agree_and_untested_ones_leave_partly() -> None:
    assert combine(["reproduced", "reproduced"], False) == "reproduced"
    assert combine(["reproduced", "not reproduced"], False) == "partly"
    assert combine(["reproduced"], True) == "partly"
    assert combine(["not reproduced"], True) == "not reproduced"
    assert combine([], True) == "cannot be tested here"


def test_few_of_the_claimed_cells_are_partly_at_best() -> None:
    some = {"mse": A["mse"], "bert": dict.fromkeys([(1, 4), (2, 16)], -1.0)}
    found = verdict(COMPARE, some)
    assert found.counts == "2/2 cells" and found.verdict == "partly"
    assert "only 2 of 6 such cells were run; too few" in found.evidence
    half = {"mse": A["mse"], "bert": dict.fromkeys([(1, 4), (2, 16), (2, 4)], -1.0)}
    assert verdict(COMPARE, half).verdict == "reproduced"


def test_the_recipe_is_the_claims_or_the_one_that_all_methods_share() -> None:
    both = pd.concat([
        frame({"mse": A["mse"]}, recipe="b"), frame({"mse": A["bert"], "bert": A["mse"]}, recipe="c"),
        frame({"mse": {(1, 4): 1.0}, "bert": {(1, 4): 0.0}}, recipe="a"),
    ])  # fmt: skip
    found = evaluate(claims_of(COMPARE), both)[0]
    assert "mse (c, paper)" in found.evidence and found.counts == "1/6 cells"
    assert evaluate(claims_of(COMPARE, recipes=["x", "a"]), both)[0].counts == "1/1 cells"
    assert "bert was not run with recipe b" in evaluate(claims_of(COMPARE, recipes=["b"]), both)[0].evidence
    across = {
        **COMPARE,
        "method": {"method": "mse", "recipes": ["b"]},
        "against": [{"method": "bert", "recipes": ["c"]}],
    }
    assert evaluate(claims_of(across), both)[0].outcomes[0].agree == 0


def test_the_variant_is_named_chosen_or_the_default_and_seeds_are_averaged() -> None:
    rows = pd.concat([
        frame({"srl": dict.fromkeys(A["mse"], 1.0)}, variant="paper"),
        frame({"srl": dict.fromkeys(A["mse"], 0.0)}, variant="released"),  # srl's default for sts
        frame({"bert": dict.fromkeys(A["mse"], 0.4)}, seed=0), frame({"bert": dict.fromkeys(A["mse"], 0.6)}, seed=1),
    ])  # fmt: skip
    check = {"kind": "mean", "method": "srl", "against": ["bert"], "direction": "above"}
    default = evaluate(claims_of(check), rows)[0]
    assert default.verdict == "not reproduced" and "bert (r, paper) 0.5000" in default.evidence
    assert evaluate(claims_of(check), rows, Setting(variants={"srl": "paper"}))[0].verdict == "reproduced"
    named = {**check, "method": {"method": "srl", "variants": ["nope", "paper"]}}
    assert evaluate(claims_of(named), rows, Setting(variants={"srl": "released"}))[0].verdict == "reproduced"


def test_other_backends_do_not_count_and_bad_tables_are_refused() -> None:
    other = frame(A, backend="sentence-transformers")
    assert evaluate(claims_of(COMPARE), other)[0].verdict == "cannot be tested here"
    with pytest.raises(InputError, match="lacks the column"):
        evaluate(claims_of(COMPARE), frame(A).drop(columns="seed"))


def test_a_stand_in_is_used_only_where_the_test_set_is_missing_and_is_said() -> None:
    setting = Setting(stand_ins={"stsb": "average"})
    found = verdict(COMPARE, A, setting, dataset="stsb")
    assert found.counts == "4/6 cells" and "average stands in for stsb" in found.evidence
    assert found.figure == "f-average"
    assert "stands in" not in verdict(COMPARE, A, Setting(stand_ins={"average": "stsb"})).evidence


def test_an_average_over_sets_of_ones_own_is_said() -> None:
    own = {("sts", "spearman_cosine"): ["demo-a", "demo-b"]}
    assert "The average is over demo-a, demo-b" in verdict(COMPARE, A, Setting(averages=own)).evidence
    assert "average is over" not in verdict(COMPARE, A).evidence


# --- cells on other backbones

PAPER = Paper.model_validate({
    "title": "T", "source": "s", "sizes": {"Demi": [2, 32], "Trenta": [12, 768]},
    "grid": {"layers": [2, 4, 6, 8, 10, 12], "dims": [8, 16, 32, 64, 128, 256, 512, 768]},
})  # fmt: skip


def on(layers: int, width: int, dims: list[int], sizes: Any = None) -> Grids:
    held = frozenset((la, d) for la in range(1, layers + 1) for d in dims)
    return Grids(PAPER, held, (layers, width), sizes)


MINILM = on(6, 384, [8, 16, 32, 64, 128, 256, 384])
DEMO = on(4, 64, [8, 16, 32, 64])


@pytest.mark.parametrize(
    ("cells", "grids", "wanted"),
    [
        ({"pairs": [[2, 32], [12, 768]]}, MINILM, [(1, 16), (6, 384)]),
        ({"layers": [8, 10], "dims": [512]}, MINILM, [(4, 256), (5, 256)]),  # both a third below the full width
        ({"layers": [8, 10], "dims": [512]}, DEMO, [(3, 32)]),
        ({"layers": "last", "dims": ">=128"}, DEMO, [(4, 16), (4, 32), (4, 64)]),  # d/H >= 1/6
        ({"layers": "<=6", "dims": "last"}, MINILM, [(1, 384), (2, 384), (3, 384)]),
        ({"layers": [2], "dims": "<=32"}, MINILM, [(1, 8), (1, 16)]),
        ({"layers": [2], "dims": "<32"}, MINILM, [(1, 8)]),
        ({"layers": "last", "dims": [8]}, MINILM, []),  # 1/96 of the width: half of the smallest dim
        ({"layers": "last", "dims": [8], "match": "absolute"}, MINILM, [(6, 8)]),
        ({"layers": [8], "dims": "last", "match": "absolute"}, MINILM, []),
    ],
)  # fmt: skip
def test_cells_mean_the_same_relative_depth_and_width(cells: Any, grids: Grids, wanted: list[Any]) -> None:
    found = select(Cells.model_validate(cells), grids)
    assert list(found.cells) == wanted


def test_numbers_mean_themselves_on_the_papers_backbone() -> None:
    same = on(12, 768, PAPER.grid.dims)
    assert select(Cells(layers=[7], dims=[8]), same).cells == ((7, 8),)
    assert len(select(Cells(layers="below-last", dims="below-last"), same).cells) == 11 * 7
    short = on(6, 768, PAPER.grid.dims)
    lower = Grids(PAPER, short.cells, (12, 768))  # only the lower half was evaluated: its last layer is not the last
    assert select(Cells(layers="last"), lower).cells == ()


def test_sizes_are_the_named_ones_or_those_at_the_same_place() -> None:
    chosen = Cells(sizes=["Demi", "Trenta"])
    assert select(chosen, MINILM).cells == ((1, 16), (6, 384))
    own = on(4, 64, [8, 16, 32, 64], {"Demi": (2, 8)})
    found = select(chosen, own)
    assert found.cells == ((2, 8),) and found.unmatched == ("Trenta",)


def test_reduced_grids_say_how_cells_were_found() -> None:
    check = {**COMPARE, "cells": {"layers": [1]}}
    assert "relative depth and width" in verdict(check, A, Setting(shape=(4, 16))).evidence
    assert "relative" not in verdict(check, A).evidence


# --- the shipped claims on the published numbers


@pytest.fixture(scope="module")
def shipped() -> Claims:
    return load_claims()


@pytest.fixture(scope="module")
def on_published(shipped: Claims) -> dict[str, Verdict]:
    frames = {name: published.load(name) for name in published.EXPERIMENTS}
    return {one.claim: one for one in evaluate_published(shipped, frames)}


@pytest.mark.parametrize(
    ("claim", "wanted", "counts"),
    [
        ("rq1-v1-above-mse", "partly", "39/40 cells"),
        ("rq1-v2-above-mse", "reproduced", "40/40 cells"),
        ("rq1-v1-above-separate-when-small", "reproduced", "3/3 cells"),
        ("rq1-v1-above-separate-only-there", "reproduced", "48/48 cells"),
        ("rq1-v2-below-separate", "reproduced", "48/48 cells"),
        ("rq1-bert-is-bert-s-v1", "reproduced", "8/8 cells"),
        ("rq1-bert-is-bert-s-v2", "reproduced", "8/8 cells"),
        ("rq1-separate-best-v1", "reproduced", "36/48 cells"),
        ("rq1-separate-best-v2", "reproduced", "40/48 cells"),
        ("rq1-v2-above-v1", "reproduced", "27/40 cells"),
        ("rq2-msmarco-below-separate", "reproduced", "40/40 cells, 8/8 cells"),
        ("rq2-msmarco-separate-best", "reproduced", "47/48 cells"),
        ("rq2-msmarco-above-mse-and-bert", "partly", "35/40 cells"),  # the others tie at widths 8 and 16, near 0
        ("rq3-2dmse-dip", "reproduced", "2/2 layers, 4/4 layers"),
        ("rq3-full-dim-no-dip", "reproduced", "2/2 layers"),
        ("rq3-full-dim-better-wide", "partly", "1/1 means, 12/24 cells"),
        ("rq3-dims-up-narrow", "reproduced", "1/1 means, 18/18 cells"),
        ("rq3-dims-down-wide", "reproduced", "1/1 means, 20/24 cells"),
        ("rq3-dims-more-narrow", "reproduced", "3/3 pairs"),
        ("rq3-dims-more-wide", "partly", "2/3 pairs"),
        ("rq4-fix-doc-better-deep", "partly", "1/1 means, 1/1 means, 5/8 cells"),
        ("starbucks-quora-outliers", "reproduced", "4/4 cells"),
        ("starbucks-smae-helps-sts", "partly", "5/6 cells"),
        ("lowcost-penalty-curve", "cannot be tested here", ""),
    ],
)
def test_published_numbers_give_the_known_counts(
    on_published: dict[str, Verdict], claim: str, wanted: str, counts: str
) -> None:
    assert (on_published[claim].verdict, on_published[claim].counts) == (wanted, counts)


def test_published_cells_that_fail_are_the_known_ones(on_published: dict[str, Verdict]) -> None:
    def failing(claim: str) -> list[str]:
        return [text[: text.index(")") + 1] for text in on_published[claim].failing]

    assert failing("rq1-v1-above-mse") == ["(10, 512)"]  # a tie in the printed decimals
    seven = ["(2, 8)", "(4, 8)", "(6, 8)", "(10, 8)", "(12, 8)", "(12, 16)", "(12, 32)"]
    assert failing("abstract-v1-not-above-separate") == seven
    assert failing("abstract-v2-not-above-separate") == ["(12, 64)", "(12, 128)", "(12, 256)"]
    assert failing("rq3-dims-down-wide") == ["(8, 512)", "(8, 768)", "(10, 512)", "(10, 768)"]
    quora = on_published["starbucks-quora-outliers"].evidence
    for cell in ("2dmse (8, 256)", "2dmse (10, 512)", "srl (12, 768)", "starbucks (10, 512)"):
        assert cell in quora
    bands = on_published["rq3-dims-up-narrow"].evidence + on_published["rq3-dims-down-wide"].evidence
    assert "0.0938" in bands and "0.0037" in bands and "0.2302" in bands and "0.2726" in bands


def test_every_published_claim_is_testable_and_only_aims_lack_numbers(
    shipped: Claims, on_published: dict[str, Verdict]
) -> None:
    for name, claim in shipped.claims.items():
        assert (claim.published is None) == (claim.origin == "aim"), name
        assert (on_published[name].verdict == predicates.UNTESTED) == (claim.published is None), name
        assert on_published[name].matching == "" and not (claim.published and on_published[name].untested), name


def test_claims_are_documented_sentences(shipped: Claims) -> None:
    statements = [claim.statement for claim in shipped.claims.values()]
    assert len(statements) >= 30 and len(set(statements)) == len(statements)
    assert all(text.endswith(".") for text in statements)
    assert {claim.paper for claim in shipped.claims.values()} == set(shipped.papers)
    page = (Path(registry.__file__).parents[3] / "docs" / "claims.md").read_text(encoding="utf-8")
    for kind in ("compare", "best", "mean", "order", "trend", "dip", "outliers"):
        assert f"`{kind}`" in page, kind


def test_an_absent_published_table_is_a_reason(shipped: Claims) -> None:
    found = evaluate_published(shipped, {})
    assert {one.verdict for one in found} == {predicates.UNTESTED}
    assert "the published table sts is not there" in found[0].evidence


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
    assert r"a <b> \| c & d" in markdown and "**partly** 4/6 cells" in markdown
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
