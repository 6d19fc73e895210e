"""Costs of cells and trainings, the fronts of cells worth their cost, and what is recommended."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from matryobench.deployment import costs, measuring, recommend_printing, training_costs
from matryobench.deployment.recommending import Wish, full_model, recommend, shown, task_and_metric
from matryobench.deployment.settings import Deployment
from matryobench.deployment.tables import write_deployment
from matryobench.deployment.uncertainty import difference_interval
from matryobench.deployment.weighing import FRONTS, front, weigh
from matryobench.errors import InputError
from matryobench.figures import pareto, theme

CONFIG = Path(__file__).resolve().parents[2] / "config"
METRIC = "spearman_cosine"
STYLES = {"bert": theme.Style("BERT", "#4D4D4D", "o"), "srl": theme.Style("SRL", "#0072B2", "s")}


def cost_table(layers: tuple[int, ...] = (1, 2), dims: tuple[int, ...] = (8, 16), task: str = "sts") -> pd.DataFrame:
    """A layer's query takes as many ms as it counts; 1000 texts/s over layer; searches 100 over dim."""
    rows = []
    for layer in layers:
        for dim in dims:
            encoder = {"query_ms": float(layer), "query_ms_p95": 2.0 * layer, "query_tokens": 9.0,
                       "texts_per_second": 1000.0 / layer, "text_tokens": 9.0, "parameters": 10 * layer,
                       "encoder_bytes": 40 * layer, "peak_device_memory_mb": None}  # fmt: skip
            index = {
                "bytes_per_document": 4 * dim,
                "bytes_per_document_float16": 2 * dim,
                "searches_per_second": 100.0 / dim,
            }
            rows.append({"task": task, "layer": layer, "dim": dim, **encoder, **index})
    return pd.DataFrame(rows)


def cells(values: dict[tuple[str, int, int, int], float], seeds: tuple[int, ...] = (1,), **fixed: Any) -> pd.DataFrame:
    """A cells table of (method, query layer, document layer, dim) -> score; a seed adds a hundredth of itself."""
    rows = []
    for (method, query_layer, layer, dim), value in values.items():
        for seed in seeds:
            own = {"experiment": "x", "task": "sts", "dataset": "average", "metric": METRIC, "method": method,
                   "variant": "paper", "recipe": "v1", "backend": "native", "seed": seed, "query_layer": query_layer,
                   "layer": layer, "dim": dim, "value": value + (seed - 1) / 100, "n_items": 10,
                   "run_id": f"sts-{method}-s{seed}"}  # fmt: skip
            rows.append(own | fixed)
    return pd.DataFrame(rows)


GRID = cells(
    {("bert", 1, 1, 8): 0.2, ("bert", 1, 1, 16): 0.5, ("bert", 2, 2, 8): 0.4, ("bert", 2, 2, 16): 0.8,
     ("srl", 1, 1, 8): 0.6, ("srl", 1, 1, 16): 0.6, ("srl", 2, 2, 8): 0.7, ("srl", 2, 2, 16): 0.7}
)  # fmt: skip


def weighed(frame: pd.DataFrame = GRID, table: pd.DataFrame | None = None) -> pd.DataFrame:
    return weigh(frame, cost_table() if table is None else table, task="sts", dataset="average", metric=METRIC)


WEIGHED = weighed()


# --- measuring -------------------------------------------------------------------------------------------------------


