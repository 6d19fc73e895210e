"""Which figures and tables an experiment has, and what those beside published numbers and expected values show."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_plan import config

from matryobench import evidence, expected, products, reports
from matryobench.analysis import cells, published
from matryobench.config import Experiment
from matryobench.dag import Dag
from matryobench.errors import InputError
from matryobench.paths import CONFIG
from matryobench.plan import Plan
from matryobench.published.comparable import COMPARABLE
from matryobench.published_figures import draw_published
from matryobench.validation import read_yaml

SEVEN = ["sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sick-r"]


def planned(published: str | None, sets: list[str], **sections: Any) -> Plan:
    settings = deepcopy(config())
    settings["sts"] |= {"evaluate": sets, "published": published}
    return Plan(Experiment.model_validate(settings | sections), "try.yaml")


def test_what_is_comparable_is_what_the_csv_files_have() -> None:
    for name, known in COMPARABLE.items():
        frame = published.load(name)
        for (task, dataset, metric), methods in known.shown.items():
            own = frame[(frame["task"] == task) & (frame["dataset"] == dataset) & (frame["metric"] == metric)]
            assert set(own["method"]) == set(methods), (name, dataset)
        single = set(frame.loc[frame["dataset"] != "average", "dataset"])
        for task, sets in known.averages.items():
            if name == "starbucks":  # the only one whose single sets were published
                assert set(sets) <= single, task
        assert not known.recipes or set(known.recipes) == set(frame["recipe"])
        cells_of_a_line = frame.groupby(["task", "dataset", "metric", "method", "variant", "recipe"]).size()
        assert set(cells_of_a_line) == ({48} if known.grid else {6})


@pytest.mark.parametrize(("name", "source"), [("sts", "sts"), ("retrieval", "retrieval"), ("starbucks", "starbucks")])
def test_the_full_experiments_expect_the_published_numbers(name: str, source: str) -> None:
    anchors = Plan.load(CONFIG / f"{name}.yaml").experiment.expected
    frame = published.load(source).assign(backend="native")
    renamed = frame["recipe"].replace("starbucks", "marco").where(frame["task"] == "retrieval", frame["recipe"])
    frame = frame.assign(recipe=renamed.replace("starbucks", "nli"))
    assert len(anchors) >= 6
    for anchor in anchors:
        (outcome,) = expected.compare(frame, [anchor.model_copy(update={"variant": None})])
        assert outcome.found == pytest.approx(anchor.value, abs=1e-9), anchor.name()


def test_beside_published_numbers_stand_those_over_the_same_sets() -> None:
    plan = planned("sts", SEVEN)
    assert {"sts-published-panels", "sts-published-heatmaps", "sts-coverage"} <= set(products.figures(plan))
    assert products.figures(plan)["sts-coverage"].needs == ("coverage.csv",)
    assert "sts-agreement" in products.tables(plan)
    assert "sts-agreement" not in products.tables(planned(None, SEVEN))
    with pytest.raises(InputError, match=r"try.yaml: sts.published: the numbers of 'sts' have none of this task's"):
        planned("sts", SEVEN[:6])
    with pytest.raises(InputError, match="sts.published: the numbers of 'retrieval'"):
        planned("retrieval", SEVEN)
    full = products.figures(Plan.load(CONFIG / "retrieval.yaml"))
    beside = {name for name in full if "published" in name}
    assert beside == {
        *(f"retrieval-published-panels-{name}-msmarco-dev" for name in ("methods", "losses", "documents")),
        *(f"retrieval-published-panels-{name}-average" for name in ("methods", "losses", "documents")),
        *(f"retrieval-published-heatmaps-{name}" for name in ("msmarco-dev", "average")),
    }


def test_methods_are_tested_against_the_baselines_that_are_run_beside_them() -> None:
    runs = [
        {"method": "bert"},
        {"method": "srl", "variants": ["paper", "released"]},
        {"method": "bert-s", "cells": [[1, 8]]},
    ]
    settings = deepcopy(config())
    settings["sts"] |= {"runs": runs, "baselines": ["srl", "mse", "bert"]}
    plan = Plan(Experiment.model_validate(settings), "try.yaml")
    assert products.tested_against(plan, "sts") == ["srl", "bert"]
    assert products.tables(plan)["sts-tests"].needs == ("sts-grid-tests.parquet",)
    settings["sts"] |= {"runs": [{"method": "bert"}]}
    alone = Plan(Experiment.model_validate(settings), "try.yaml")
    assert products.tested_against(alone, "sts") == [] and "sts-tests" not in products.tables(alone)
    assert "sts-differences-bert" in products.figures(plan) and "sts-differences-bert" not in products.figures(alone)
    with pytest.raises(InputError, match="sts runs none of its baselines beside another method"):
        evidence.write_grid_tests(alone, "sts", Path("cells.parquet"), [], Path(), Path("tests.parquet"))


def test_what_products_are_made_from_is_made_even_where_the_products_are_there() -> None:
    targets = Dag(read_yaml(CONFIG / "demo.yaml"), ["demo.yaml"]).targets()
    for name in ("coverage.csv", "sts-grid-tests.parquet", "retrieval-significance.parquet", "deployment.parquet"):
        assert f"results/demo/tables/{name}" in targets


def test_a_table_of_the_published_values_agrees_with_them(tmp_path: Path) -> None:
    plan = Plan.load(CONFIG / "retrieval.yaml")
    frame = published.load("retrieval")
    frame = frame.assign(experiment="retrieval", variant=frame["variant"].replace({"published": "released"}))
    frame["value"] = frame["value"].where(frame["method"] != "mse", frame["value"] + 0.02)
    cells.write(frame, tmp_path / "cells.parquet")
    reports.write_table(plan, "retrieval-agreement-average", tmp_path / "cells.parquet", tmp_path / "agreement")
    found = pd.read_csv(tmp_path / "agreement.csv")
    overall = found[(found["band"] == "all cells") & (found["kind"] == "grid")]
    values = overall.pivot(index="method", columns="statistic", values="value")
    assert values.loc["bert", ["rmse", "within", "kendall"]].to_list() == pytest.approx([0, 1, 1])
    assert values.loc["mse", ["rmse", "bias", "within"]].to_list() == pytest.approx([0.02, 0.02, 0])
    reports.write_table(plan, "expected", tmp_path / "cells.parquet", tmp_path / "expected")
    verdicts = pd.read_csv(tmp_path / "expected.csv").set_index(["method", "dataset"])["verdict"]
    assert set(verdicts["bert"]) == {"within"} and set(verdicts["mse"]) == {"outside"}
    assert "Expected values: 7 of 9 within" in (tmp_path / "expected.md").read_text(encoding="utf-8")
    paths = reports.draw_figure(
        plan, "retrieval-published-heatmaps-average", tmp_path / "cells.parquet", tmp_path / "heatmaps"
    )
    assert "ours − published" in paths[0].read_text(encoding="utf-8")


def test_a_stand_in_makes_claims_testable(tmp_path: Path) -> None:
    settings = Plan.load(CONFIG / "demo.yaml").experiment.model_dump()
    rows = published.load("retrieval")
    rows = rows[(rows["dataset"] == "msmarco-dev") & rows["method"].isin(["bert", "mse", "2dmse", "bert-s"])]
    cells.write(rows.assign(dataset="demo-search"), tmp_path / "cells.parquet")
    counts = []
    for stand_ins in ({}, {"msmarco-dev": "demo-search"}):
        settings["retrieval"]["stand_ins"] = stand_ins
        plan = Plan(Experiment.model_validate(settings), "demo.yaml")
        evidence.write_claims(plan, tmp_path / "cells.parquet", tmp_path / "claims")
        text = (tmp_path / "claims.md").read_text(encoding="utf-8")
        counts.append(text.count("demo-search stands in for msmarco-dev"))
    assert counts[0] == 0 and counts[1] > 10
    settings["retrieval"]["stand_ins"] = {"msmarco-dev": "demo-serch"}
    with pytest.raises(InputError, match=r"retrieval.stand_ins.msmarco-dev: .*demo-serch.* demo-search"):
        Plan(Experiment.model_validate(settings), "demo.yaml")


def test_every_figure_of_the_papers_is_drawn_from_published_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matryobench.figures import theme

    drawn: dict[str, int] = {}

    def note(figure: Any, stem: Path, provenance: dict[str, Any]) -> list[Path]:
        assert provenance["source"]
        drawn[stem.name] = len(figure.axes)
        return []

    monkeypatch.setattr(theme, "save", note)
    draw_published(tmp_path)
    assert {name.rpartition("-")[0] for name in drawn} == {*published.FIGURES, "table-A1", "table-A2"}
    assert drawn["figure-1-panels"] == 12 and drawn["figure-5-panels"] == 6 and drawn["table-A2-sizes"] == 12
