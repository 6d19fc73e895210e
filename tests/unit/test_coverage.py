"""The gradient-coverage map: hand-computed cells, parity with what the loss really adds up, records, and the figure."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from test_figures import overlaps, visible
from test_plan import load

from matryobench.analysis import cells, coverage
from matryobench.errors import InputError
from matryobench.figures import coverage as figure
from matryobench.figures.theme import Style
from matryobench.objectives.build import objective_of
from matryobench.objectives.objective import Objective
from matryobench.objectives.retrieval import RetrievalObjective
from matryobench.paths import CONFIG, ROOT
from matryobench.plan import Plan

REFERENCE = ROOT / "results" / "reference" / "minilm"
SCORED: dict[str, Any] = {"dataset": "average", "metric": "spearman_cosine"}


@pytest.fixture(scope="module")
def demo() -> Plan:
    """4 layers, width 64, grid 1..4 x 8..64, sizes (1, 8) (2, 16) (3, 32) (4, 64), target width 16."""
    return Plan.load(CONFIG / "demo.yaml")


@pytest.fixture(scope="module")
def table(demo: Plan) -> pd.DataFrame:
    return coverage.table(demo, coverage.declared(demo))


def at(table: pd.DataFrame, method: str, variant: str, task: str = "sts", side: str = "both", **more: Any) -> Any:
    """The rows of one method and variant by (layer, dim)."""
    rows = table[(table["task"] == task) & (table["method"] == method) & (table["variant"] == variant)]
    rows = rows[(rows["side"] == side) & (rows[list(more)] == pd.Series(more)).all(axis=1)]
    return rows.set_index(["layer", "dim"])


def test_bert_trains_one_cell_and_every_width_of_the_last_layer_through_it(table: pd.DataFrame) -> None:
    bert = at(table, "bert", "paper", recipe="v1")
    assert set(bert.index[bert["base"] > 0]) == {(4, 64)}
    assert list(bert.index[bert["base_through"] == 1]) == [(4, 8), (4, 16), (4, 32), (4, 64)]
    assert not bert["alignment_through"].any() and set(bert.index.get_level_values("layer")) == {0, 1, 2, 3, 4}
    assert not bert.loc[0, "evaluated"].any() and bert.loc[[1, 2, 3, 4], "evaluated"].all()


def test_sampled_layers_and_widths_weigh_by_how_often_they_are_drawn(table: pd.DataFrame) -> None:
    """2dmse-v1 (released): one of 3 layers and one of 4 widths a step, layer l at 1/l; KL 0.3, teacher not detached."""
    released = at(table, "2dmse-v1", "released")
    for layer, dim in ((1, 8), (2, 16), (3, 64)):
        assert released.loc[(layer, dim), "base"] == pytest.approx(1 / 3 / 4 / layer)
    assert released.loc[(4, 32), "base"] == pytest.approx(1 / 4)
    assert released.loc[(2, 8), "base_through"] == pytest.approx(1 / 3 / 2)
    assert released.loc[(2, 64), "alignment"] == pytest.approx(0.3 / 3) == released.loc[(2, 8), "alignment_through"]
    assert released.loc[(4, 64), "alignment"] == pytest.approx(0.3)
    assert released.loc[(4, 64), "terms"] == "base 0.25, teacher 0.3"
    assert not released.loc[0, list(coverage.WEIGHTS)].to_numpy().any()


def test_the_released_ese_loop_trains_the_embedding_output_and_not_the_layer_below_the_last(
    table: pd.DataFrame,
) -> None:
    """D2, D2b: students 0..L-2, averaged, the largest weight on layer 0; as written 1..L-1 at 1/(1+ln l)."""
    released, paper = at(table, "2dmse-v2", "released"), at(table, "2dmse-v2", "paper")
    assert list(released["base"].xs(16, level="dim")) == pytest.approx(
        [1 / 3, 1 / 3 / (1 + math.log(2)), 1 / 3 / (1 + math.log(3)), 0, 1]
    )
    assert list(paper["base"].xs(16, level="dim")) == pytest.approx(
        [0, 1, 1 / (1 + math.log(2)), 1 / (1 + math.log(3)), 1]
    )
    for rows in (released, paper):
        assert list(rows["alignment"]) == pytest.approx(
            list(rows["base"].where(rows.index.get_level_values("dim") == 16, 0))
        )


def test_layer_0_of_cls_is_the_same_for_every_text(tiny_bert: Path) -> None:
    """D2b: what a cls recipe trains at layer 0 does not depend on the text; every other layer does."""
    from transformers import AutoModel, AutoTokenizer

    encoded = AutoTokenizer.from_pretrained(tiny_bert)(
        ["a dog runs", "the red house", "b c"], padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        states = AutoModel.from_pretrained(tiny_bert).eval()(**encoded, output_hidden_states=True).hidden_states
    spread = [float((layer[:, 0] - layer[:1, 0]).abs().max()) for layer in states]
    assert spread[0] == 0 and min(spread[1:]) > 1e-3


def test_srl_trains_its_sizes_and_its_released_teacher(table: pd.DataFrame) -> None:
    released, paper = at(table, "srl", "released"), at(table, "srl", "paper")
    sizes = {(1, 8), (2, 16), (3, 32), (4, 64)}
    for rows in (released, paper):
        assert set(rows.index[rows["base"] > 0]) == sizes
    assert set(paper.index[paper["alignment"] > 0]) == sizes - {(4, 64)}
    assert set(released.index[released["alignment"] > 0]) == sizes - {(4, 64)} | {(4, 8), (4, 16), (4, 32)}
    assert released.loc[(4, 8), "alignment_through"] == pytest.approx(3 * 0.3)


def test_bert_s_has_the_cells_of_its_models(table: pd.DataFrame) -> None:
    """As written a model per cell; as released one per layer, whose narrow cells are only reached (D4)."""
    paper, released = at(table, "bert-s", "paper", recipe="v2"), at(table, "bert-s", "released", recipe="v1")
    assert list(paper.index) == [(1, 8), (4, 64)] and (paper["base"] == 1).all()
    assert len(released) == 16 and (released["base_through"] == 1).all()
    assert set(released.index[released["base"] > 0]) == {(layer, 64) for layer in (1, 2, 3, 4)}


def test_only_the_last_layer_is_trained_at_full_width_in_released_retrieval(table: pd.DataFrame) -> None:
    """D7b: below layer L no width above the target gets gradient; full-dim is what adds it."""
    released, full = at(table, "2dmse", "released", "retrieval"), at(table, "full-dim", "released", "retrieval")
    below = [(layer, dim) for layer in (1, 2, 3) for dim in (24, 32, 64)]
    assert not released.loc[below, list(coverage.WEIGHTS)].to_numpy().any()
    weights = [1, 1 / (1 + math.log(2)), 1 / (1 + math.log(3)), 1]
    for rows, width in ((released, 16), (full, 16), (full, 64)):
        assert list(rows["base"].xs(width, level="dim").loc[1:]) == pytest.approx(weights)


def test_sides_are_apart_where_they_differ(table: pd.DataFrame) -> None:
    sides = table[table["side"] != "both"]
    assert set(sides["method"]) == {"fix-doc"} and set(sides["side"]) == {"query", "passage"}
    queries, passages = (at(table, "fix-doc", "released", "retrieval", side) for side in ("query", "passage"))
    assert queries.loc[(1, 16), "base"] == 1 and not passages.loc[[1, 2, 3], list(coverage.WEIGHTS)].to_numpy().any()
    # Passages are at layer 4 in the terms of all four query layers.
    assert passages.loc[(4, 16), "base"] == pytest.approx(2 + 1 / (1 + math.log(2)) + 1 / (1 + math.log(3)))


def test_gradient_reaches_down_the_widths(table: pd.DataFrame) -> None:
    ordered = table.sort_values("dim", ascending=False).groupby(
        ["task", "method", "variant", "recipe", "side", "layer"]
    )
    for kind in ("base", "alignment"):
        one_model = ordered.filter(lambda rows: rows["method"].iloc[0] != "bert-s")
        grouped = one_model.groupby(["task", "method", "variant", "recipe", "side", "layer"])
        assert (one_model[f"{kind}_through"] - grouped[kind].cumsum()).abs().max() < 1e-12


def test_weights_are_those_that_the_loss_adds_up(
    demo: Plan, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every term's value 1, the named terms of the loss, averaged over draws, are the map."""
    one = torch.ones(())
    module = "matryobench.objectives.objective."
    monkeypatch.setattr(module + "base_terms", lambda columns, *_: {"ce": one})
    monkeypatch.setattr(module + "kl_over_coordinates", lambda *_: one)
    monkeypatch.setattr(module + "compression_term", lambda *_: one)
    monkeypatch.setattr(module + "compress", lambda how, texts, *_: texts)
    monkeypatch.setattr("matryobench.objectives.retrieval.contrastive", lambda *_: one)
    pooled = {layer: torch.randn(3, 2, 64, generator=torch.Generator().manual_seed(layer)) for layer in range(5)}
    seen = 0
    for run in coverage.shown_runs(demo):
        if run.cell is not None or "paper" in run.recipe or "mteb" in run.task:
            continue
        made, kinds = objective_of(demo, run, 4, 64), {"ce": "base", "kl": "alignment", "compression": "alignment"}
        if isinstance(made, Objective):
            draws = made.draws()
            steps = [made.evaluate(draw, pooled, None, torch.Generator())[1] for draw in draws]
        else:
            flat, kinds = {layer: value.flatten(0, 1) for layer, value in pooled.items()}, {"ce": "base"}
            steps = [made(flat, flat, None, torch.Generator().manual_seed(0))[1]]
        totals: dict[tuple[str, int, int], float] = defaultdict(float)
        for terms in steps:
            for name, value in terms.items():
                kind, layer, dim = name.split("/")
                if kind in kinds:
                    totals[kinds[kind], int(layer[1:]), int(dim[1:])] += float(value) / len(steps)
        side = "query" if run.method == "fix-doc" else "both"
        rows = at(table, run.method, run.variant, run.task, side, recipe=run.recipe)
        for (layer, dim), row in rows.iterrows():
            for kind in set(kinds.values()):
                teacher = sum(float(part.split()[1]) for part in row["terms"].split(", ") if part.startswith("teacher"))
                found = row[kind] - (teacher if kind == "alignment" else 0)
                assert found == pytest.approx(totals[kind, layer, dim], abs=1e-4), (run.run_id, layer, dim, kind)
        seen += isinstance(made, RetrievalObjective)
    assert seen >= 10