def test_every_cell_is_measured_and_only_layers_and_dims_matter(tiny_bert: Path, tmp_path: Path) -> None:
    texts = [torch.tensor([2, *range(5, 5 + length), 3], dtype=torch.int32) for length in (3, 5, 4, 9, 7)]
    light = Deployment(batch_size=2, documents=300, repeats=5)
    work = {
        "sts": measuring.Workload(texts, texts, (1, 4), (8, 32)),
        "retrieval": measuring.Workload(texts[:1], texts, (2, 4), (8,)),
    }
    rows = pd.DataFrame(measuring.measure(tiny_bert, "mean", work, light, 0, torch.device("cpu")))
    assert sorted(map(tuple, rows[list(costs.KEY)].to_numpy().tolist())) == [
        ("retrieval", 2, 8), ("retrieval", 4, 8), ("sts", 1, 8), ("sts", 1, 32), ("sts", 4, 8), ("sts", 4, 32),
    ]  # fmt: skip
    assert (rows.groupby(["task", "layer"])["query_ms"].nunique() == 1).all()
    assert (rows.groupby("dim")["searches_per_second"].nunique() == 1).all()
    assert (rows["query_ms"] <= rows["query_ms_p95"]).all()
    assert set(rows["query_tokens"]) == {7.6, 5.0} and set(rows["text_tokens"]) == {7.6}
    # 20 words and 32 positions and 2 types of 32 numbers with a norm, and per layer 4 maps of 32 x 32, 2 of 32 x 64
    embeddings = (20 + 32 + 2) * 32 + 2 * 32
    layer = 4 * (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 4 * 32
    held = rows.drop_duplicates("layer").set_index("layer")["parameters"]
    assert held.to_dict() == {number: embeddings + number * layer for number in (1, 2, 4)}
    assert (rows["encoder_bytes"] == 4 * rows["parameters"]).all()
    assert set(zip(rows["dim"], rows["bytes_per_document"], rows["bytes_per_document_float16"], strict=True)) == {
        (8, 32, 16), (32, 128, 64),
    }  # fmt: skip
    assert rows["peak_device_memory_mb"].isna().all()
    costs.write(rows, tmp_path / "deployment.parquet")
    assert len(costs.read(tmp_path / "deployment.parquet")) == 6
    assert pd.read_csv(tmp_path / "deployment.csv").columns.tolist() == list(costs.COLUMNS)


def test_an_experiment_is_measured_on_the_texts_of_its_first_test_sets(tiny_bert: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    from matryobench.data.records import write_table
    from matryobench.data.tokens import Tokens, write_tokens
    from matryobench.deployment.inputs import cost_files
    from matryobench.deployment.jobs import measure_cost
    from matryobench.plan import Plan

    demo = Plan.load(CONFIG / "demo.yaml")
    light = demo.experiment.model_copy(
        update={"deployment": Deployment(repeats=5, documents=100, max_texts=3, batch_size=2)}
    )
    plan = Plan(light, "demo.yaml")
    files = {task: cost_files(plan, task) for task in plan.tasks}
    assert files == {
        "sts": ["tokens/demo-sts-paraphrase.64.safetensors"],
        "retrieval": ["tokens/demo-search.queries.24.safetensors", "tokens/demo-search.corpus.64.safetensors"],
        "mteb": ["data/demo-events.test.parquet"],
    }
    for file, length in zip((*files["sts"], *files["retrieval"]), (4, 6, 8), strict=True):
        ids, offsets = torch.full((length * 5,), 7, dtype=torch.int32), torch.arange(0, 5 * length + 1, length)
        (tmp_path / file).parent.mkdir(exist_ok=True)
        write_tokens(Tokens(ids, offsets, torch.arange(5, dtype=torch.int32)[:, None], None, {}), tmp_path / file)
    (tmp_path / "data").mkdir()
    events = pa.table({"text": ["the dog sees the cat"] * 4, "label": ["x"] * 4})
    write_table(events, tmp_path / files["mteb"][0], {"kind": "labelled"})
    before = torch.get_num_threads()
    assert measure_cost(plan, tiny_bert, tmp_path, tmp_path / "tables" / "deployment.parquet", "cpu") == (4 + 4 + 1) * 4
    assert torch.get_num_threads() == before
    table = costs.read(tmp_path / "tables" / "deployment.parquet")
    lengths = set(table[["task", "query_tokens", "text_tokens"]].itertuples(index=False, name=None))
    # mteb: five words, [CLS] and [SEP]
    assert lengths == {("sts", 4.0, 4.0), ("retrieval", 6.0, 8.0), ("mteb", 7.0, 7.0)}
    assert sorted(set(table["dim"])) == [8, 16, 32, 64]  # the grid's, and the width of the backbone
    noted = json.loads((tmp_path / "tables" / "deployment.json").read_text(encoding="utf-8"))
    assert noted["texts"]["retrieval"] == {"dataset": "demo-search", "queries": 3, "documents": 3}
    assert (noted["device"], noted["threads"], noted["settings"]["repeats"]) == ("cpu", 1, 5)


def test_what_costs_are_made_from_is_in_the_dag() -> None:
    import yaml

    from matryobench.dag import Dag

    dag = Dag(yaml.safe_load((CONFIG / "demo.yaml").read_text(encoding="utf-8")), ["demo.yaml"])
    assert len(dag.cost_files()) == 4 and all(file.startswith("results/demo/") for file in dag.cost_files())
    records = dag.training_records()
    assert {"results/demo/pretraining/smae/pretraining.json", "results/demo/backbone/pretraining.json"} < set(records)
    assert len(records) == len(dag.plan.runs) + 2
    assert dag.cost_targets()[0] == "results/demo/tables/deployment.parquet" and len(dag.cost_targets()) == 4


def test_warm_up_is_not_counted() -> None:
    calls: list[int] = []
    seconds = measuring.timed([lambda n=n: calls.append(n) for n in range(3)], 2, torch.device("cpu"))  # type: ignore[misc]
    assert calls == [0, 1, 0, 1, 2] and len(seconds) == 3 and min(seconds) >= 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="query_ms"), "is not a table of costs"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "sts layer 1, dim 8 stands there twice"),
        (lambda t: t.assign(query_ms=0.0), "not a positive number"),
        (lambda t: t.iloc[:0], "not a positive number"),
    ],
)
def test_a_damaged_table_of_costs_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    change(cost_table().loc[:, list(costs.COLUMNS)]).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(InputError, match=words):
        costs.read(tmp_path / "c.parquet")
    with pytest.raises(InputError, match="does not exist; run the step that measures costs first"):
        costs.read(tmp_path / "absent.parquet")


