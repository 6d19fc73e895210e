"""What cells and trainings cost: measured, recorded, summed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from deployment_cases import CONFIG, cost_table

from matryobench.deployment import costs, measuring, training_costs
from matryobench.deployment.settings import Deployment
from matryobench.errors import InputError

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
    seconds = measuring.timed([lambda n=n: calls.append(n) for n in range(3)], 2, torch.device("cpu"))
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
