"""How many cells a run's loss is evaluated at in a step, read off its variant without loading torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matryobench.objectives.spec import CellGroup, Compression, LayerGroup, ScoreAlignment, SizeGroup
from matryobench.tasks import RetrievalRecipe, StsRecipe

if TYPE_CHECKING:
    from matryobench.estimating.shapes import EncoderShape
    from matryobench.plan import Plan, Run

COMPRESSION_TERMS = 4
"""A compression's decomposition, MSE and KL, in loss terms."""


def base_dims(plan: Plan, run: Run, shape: EncoderShape) -> list[int]:
    """The width of every cell at which a step evaluates the base loss; of drawn ones the widest."""
    dims: list[int] = []
    for group in plan.variant(run).losses:
        if isinstance(group, SizeGroup):
            widths = [dim for _, dim in plan.sizes(run.task).values()]
            dims += widths if group.sizes == "all" else 2 * widths
        else:
            dims += _layers(group, run.layers or shape.layers) * _dims(plan, run, group, shape.hidden)
    return dims


def loss_terms(plan: Plan, run: Run, shape: EncoderShape) -> int:
    """Base losses and alignments of a step."""
    count, depth = len(base_dims(plan, run, shape)), run.layers or shape.layers
    for alignment in plan.variant(run).alignments:
        if isinstance(alignment, Compression | ScoreAlignment):
            cells = _layers(alignment, depth) * len(_dims(plan, run, alignment, shape.hidden))
            if isinstance(alignment, ScoreAlignment):
                count += 2 * cells
            else:
                count += COMPRESSION_TERMS * cells
        elif alignment.students == "sampled":
            count += 1
        else:
            count += max(1, len(plan.sizes(run.task)) - 1)
    return count


def _layers(group: LayerGroup, depth: int) -> int:
    return depth - 1 if group.layers in ("below-last", "input-to-second-last") else 1


def _dims(plan: Plan, run: Run, group: CellGroup, width: int) -> list[int]:
    recipe = plan.recipe(run)
    match group.dims:
        case "nested" | "one-nested":
            assert isinstance(recipe, StsRecipe)
            return recipe.nested_dims if group.dims == "nested" else recipe.nested_dims[:1]
        case "target":
            assert isinstance(recipe, StsRecipe) and recipe.target_dim is not None
            return [recipe.target_dim]
        case "targets":
            assert isinstance(recipe, RetrievalRecipe)
            return recipe.target_dims
        case "list":
            assert isinstance(recipe, RetrievalRecipe) and group.dim_list is not None
            return recipe.dim_lists[group.dim_list]
        case "cell":
            assert run.cell is not None and run.cell[1] is not None
            return [run.cell[1]]
        case _:
            return [width]
