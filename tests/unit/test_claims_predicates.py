"""Verdicts on claims: predicates, rules, what is missing, recipes and variants."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from claims_cases import COMPARE, A, claims_of, frame, grid_of, verdict
from hypothesis import given, settings
from hypothesis import strategies as st

from matryobench.claims import predicates
from matryobench.claims.evaluate import Setting, combine, evaluate
from matryobench.errors import InputError

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