# --- fronts ----------------------------------------------------------------------------------------------------------


def test_the_fronts_of_a_hand_made_grid() -> None:
    table = weighed().set_index(["method", "layer", "dim"])
    marked = {mark: set(table.index[table[mark]]) for mark in FRONTS}
    # at 1 ms .6 is the best (both dims have it), at 2 ms .8; at 32 bytes .7 is (srl, 2 layers), at 64 bytes .8
    assert marked["front_query_ms"] == {("srl", 1, 8), ("srl", 1, 16), ("bert", 2, 16)}
    assert marked["front_bytes"] == {("srl", 2, 8), ("bert", 2, 16)}
    # together: (1,16) is beaten by the equal but narrower (1,8)
    assert marked["front"] == {("srl", 1, 8), ("srl", 2, 8), ("bert", 2, 16)}


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=30))
def test_the_front_is_what_comparing_all_pairs_gives(points: list[tuple[int, ...]]) -> None:
    def beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        return all(a >= b for a, b in zip(one, other, strict=True)) and one != other

    expected = [not any(beats(other, point) for other in points) for point in points]
    assert front(np.array(points, dtype=np.float64)).tolist() == expected


def test_queries_and_documents_at_other_layers_cost_what_their_own_layers_cost() -> None:
    row = weighed(cells({("bert", 1, 2, 8): 0.5})).iloc[0]
    assert (row["layer"], row["document_layer"], row["query_ms"], row["texts_per_second"]) == (1, 2, 1.0, 500.0)
    assert (row["parameters"], row["bytes_per_document"]) == (20, 32)
    commands = recommend_printing.export_commands(Path("results/x"), row)
    assert [command.split("--")[1:] for command in commands] == [["layer 1 ", "dim 8"], ["layer 2 ", "dim 8"]]


def test_quality_is_the_mean_over_seeds_of_native_runs() -> None:
    library = cells({("bert", 1, 1, 8): 0.9}, backend="sentence-transformers", run_id="other")
    frame = pd.concat([cells({("bert", 1, 1, 8): 0.5}, seeds=(1, 3)), library], ignore_index=True)
    row = weighed(frame).iloc[0]
    assert row[["mean", "low", "high", "seeds", "run_id"]].tolist() == [0.51, 0.5, 0.52, 2, "sts-bert-s1"]


def test_cells_that_were_not_measured_are_named() -> None:
    with pytest.raises(InputError, match=r"layer 2 was evaluated and not measured \(layers 1 were\)"):
        weighed(table=cost_table(layers=(1,)))
    with pytest.raises(InputError, match=r"dim 16 was evaluated and not measured"):
        weighed(table=cost_table(dims=(8,)))
    with pytest.raises(InputError, match="has no rows of task 'mteb'; it has sts"):
        weigh(GRID, cost_table(), task="mteb", dataset="average", metric="accuracy")


