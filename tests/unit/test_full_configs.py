"""The full set-ups of Starbucks and of the low-cost study plan, and have the papers' settings."""

from __future__ import annotations

import csv
from collections import Counter
from functools import cache
from pathlib import Path

from matryobench.evaluation.instructions import SIDES, Side, check_instructions, instruction_of
from matryobench.plan import Plan

CONFIG = Path(__file__).resolve().parents[2] / "config"
SIZES = [(2, 32), (4, 64), (6, 128), (8, 256), (10, 512), (12, 768)]


@cache
def plan(name: str) -> Plan:
    return Plan.load(CONFIG / f"{name}.yaml")


def test_starbucks_pretrains_on_the_papers_terms() -> None:
    smae = plan("starbucks").experiment.pretraining["smae"]
    loop = smae.training
    assert list(plan("starbucks").pretraining_sizes("smae").values()) == SIZES
    assert (smae.objective, smae.text, smae.max_length) == ("smae", "fineweb-100bt", 512)
    assert (smae.encoder_mask, smae.decoder_mask, smae.whole_words) == (0.2, 0.4, True)
    assert loop.batch_size * loop.accumulation == 512
    assert (loop.epochs, loop.learning_rate, loop.schedule, loop.warmup) == (1, 1e-4, "cosine", 0.05)
    assert (loop.weight_decay, loop.precision) == (1e-3, "bf16")


def test_starbucks_compares_the_five_methods_at_the_six_sizes() -> None:
    for task, sets in (("sts", 7), ("retrieval", 15)):
        assert sorted(plan("starbucks").sizes(task).values()) == SIZES
        assert len(plan("starbucks").tasks[task].sets) == sets
        runs = [run for run in plan("starbucks").runs if run.task == task]
        assert {run.method.removesuffix("-v1") for run in runs} == {"bert", "bert-s", "2dmse", "srl", "starbucks"}
        assert all(run.pretraining == ("smae" if run.method == "starbucks" else None) for run in runs)
        assert all(set(SIZES) <= set(run.evaluated) for run in runs if run.method != "bert-s")
        own = [run for run in runs if run.method == "bert-s" and run.variant == "paper"]
        assert sorted(run.evaluated for run in own) == [(size,) for size in SIZES]


def test_starbucks_evaluates_what_table_a2_has(shared_data: Path) -> None:
    with (shared_data.parent / "published" / "starbucks_sizes.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    beir = {row["dataset"] for row in rows if row["table"] == "A2"} - {"beir-12-avg"}
    assert set(plan("starbucks").retrieval.average) == beir and len(beir) == 12
    assert {row["dataset"] for row in rows} >= {"msmarco-dev", "trec-dl19", "trec-dl20"}
    assert set(plan("starbucks").retrieval.evaluate) == beir | {"msmarco-dev", "trec-dl19", "trec-dl20"}


def test_the_low_cost_study_has_its_three_models_and_every_nested_width() -> None:
    low_cost = plan("mrl")
    assert [(run.method, run.starts_from) for run in low_cost.runs] == [
        ("ff", None), ("mrl", None), ("ff->mrl", "mteb-ff-paper-medi-s42"),
    ]  # fmt: skip
    recipe = low_cost.mteb.recipes["medi"]
    widths = recipe.nested_dims
    assert widths == [768 // 2**halvings for halvings in range(len(widths))] and widths[-1] == 12
    assert all(run.evaluated == tuple((6, width) for width in sorted(widths)) for run in low_cost.runs)
    assert low_cost.datasets[recipe.train].kind == "instructed"


def test_every_set_of_the_low_cost_study_has_an_instruction_and_an_mteb_task() -> None:
    low_cost = plan("mrl")
    evaluated = low_cost.mteb.evaluate
    assert Counter({family: len(names) for family, names in evaluated.items()}) == {
        "classification": 12,
        "retrieval": 14,
    }
    check_instructions(low_cost.mteb.instructions, evaluated, "mrl.yaml: mteb.instructions")
    for family, names in evaluated.items():
        sides: tuple[Side | None, ...] = (None,) if family == "classification" else SIDES
        sets = low_cost.classifications if family == "classification" else low_cost.collections
        for name in names:
            assert all(instruction_of(low_cost.mteb.instructions, name, family, side) for side in sides)
            assert sets[name].mteb_task is not None