def by_place(term: Any) -> tuple[Any, ...]:
    return term["layer"], term["dim"], term["term"], term["weight"]


def test_the_reference_runs_recorded_what_is_declared(minilm: Path) -> None:
    plan = Plan.load(CONFIG / "minilm.yaml")
    declared = coverage.declared(plan)
    records = {record["run_id"]: record for record in json.loads((REFERENCE / "runs.json").read_text(encoding="utf-8"))}
    assert set(records) == {run.run_id for run in plan.runs}
    for name in declared:  # the map leaves out the runs of reference backends
        recorded = [{"side": "both", **term} for term in records[name]["trained_cells"]]
        assert sorted(recorded, key=by_place) == sorted(declared[name], key=by_place)


def test_records_give_the_declared_map_and_a_table_reads_back(demo: Plan, table: pd.DataFrame, tmp_path: Path) -> None:
    files = []
    for name, terms in coverage.declared(demo).items():
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps({"run_id": name, "trained_cells": list(terms)}), encoding="utf-8")
    again = coverage.table(demo, coverage.recorded(demo, files))
    pd.testing.assert_frame_equal(again, table)
    coverage.write(table, tmp_path / "coverage.csv")
    pd.testing.assert_frame_equal(coverage.read(tmp_path / "coverage.csv"), table)
    with pytest.raises(InputError, match=r"demo\.yaml: run .* has no run\.json among the given ones; train it first\."):
        coverage.recorded(demo, files[1:])
    for text in ("{", "[]", '{"run_id": "a"}', '{"run_id": "a", "trained_cells": [{"layer": 1}]}'):
        files[0].write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"is no run\.json with 'trained_cells'; train the run again\."):
            coverage.recorded(demo, files)


