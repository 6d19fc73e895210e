"""Definitions of retrieval variants: what is refused, what is drawn, what a plan asks of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from retrieval_cases import (
    METHODS,
    SIZES,
    H,
    L,
    generator,
    objective,
    sides,
)

from matryobench.errors import InputError
from matryobench.objectives.registry import load_methods
from matryobench.objectives.retrieval import RetrievalObjective

ENTRY = """
made:
  title: Made
  description: A method that only this test has.
  source: this test
  colour: "#123456"
  marker: o
  tasks: [retrieval]
  default_variant: one
  variants:
    one:
      description: A variant that only this test has.
      source: this test
      task: retrieval
      losses:
        - {layers: last, dims: full}
"""


def refusals() -> Iterator[Any]:
    losses = "        - {layers: last, dims: full}"
    for name, (old, new, message) in {
        "list without its name": (losses, losses.replace("full", "list"), "'dim_list' is needed exactly where dims is 'list'"),
        "sts word": (losses, losses.replace("full", "nested"), "'nested' exists for sts only; set 'task' to sts"),
        "task left out": (
            "      task: retrieval\n" + "      losses:\n" + losses,
            "      losses:\n" + losses.replace("full", "targets"),
            "'targets' exists for retrieval only; set 'task' to retrieval",
        ),
        "fixed documents": ("task: retrieval", "documents: last", "'documents: last' exists for retrieval only"),
        "no half": (
            losses,
            losses + "\n      alignments: [{kind: score-alignment, layers: last, dims: targets, mse: 0, kl: 0}]",
            "'mse' and 'kl' are both 0; give at least one half a factor",
        ),
        "sts compression": (
            losses,
            losses + "\n      alignments: [{kind: compression, layers: last, compress: pca, divide_by_texts: true}]",
            "'divide_by_texts' and temperature 'base' exist for dims targets or list only",
        ),
        "nothing sampled": (
            losses, losses + "\n      alignments: [{kind: score-kl, students: sampled-layer}]",
            "students 'sampled-layer' need a group of losses with sizes 'sampled-layer'; add it",
        ),
        "other task": ("tasks: [retrieval]", "tasks: [sts]", "variant 'one' is for retrieval, which is not in 'tasks'"),
        "no default": (
            "tasks: [retrieval]", "tasks: [retrieval, sts]",
            "the default variant 'one' is not for sts; add task_defaults.sts",
        ),
        "unknown default": ("default_variant: one", "default_variant: two", "default_variant 'two' is not one of: one"),
    }.items():  # fmt: skip
        yield pytest.param(old, new, message, id=name)


@pytest.mark.parametrize(("old", "new", "message"), refusals())
def test_a_wrong_definition_is_one_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "methods.yaml"
    path.write_text(ENTRY)
    assert load_methods(path)["made"].default_for("retrieval") == "one"
    wrong = tmp_path / "wrong.yaml"
    assert old in ENTRY
    wrong.write_text(ENTRY.replace(old, new))
    with pytest.raises(InputError) as error:
        load_methods(wrong)
    assert message in str(error.value) and str(wrong) in str(error.value) and "\n" not in str(error.value)


def test_a_sampled_layer_is_drawn_by_the_generator_evenly_below_the_last() -> None:
    fixed = objective("2dmse", "sampled-layer")
    chosen = RetrievalObjective(variant=fixed.variant, base=fixed.base, depth=L, width=H, sizes=SIZES)
    assert chosen.draws() == [1, 2, 3] and chosen.query_layers() == [1, 2, 3, 4]
    queries, passages = sides()
    losses = {chosen.at(layer)(queries, passages, None, generator())[0].item(): layer for layer in (1, 2, 3)}
    source = generator()
    drawn = [losses[chosen(queries, passages, None, source)[0].item()] for _ in range(300)]
    assert all(80 <= drawn.count(layer) <= 120 for layer in (1, 2, 3))
    cells = {(one.layer, one.dim, one.probability) for one in chosen.coverage() if one.term == "base"}
    dims = [dim for _, dim in SIZES]
    assert cells == {(layer, dim, 1 / 3) for layer in (1, 2, 3) for dim in dims} | {(L, dim, 1.0) for dim in dims}


def test_what_the_plan_asks_of_a_variant() -> None:
    variants = METHODS["2dmse"].variants
    assert variants["released"].needs == {"target_dims"} and variants["released"].uses_lower_layers
    six = METHODS["+dims"].variants["six"]
    assert six.needs == {"dim_lists"} and six.dim_lists == {"six"}
    assert METHODS["srl"].variants["released-retrieval"].needs == {"sizes"}
    sampled = variants["sampled-layer"]
    assert sampled.needs == {"sizes"} and sampled.uses_lower_layers
    assert METHODS["mse"].default_for("retrieval") == "targets" and METHODS["mse"].default_for("sts") == "v1"
    assert METHODS["fix-doc"].variants["released"].documents == "last"
    assert not METHODS["mse"].variants["targets"].uses_lower_layers
    assert METHODS["paired-doc"].variants["released"].losses == variants["released"].losses
