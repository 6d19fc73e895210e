"""The benchmarks' harness: what a ratio, a target, a peak and a page are. The benchmarks themselves are no tests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from harness import Agreement, Cost, Growth, Outcome, Pairs, Row, Target, alternate, peak_mb, row  # noqa: E402
from machine import encoder_operations  # noqa: E402
from objective_cost import METHODS, loss, materialised, objective_of, sides  # noqa: E402
from page import markdown  # noqa: E402
from records import record_of  # noqa: E402


def pairs(ours: list[float], peer: list[float]) -> Pairs:
    return Pairs([Cost(value, 2 * value) for value in ours], [Cost(value, value) for value in peer])


def test_a_ratio_is_the_median_of_neighbouring_runs() -> None:
    # The machine got ten times slower in the last pair: the ratio of the medians would be 2, of the sums 2.08.
    one = row("a", "work", "peer", pairs([1, 2, 10], [4, 4, 30]), Target("times", 2.5))
    assert one.values == [4, 2, 3] and one.value == 3 and one.met is True
    assert one.cpu_values == [2, 1, 1.5] and (one.ours_seconds, one.peer_seconds) == (2, 4)
    assert row("a", "work", "peer", pairs([3], [4]), Target("share", 0.75)).met is True
    assert row("a", "work", "peer", pairs([3.1], [4]), Target("share", 0.75)).met is False
    assert Target("seconds", 4).met(4.1) is False and Row("a", "", "", [1.0]).met is None


def test_ways_run_in_turn_and_each_is_first_as_often() -> None:
    order: list[str] = []
    found = alternate(lambda: order.append("o"), lambda: order.append("p"), 4)
    assert "".join(order) == "op" + "oppooppo"
    assert len(found.ours) == len(found.peer) == 4


def test_a_peak_is_what_a_run_needs_beyond_what_is_held() -> None:
    held = np.ones(30 * 2**17)  # 30 MiB, no part of any run
    assert peak_mb(lambda: np.ones(64 * 2**17).sum()) == pytest.approx(64, abs=4)
    assert peak_mb(lambda: np.ones(8 * 2**17).sum()) == pytest.approx(8, abs=4)  # a smaller one after it is its own
    assert peak_mb(lambda: None) < 4 and held.sum() > 0


def test_operations_of_an_encoder_are_those_of_its_matrix_products() -> None:
    from transformers import BertConfig

    config = BertConfig(hidden_size=4, intermediate_size=16, num_attention_heads=1)
    tokens, hidden, inner = 3, 4, 16
    maps = 4 * 2 * tokens * hidden * hidden + 2 * 2 * tokens * hidden * inner
    attention = 2 * 2 * tokens * tokens * hidden  # queries x keys, weights x values
    assert encoder_operations(config, [tokens], 2) == 2 * (maps + attention)


@pytest.mark.parametrize(("method", "variant"), METHODS)
def test_the_materialised_form_has_our_loss_and_gradients(method: str, variant: str) -> None:
    objective, given = objective_of(method, variant, 3, 96), sides(3, 4, 12, 96)
    mine = loss(objective, given)
    gradients = [given[0][3].grad, given[1][2].grad]
    assert materialised(objective, given) == pytest.approx(mine, rel=1e-6)
    for one, other in zip(gradients, (given[0][3].grad, given[1][2].grad), strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert torch.allclose(one, other, atol=1e-6)


def test_a_page_says_what_was_met_missed_checked_and_not_run() -> None:
    made = {"date": "2026-01-02T03:04:05+00:00", "git_commit": "a" * 40, "python": "3.11", "processor": "CPU", "cores": 2,
            "libraries": {"torch": "2"}}  # fmt: skip
    rates = {"matrix_gflops": 100.0, "memory_gb_per_second": 10.0}
    good = row("search", "100 x 8", "FAISS", pairs([1, 2], [2, 2]), Target("share", 0.8), operations=3e10,
               agreement=Agreement("equal", True), scaled="run on 1 of 2")  # fmt: skip
    bad = row("encode", "10 texts", "library", pairs([2], [2]), Target("times", 1.2))
    outcome = Outcome([good, bad], [Growth("search by size", ("n", "s"), [(1, 2.0)])], ["A note."])
    records = {
        "one": record_of("one", outcome, rates, made, 2, False, 2),
        "two": record_of("two", Outcome(absent="no data here"), rates, made, 2, False, 2),
    }
    text = markdown(records)
    # 3e10 operations in a median of 1.5 s are 20 GFLOP/s, a fifth of the machine's 100.
    line = (
        "| search | 100 x 8 (run on 1 of 2) | FAISS | 0.75 (0.5-1) | 1.5 (1-2) | at most 0.8 | yes | 1.5 | 2 |  |  | 20% "
        "| equal |"
    )
    assert line in text and "| at least 1.2 × | **no** |" in text
    assert (
        "| two | not run: no data here |" in text and "| n | s |\n|---|---|\n| 1 | 2.0 |" in text and "A note." in text
    )
    assert "one (2026-01-02T03:04Z, 100 GFLOP/s, 10 GB/s); two (" in text