def test_what_is_no_coverage_table_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"coverage\.csv does not exist; run the step that writes it first\."):
        coverage.read(tmp_path / "coverage.csv")
    (tmp_path / "coverage.csv").write_text("layer,dim\n1,2\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"coverage\.csv is not a coverage table; it needs rows and the columns task, "
    ):
        coverage.read(tmp_path / "coverage.csv")


def test_published_scores_are_drawn_beside_the_coverage_of_what_they_are_of(table: pd.DataFrame) -> None:
    names = {("2dmse-v2", "published", "v2"): ("2dmse-v2", "released", "v2")}
    renamed = coverage.renamed(table, names)
    assert len(renamed) == 20 and set(renamed["variant"]) == {"published"}
    frame = scored(table, ("2dmse-v2", "released", "v2")).assign(variant="published", experiment="published")
    drawn = figure.draw(frame, renamed, STYLES, **SCORED)
    assert [ax.get_title() for ax in visible(drawn)[:3]] == ["2DMSE-V2: base loss", "alignment", "score"]
    with pytest.raises(
        InputError, match=r"coverage table: bert \(no, recipe v2\) is missing; name a run of the plan\."
    ):
        coverage.renamed(table, {("bert", "published", "v2"): ("bert", "no", "v2")})


def test_a_backbone_of_unknown_shape_is_one_sentence(tmp_path: Path) -> None:
    plan = load(tmp_path, backbone={"source": "hub", "id": "some/model", "revision": "0" * 40}, mirror=str(tmp_path))
    with pytest.raises(InputError, match=r"tiny\.yaml: backbone: its layers and width are not known yet; run `matryo"):
        coverage.declared(plan)
    (terms,) = {tuple((one["layer"], one["dim"]) for one in run) for run in coverage.declared(plan, (6, 48)).values()}
    assert terms == ((6, 48),)