def test_the_table_has_all_cells_and_prints_the_fronts(tmp_path: Path) -> None:
    titles = {name: style.title for name, style in STYLES.items()}
    paths = write_deployment(weighed(), tmp_path / "t", dataset="average", metric=METRIC, titles=titles)
    assert len(pd.read_csv(paths[0])) == 8
    text = paths[1].read_text(encoding="utf-8")
    assert text.count("| 2 | 16 | BERT | paper | v1 | 0.8000 | 100.0% | 2.00 | 4.00 | 500 | 64 |") == 3
    assert text.count("\n| 1 | 16 |") == 1  # an equal of (1, 8) by query time alone


# --- recommending ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "cell"),
    [
        ({}, ("bert", 2, 16)),
        ({"max_query_ms": 1.5}, ("srl", 1, 8)),  # as good as (1, 16) and narrower
        ({"max_bytes_per_document": 40}, ("srl", 2, 8)),
        ({"max_index_gb": 0.05, "documents": 1_000_000}, ("srl", 2, 8)),
        ({"min_quality": 0.65}, ("srl", 2, 8)),
        ({"min_share": 0.75}, ("srl", 1, 8)),
        ({"min_share": 0.86, "cheapest_in": "bytes"}, ("srl", 2, 8)),
        ({"min_quality": 0.45, "methods": ("bert",)}, ("bert", 1, 16)),
        ({"min_quality": 0.45, "methods": ("bert",), "max_query_ms": 2}, ("bert", 1, 16)),
    ],
)
def test_recommendations(wish: dict[str, Any], cell: tuple[str, int, int]) -> None:
    row = recommend(weighed(), Wish(**wish)).rows.iloc[0]
    assert (row["method"], row["layer"], row["dim"]) == cell


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"max_query_ms": 0.5}, "no cell satisfies --max-query-ms 0.5; the nearest one needs --max-query-ms 1."),
        ({"min_quality": 0.9}, "the nearest one needs --min-quality 0.8."),
        # .8 costs 2 ms (a third more than 1.5); at 1 ms there is .6, a seventh less than .7
        ({"max_query_ms": 1.5, "min_quality": 0.7}, "the nearest one needs --min-quality 0.6."),
        ({"max_query_ms": 0.5, "max_bytes_per_document": 8}, "from --max-query-ms 1, --max-bytes-per-document 32 on"),
        ({"max_index_gb": 1.0}, "give both"),
        ({"min_share": 95.0}, "--min-share: 95 is no share"),
        ({"cheapest_in": "money"}, "unknown cost 'money'"),
        ({"methods": ("brt",)}, "did you mean bert"),
    ],
)
def test_wishes_that_cannot_be_met(wish: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        recommend(weighed(), Wish(**wish))
    assert words in str(caught.value)


@settings(max_examples=40)
@given(st.floats(0.5, 3.0), st.floats(0.1, 0.9))
def test_a_bound_that_is_named_as_nearest_can_be_met(query_ms: float, quality: float) -> None:
    wish = {"max_query_ms": query_ms, "min_quality": quality}
    try:
        chosen = recommend(WEIGHED, Wish(**wish)).rows  # type: ignore[arg-type]
        assert (chosen["query_ms"] <= query_ms + 1e-9).all() and (chosen["mean"] >= quality - 1e-9).all()
    except InputError as error:
        option, value = (
            str(error).rstrip(".").split("needs --")[-1].split(" ")[:2] if "needs" in str(error) else ("", "")
        )
        if option:
            recommend(WEIGHED, Wish(**wish | {option.replace("-", "_"): float(value)}))  # type: ignore[arg-type]


@given(st.floats(1e-6, 1e9), st.booleans())
def test_a_shown_bound_lets_its_value_through(value: float, least: bool) -> None:
    rounded = float(shown(value, least))
    assert (value >= rounded) if least else (value <= rounded)
    assert rounded == pytest.approx(value, rel=1e-3)


def test_the_full_model_is_that_of_the_same_method_or_the_best() -> None:
    frame = weighed()
    row = frame[(frame["method"] == "srl") & (frame["layer"] == 1)].iloc[0]
    assert full_model(frame, row)[["method", "layer", "dim"]].tolist() == ["srl", 2, 16]
    without = frame[(frame["method"] == "bert") | (frame["layer"] == 1)]
    assert full_model(without, row)["method"] == "bert"


def test_what_is_meant_must_be_clear() -> None:
    both = pd.concat([GRID, GRID.assign(task="retrieval", metric="ndcg@10")])
    assert task_and_metric(GRID, Wish()) == ("sts", METRIC)
    assert task_and_metric(both, Wish(task="retrieval")) == ("retrieval", "ndcg@10")
    for wish, words in (
        (Wish(), "give one of retrieval, sts"),
        (Wish(task="stss"), "did you mean sts"),
        (Wish(task="sts", dataset="stsb"), "unknown dataset 'stsb'"),
        (Wish(task="sts", metric="pearson"), "unknown metric 'pearson'"),
    ):
        with pytest.raises(InputError, match=words):
            task_and_metric(both, wish)


def test_the_answer_says_what_where_and_how_sure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from matryobench.analysis.cells import write

    folder = tmp_path / "results" / "x"
    with pytest.raises(InputError, match=r"cells.parquet: is missing; make it with `snakemake .*cells.parquet`"):
        recommend_printing.print_recommendation(_made(folder), Wish(), 3)
    write(GRID, folder / "tables" / "cells.parquet")
    with pytest.raises(InputError, match=r"deployment.parquet: is missing; make it with `snakemake"):
        recommend_printing.print_recommendation(folder, Wish(), 3)
    costs.write(cost_table(), folder / "tables" / "deployment.parquet")
    recommend_printing.print_recommendation(folder, Wish(max_query_ms=1.0, documents=10**6, max_index_gb=1), 1)
    text = capsys.readouterr().out
    for words in (
        "the best of 4 cells within the bounds", "layer 1, dim 8 of srl (paper, v1), run sts-srl-s1",
        "quality 0.6000, 75.0% of the best cell (0.8000)", "index 32 bytes per document, 0.032 GB of 1,000,000 documents",
        "quality -0.1000 (85.7%),", "query time x 0.50, index x 0.50", "A single seed", "No paired tests are in the tables",
        f"matryobench export {folder}/runs/sts-srl-s1 sts-srl-s1-layer1-dim8 --layer 1 --dim 8",
    ):  # fmt: skip
        assert words in text, words
    assert text.count("bytes: layer") == 1
    with pytest.raises(InputError, match="is no results folder and no YAML file"):
        recommend_printing.print_recommendation(tmp_path / "absent", Wish(), 3)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_paired_tests_of_the_cell_are_quoted(tmp_path: Path) -> None:
    from matryobench.analysis import significance

    row = weighed()[lambda frame: (frame["method"] == "srl") & (frame["dim"] == 8)].iloc[0]
    test = {"task": "sts", "dataset": "stsb", "metric": METRIC, "recipe": "v1", "size": "Demi", "layer": 1, "dim": 8,
            "method": "srl", "variant": "paper", "reference": "bert", "reference_variant": "paper", "difference": 0.4,
            "p": 0.001, "p_holm": 0.002, "significant": True, "n_items": 10, "test": significance.BOOTSTRAP}  # fmt: skip
    (tmp_path / "tables").mkdir()
    significance.write(pd.DataFrame([test]), tmp_path / "tables" / "sts-significance.parquet")
    said = " ".join(recommend_printing.confidence(tmp_path, "sts", METRIC, row))
    assert "On stsb it differs from bert (+0.4000, p 0.002 by Holm, paired bootstrap over pairs)." in said
    other = weighed()[lambda frame: (frame["method"] == "srl") & (frame["dim"] == 16)].iloc[0]
    assert "No paired test was made at this cell." in " ".join(
        recommend_printing.confidence(tmp_path, "sts", METRIC, other)
    )


def test_the_interval_of_a_difference_is_over_items(tmp_path: Path) -> None:
    """One cell is a tenth better on every query; of the other pair, by +-.1 on half of 400 queries each."""
    generator = np.random.default_rng(3)
    base, noise = generator.uniform(0.2, 0.5, 400), generator.permutation(np.repeat([0.1, -0.1], 200))
    scores = {("bert", 2, 16): base, ("bert", 1, 8): base + 0.1, ("bert", 1, 16): base + noise}
    frame = cells({(m, layer, layer, dim): float(own.mean()) for (m, layer, dim), own in scores.items()})
    frame = frame.assign(task="retrieval", metric="ndcg@10")
    frame = pd.concat([frame.assign(dataset="nfcorpus"), frame], ignore_index=True)
    table = weigh(frame, cost_table(task="retrieval"), task="retrieval", dataset="average", metric="ndcg@10")
    of = {(row["layer"], row["dim"]): row for _, row in table.iterrows()}

    def interval(cell: tuple[int, int], dataset: str = "nfcorpus") -> tuple[float, float] | None:
        return difference_interval(tmp_path, frame, "retrieval", dataset, "ndcg@10", of[cell], of[2, 16])

    assert interval((1, 8)) is None  # no items there
    items = [
        pd.DataFrame({"run_id": "sts-bert-s1", "dataset": "nfcorpus", "query": [f"q{n:03}" for n in range(400)],
                      "query_layer": layer, "dim": dim, "ndcg@10": own}) for (_, layer, dim), own in scores.items()
    ]  # fmt: skip
    folder = tmp_path / "evaluation" / "sts-bert-s1"
    folder.mkdir(parents=True)
    pd.concat(items).to_parquet(folder / "items.parquet")
    assert interval((1, 8)) == pytest.approx((0.1, 0.1))
    assert interval((1, 16)) == pytest.approx((-1.96 * 0.1 / 20, 1.96 * 0.1 / 20), rel=0.12)  # sd / sqrt(n)
    assert interval((1, 8), "average") is None  # without the experiment's YAML nobody knows over what


# --- training --------------------------------------------------------------------------------------------------------


def run(run_id: str, method: str, seed: int = 1, **other: Any) -> SimpleNamespace:
    own = {
        "task": "sts",
        "recipe": "v1",
        "variant": "paper",
        "backend": "native",
        "starts_from": None,
        "pretraining": None,
    }
    return SimpleNamespace(run_id=run_id, method=method, seed=SimpleNamespace(name=seed), **own | other)


def record(file: Path, seconds: float, tokens: int, **other: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    own = {"steps": 10, "resumed_at": 0, "train_seconds": seconds, "wall_seconds": seconds + 1, "tokens_seen": tokens,
           "peak_memory_mb": 100.0, "device": "cpu", "processor": "some CPU"}  # fmt: skip
    file.write_text(json.dumps(own | other), encoding="utf-8")


def plan_of(runs: list[SimpleNamespace]) -> Any:
    return SimpleNamespace(
        runs=runs, by_id={one.run_id: one for one in runs}, experiment=SimpleNamespace(pretraining={"smae": None})
    )


def test_training_costs_count_every_start_once(tmp_path: Path) -> None:
    runs = [
        run("b", "bert"), run("c1", "bert-s"), run("c2", "bert-s"), run("s1", "starbucks", pretraining="smae"),
        run("s2", "starbucks", seed=2, pretraining="smae"), run("m", "ff->mrl", starts_from="b"),
        run("t", "bert", backend="tevatron"), run("q", "mse", recipe="v2"),
    ]  # fmt: skip
    for one, seconds in zip(runs, (10, 4, 6, 20, 30, 5, 12, 7), strict=True):
        record(tmp_path / "runs" / one.run_id / "run.json", seconds, 100 * seconds)
    record(tmp_path / "pretraining" / "smae" / "pretraining.json", 100, 9_000)
    record(tmp_path / "backbone" / "pretraining.json", 1000, 1)
    table = training_costs.training_costs(plan_of(runs), tmp_path)
    found = table.set_index(["method", "backend"])[["models", "starts_from", "train_seconds", "wall_seconds", "tokens"]]
    assert found.to_numpy().tolist() == [
        [1, 0, 1000, 1001, 1],  # the backbone
        [1, 0, 10, 11, 1000],
        [2, 0, 10, 12, 1000],  # bert-s: the sum over its cells
        [2, 1, 125, 127, 11_500],  # starbucks: mean over two seeds of run + smae
        [2, 1, 15, 17, 1500],  # ff->mrl: with the run that it starts from
        [1, 0, 12, 13, 1200],
        [1, 0, 7, 8, 700],
    ]
    assert table["relative_seconds"].tolist()[1:6] == [1.0, 1.0, 12.5, 1.5, 1.2]
    assert table["relative_tokens"].tolist()[3] == 11.5
    assert table["relative_seconds"].isna().tolist() == [True] + [False] * 5 + [True]  # no bert with recipe v2
    paths = training_costs.write_training_costs(table, tmp_path / "t", {"bert": "BERT"})
    text = paths[1].read_text(encoding="utf-8")
    assert "| sts | v1 | BERT (tevatron) | paper | 1 | 0 | 12.0 | 1.2 | 1.20 | 1.20 | 100 | some CPU |" in text
    assert len(pd.read_csv(paths[0])) == 7


def test_bert_s_models_that_share_a_start_count_it_once(tmp_path: Path) -> None:
    runs = [run("c1", "x", pretraining="smae"), run("c2", "x", pretraining="smae")]
    for one in runs:
        record(tmp_path / "runs" / one.run_id / "run.json", 1, 10)
    record(tmp_path / "pretraining" / "smae" / "pretraining.json", 5, 100)
    row = training_costs.training_costs(plan_of(runs), tmp_path).iloc[0]
    assert (row["models"], row["starts_from"], row["train_seconds"], row["tokens"]) == (3, 1, 7, 120)


def test_a_resumed_training_is_scaled_to_all_its_steps(tmp_path: Path) -> None:
    record(tmp_path / "run.json", 6, 100, resumed_at=4)
    found = training_costs.read_record(tmp_path / "run.json")
    assert (found.train_seconds, found.wall_seconds, found.resumed) == (10.0, 11.0, True)


@pytest.mark.parametrize("damage", ["{", "{}", '{"steps": 1}', "[]"])
def test_a_damaged_record_is_named(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    with pytest.raises(InputError, match="there is no such record; run the training"):
        training_costs.read_record(file)
    file.write_text(damage, encoding="utf-8")
    with pytest.raises(InputError, match="says not what the training cost"):
        training_costs.read_record(file)


# --- the figure ------------------------------------------------------------------------------------------------------


def many(layers: int = 12, dims: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512, 768)) -> pd.DataFrame:
    """A grid whose quality rises in layer and dim and saturates, so that every layer and every dim is on a front."""
    values = {
        (method, layer, layer, dim): 0.8 - 0.5 / layer - 1.5 / dim - (method == "bert") * 0.02
        for method in ("bert", "srl")
        for layer in range(1, layers + 1)
        for dim in dims
    }
    return weighed(cells(values), cost_table(tuple(range(1, layers + 1)), dims))


def test_front_labels_are_whole_and_do_not_overlap() -> None:
    figure = pareto.draw(many(), STYLES, dataset="average", metric=METRIC)
    with theme.context():
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        for ax, count in zip(figure.axes, (12, 8), strict=True):
            boxes = [text.get_window_extent(canvas.get_renderer()) for text in ax.texts]  # type: ignore[attr-defined]
            assert len(boxes) == count
            frame = ax.get_window_extent()
            assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1 for box in boxes)
            pairs = [(one, other) for at, one in enumerate(boxes) for other in boxes[at + 1 :]]
            assert not any(one.overlaps(other) for one, other in pairs)


def test_lines_are_the_best_cell_per_cost_and_steps_the_front() -> None:
    figure = pareto.draw(weighed(), STYLES, dataset="average", metric=METRIC)
    milliseconds, index = figure.axes
    drawn = {line.get_color(): np.asarray(line.get_xydata()).tolist() for line in milliseconds.lines[1:]}
    assert drawn == {"#4D4D4D": [[1.0, 0.5], [2.0, 0.8]], "#0072B2": [[1.0, 0.6], [2.0, 0.7]]}
    assert np.asarray(milliseconds.lines[0].get_xydata())[:2].tolist() == [[1.0, 0.6], [2.0, 0.8]]
    assert [text.get_text() for text in index.texts] == ["(2,8)", "(2,16)"]


def test_recipes_have_rows_and_share_the_front() -> None:
    frame = pd.concat([GRID, GRID.assign(recipe="v2", value=GRID["value"] / 2, run_id="v2-" + GRID["run_id"])])
    figure = pareto.draw(weighed(frame), STYLES, dataset="average", metric=METRIC, recipes={"v1": "V1", "v2": "V2"})
    assert isinstance(figure, Figure) and [ax.get_title() for ax in figure.axes] == ["V1", "V1", "V2", "V2"]
    fronts = [np.asarray(ax.lines[0].get_xydata()).tolist() for ax in figure.axes]
    assert fronts[0] == fronts[2] and fronts[1] == fronts[3]
    assert not figure.axes[2].texts  # the front has no cell of V2


def test_a_single_cell_can_be_drawn() -> None:
    one = weighed(cells({("bert", 2, 2, 8): 0.0}))
    pareto.draw(one, STYLES, dataset="average", metric=METRIC)
