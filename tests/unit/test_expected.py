"""Anchors: values that a config expects, refused where the experiment cannot have them and compared with a cells table."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from matryobench import expected
from matryobench.analysis import published
from matryobench.errors import InputError
from matryobench.validation import parse

BERT: dict[str, Any] = {
    "task": "sts", "dataset": "average", "metric": "spearman_cosine", "method": "bert", "recipe": "v1", "layer": 12,
    "dim": 768, "value": 0.816, "tolerance": 0.01, "source": "arXiv 2411.17299, figure 1",
}  # fmt: skip


def anchor(**changes: Any) -> expected.Anchor:
    return parse(expected.Anchor, {**BERT, **changes}, "demo.yaml")


def task() -> Any:
    runs = [
        SimpleNamespace(method="bert", variants=[], recipes=[], backends=["native"]),
        SimpleNamespace(method="mse", variants=["v1"], recipes=["v1"], backends=["native"]),
        SimpleNamespace(method="srl", variants=[], recipes=[], backends=["tevatron"]),
    ]
    grid = SimpleNamespace(layers=[2, 12], dims=[8, 768])
    return {"sts": SimpleNamespace(sets=["stsb"], recipes={"v1": 0, "v2": 0}, runs=runs, grid=grid)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "retrieval"}, r"unknown task 'retrieval'; .*valid names are: sts"),
        ({"dataset": "stb"}, "unknown dataset 'stb'; did you mean stsb"),
        ({"recipe": "v3"}, "unknown recipe 'v3'"),
        ({"method": "mse", "recipe": "v2"}, "unknown method 'mse'"),  # mse is run with v1 only
        ({"method": "srl"}, "unknown method 'srl'"),  # not by this program
        ({"method": "mse", "variant": "v2"}, "unknown variant of mse 'v2'"),
        ({"layer": 6}, "layer 6 is not on the grid of sts; use one of 2, 12"),
        ({"dim": 64}, "dim 64 is not on the grid of sts; use one of 8, 768"),
    ],
)
def test_an_anchor_that_the_experiment_cannot_have_is_refused(changes: dict[str, Any], message: str) -> None:
    expected.check([anchor(), anchor(method="mse", variant="v1"), anchor(dataset="stsb")], task(), "demo.yaml")
    with pytest.raises(InputError, match=rf"demo\.yaml: expected\.1: {message}"):
        expected.check([anchor(), anchor(**changes)], task(), "demo.yaml")


def test_an_anchor_stands_once() -> None:
    with pytest.raises(InputError, match=r"expected\.1: average spearman_cosine of bert, recipe v1, at layer 12"):
        expected.check([anchor(), anchor(value=0.8)], task(), "demo.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tolerance": 0}, "'tolerance': input should be greater than 0"),
        ({"value": float("nan")}, "'value': input should be a finite number"),
        ({"dim": 0}, "'dim': input should be greater than 0"),
        ({"source": ""}, "'source'"),
        ({"valu": 1}, "unknown key 'valu'"),
    ],
)
def test_bad_entries_are_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        anchor(**changes)


def test_each_variant_is_compared_by_its_mean_over_seeds() -> None:
    row = published.load("sts").query("recipe == 'v1' and method == 'bert' and layer == 12 and dim == 768")
    frame = pd.concat([
        row.assign(variant="a", seed=1, value=0.80), row.assign(variant="a", seed=2, value=0.812),
        row.assign(variant="b", value=0.827), row.assign(variant="c", value=0.9, backend="sentence-transformers"),
    ])  # fmt: skip
    wanted = [anchor(), anchor(variant="c"), anchor(variant="b", tolerance=0.02)]
    outcomes = expected.compare(frame, wanted)
    found = [(one.variant, one.verdict, one.seeds) for one in outcomes]
    assert found == [("a", "within", 2), ("b", "outside", 1), ("c", "missing", 0), ("b", "within", 1)]
    assert outcomes[0].difference == pytest.approx(-0.01) and outcomes[2].difference is None
    assert expected.sentence(outcomes[0]) == (
        "average spearman_cosine of bert, recipe v1, at layer 12, dim 768: expected 0.8160 ± 0.01 (arXiv 2411.17299, "
        "figure 1), found 0.8060 by a, within."
    )
    assert expected.sentence(outcomes[2]).endswith("figure 1), not evaluated.")


def test_the_published_numbers_meet_anchors_made_of_them() -> None:
    frame = published.load("retrieval")
    rows = frame[frame["method"] == "fix-doc"]
    made = [
        anchor(task="retrieval", dataset=row["dataset"], metric=row["metric"], method="fix-doc", recipe="marco",
               layer=row["query_layer"], dim=row["dim"], value=row["value"], tolerance=1e-9)
        for _, row in rows.iterrows()
    ]  # fmt: skip
    assert [one.verdict for one in expected.compare(frame, made)] == ["within"] * 48


def test_reading_a_config_with_anchors_needs_no_heavy_library() -> None:
    code = "import sys, matryobench.expected; print(*({'pandas', 'torch', 'numpy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