# --- the figure -----------------------------------------------------------------------------------------------------------


def scored(table: pd.DataFrame, *lines: tuple[str, str, str]) -> pd.DataFrame:
    """A cells table of these (method, variant, recipe), whose values are layer / 10 + dim / 1000."""
    chosen = table[table["evaluated"] & (table["task"] == "sts")]
    keys = pd.MultiIndex.from_frame(chosen[["method", "variant", "recipe"]])
    rows = chosen[keys.isin(lines)].assign(
        experiment="demo", **SCORED, backend="native", seed=42, query_layer=lambda f: f["layer"], n_items=1,
        value=lambda f: f["layer"] / 10 + f["dim"] / 1000, run_id=lambda f: f["method"] + f["variant"],
    )  # fmt: skip
    return rows[list(cells.COLUMNS)]


STYLES = {
    "bert": Style("BERT", "#000000", "o"),
    "bert-s": Style("BERT-S", "#009E73", "s"),
    "2dmse-v2": Style("2DMSE-V2", "#0072B2", "D"),
}


def test_a_row_shows_what_is_trained_beside_the_scores(table: pd.DataFrame) -> None:
    frame = scored(table, ("2dmse-v2", "released", "v2"), ("bert", "paper", "v2"))
    drawn = figure.draw(frame, table, STYLES, **SCORED)
    panels = [ax for ax in visible(drawn) if ax.get_title()]
    assert [ax.get_title() for ax in panels] == [
        "BERT: base loss", "alignment", "score", "2DMSE-V2: base loss", "alignment", "score",
    ]  # fmt: skip
    bert, _, _, base, aligned, scores = (
        {tuple(int(at) for at in text.get_position()[::-1]): text.get_text() for text in ax.texts} for ax in panels
    )
    assert [tick.get_text() for tick in panels[0].get_yticklabels()] == ["0", "1", "2", "3", "4"]
    assert [tick.get_text() for tick in panels[0].get_xticklabels()] == ["8", "16", "32", "64"]
    assert {place: text for place, text in bert.items() if text} == {(4, 0): "1", (4, 1): "1", (4, 2): "1", (4, 3): "1"}
    assert (base[0, 1], base[0, 0], base[3, 1], base[4, 0], base[4, 3]) == (".33", ".33", "", "2", "1")
    assert (aligned[4, 1], aligned[4, 3]) == ("1", "")
    assert scores[1, 0] == ".108" and (0, 0) not in scores


def test_colour_is_for_cells_of_a_term_and_grey_for_what_it_reaches(table: pd.DataFrame) -> None:
    drawn = figure.draw(scored(table, ("bert", "paper", "v1")), table, STYLES, **SCORED)
    panel = visible(drawn)[0]
    (mesh,) = panel.collections
    drawn.draw_without_rendering()
    colours = mesh.get_facecolor().reshape(5, 4, 4)
    assert colours[4, 0, :3] == pytest.approx([0.9] * 3) and colours[4, 3, :3] != pytest.approx([0.9] * 3)
    assert colours[1, 0, :3].min() > 0.95
    assert [ax.get_title() for ax in visible(drawn) if ax.get_title()] == ["BERT: base loss", "score"]


def test_a_method_of_many_models_is_hatched_where_there_is_none(table: pd.DataFrame) -> None:
    drawn = figure.draw(scored(table, ("bert-s", "paper", "v2")), table, STYLES, **SCORED)
    panel = visible(drawn)[0]
    assert sorted(text.get_text() for text in panel.texts) == ["1"] * 2 and panel.patch.get_hatch()


def test_nothing_overlaps(table: pd.DataFrame) -> None:
    frame = scored(table, ("bert", "paper", "v1"), ("bert", "paper", "v2"), ("2dmse-v2", "released", "v2"))
    assert overlaps(figure.draw(frame, table, STYLES, **SCORED, recipes={"v1": "V1", "v2": "V2"})) == []


def test_a_method_without_coverage_is_one_sentence(table: pd.DataFrame) -> None:
    frame = scored(table, ("bert", "paper", "v1"))
    with pytest.raises(
        InputError, match=r"coverage table: bert \(paper, recipe v1\) of sts is missing; write the table"
    ):
        figure.draw(frame, table[table["method"] != "bert"], STYLES, **SCORED)


@pytest.mark.parametrize(
    ("weight", "text"),
    [
        (1.0, "1"),
        (0.5906, ".59"),
        (0.0083, ".008"),
        (-0.25, ".25"),
        (0.0, ""),
        (1.5, "1.50"),
        (12.0, "12"),
        (0.9999, "1"),
    ],
)
def test_weights_fit_into_their_cells(weight: float, text: str) -> None:
    assert figure.weight_text(weight) == text
