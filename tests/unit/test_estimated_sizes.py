"""Sizes of texts: exact from finished token files, else from stated facts, and said where nothing is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from matryobench.data.group_tokens import GroupTokens, write_group_tokens
from matryobench.data.tokens import Tokens, write_tokens
from matryobench.errors import InputError
from matryobench.estimating.jobs import estimate
from matryobench.estimating.sizes import Sizes, facts
from matryobench.estimating.texts import Texts, cut_mean, read_token_file, tokens_of
from matryobench.plan import Plan

CONFIG = Path(__file__).resolve().parents[2] / "config"


def demo(results: Path) -> Plan:
    plan = Plan.load(CONFIG / "demo.yaml")
    return Plan(plan.experiment.model_copy(update={"results": results}), "demo.yaml")


def test_lengths_of_cut_texts() -> None:
    assert cut_mean(20, 512) == pytest.approx(20)
    assert cut_mean(1000, 8) == pytest.approx(8, rel=1e-3)
    rng = np.random.default_rng(0)
    drawn = np.minimum(rng.gamma(4, 100 / 4, size=400_000), 128)
    assert cut_mean(100, 128) == pytest.approx(drawn.mean(), rel=5e-3)
    assert tokens_of(45) == 12


def test_a_token_file_is_read_exactly(tmp_path: Path) -> None:
    # Texts of 2, 3 and 5 tokens; rows (0, 1), (0, 2), (0, 2).
    offsets = torch.tensor([0, 2, 5, 10])
    rows = torch.tensor([[0, 1], [0, 2], [0, 2]], dtype=torch.int32)
    write_tokens(Tokens(torch.arange(10, dtype=torch.int32), offsets, rows, None, {}), tmp_path / "t")
    found = read_token_file(tmp_path / "t")
    assert found is not None
    assert (found.rows, found.distinct) == (3, Texts(3, 10, pytest.approx(38)))
    assert found.row == Texts(2, pytest.approx(19 / 3), pytest.approx((13 + 29 + 29) / 3))
    assert read_token_file(tmp_path / "none") is None


def test_passages_of_groups_count_as_often_as_they_are_listed(tmp_path: Path) -> None:
    def numbers(*values: int, kind: Any = torch.int64) -> torch.Tensor:
        return torch.tensor(values, dtype=kind)

    tokens = GroupTokens(
        query_ids=numbers(1, 2, 3, kind=torch.int32), query_offsets=numbers(0, 3),
        passage_ids=torch.arange(12, dtype=torch.int32), passage_offsets=numbers(0, 2, 12),
        query_rows=numbers(0, kind=torch.int32), positives=numbers(0, kind=torch.int32), positive_offsets=numbers(0, 1),
        negatives=numbers(1, 1, 0, kind=torch.int32), negative_offsets=numbers(0, 3),
    )  # fmt: skip
    write_group_tokens(tokens, tmp_path / "g")
    found = read_token_file(tmp_path / "g")
    assert found is not None and found.queries is not None
    assert (found.queries.mean, found.distinct.mean, found.row.mean) == (3, 6, pytest.approx(22 / 3))


def test_a_damaged_token_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(b"not")
    with pytest.raises(InputError, match="not a token file"):
        read_token_file(tmp_path / "tokens")


def test_finished_files_replace_what_is_stated(tmp_path: Path) -> None:
    before = Sizes(demo(tmp_path)).training_row("demo-triplets", 64)
    assert before.mean == pytest.approx(15.77, rel=0.05)  # what the demo's own file has
    (tmp_path / "tokens").mkdir()
    rows = torch.zeros((4, 3), dtype=torch.int32)
    tokens = Tokens(torch.zeros(9, dtype=torch.int32), torch.tensor([0, 9]), rows, None, {})
    write_tokens(tokens, tmp_path / "tokens" / "demo-triplets.64.safetensors")
    assert Sizes(demo(tmp_path)).training_row("demo-triplets", 64).mean == 9


def test_facts_name_datasets_of_the_registry_and_have_sources() -> None:
    plan = Plan.load(CONFIG / "demo.yaml")
    assert set(facts()) <= set(plan.datasets)
    text = (Path(__file__).resolve().parents[2] / "workflow/matryobench/estimating/text_lengths.csv").read_text()
    assert all(len(line.split(",", 3)[3]) > 5 for line in text.splitlines()[1:])


def test_shipped_experiments_say_what_is_not_known() -> None:
    for name in ("demo", "minilm", "retrieval", "sts", "starbucks"):
        assert estimate(Plan.load(CONFIG / f"{name}.yaml"), False).guesses == {}
    assert list(estimate(Plan.load(CONFIG / "mrl.yaml"), True).guesses) == ["medi"]


def test_unknown_texts_count_as_the_longest_and_are_said(tmp_path: Path) -> None:
    registry = yaml.safe_load((CONFIG / "datasets.yaml").read_text(encoding="utf-8"))
    entry = {"kind": "triplets", "description": "rows of my own", "citation": "none yet", "licence": "mine"}
    (tmp_path / "mine.jsonl").write_text("{}", encoding="utf-8")
    registry["mine"] = {**entry, "local": {"files": ["mine.jsonl"]}}
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(registry), encoding="utf-8")
    base = Plan.load(CONFIG / "demo.yaml").experiment.model_copy(update={"results": tmp_path})
    sizes = Sizes(Plan(base, "demo.yaml", datasets=tmp_path / "datasets.yaml"))
    assert sizes.training_row("mine", 64).mean == 64
    assert sizes.rows("mine") == 0
    assert "not known" in sizes.guesses["mine"]
