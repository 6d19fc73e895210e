"""The objective of a run of a plan, for an encoder of a given depth and width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matryobench.objectives.objective import Objective
from matryobench.objectives.retrieval import RetrievalObjective
from matryobench.tasks import StsRecipe

if TYPE_CHECKING:
    from matryobench.plan import Plan, Run


def objective_of(plan: Plan, run: Run, depth: int, width: int) -> Objective | RetrievalObjective:
    """The objective that the run trains; `depth` is L and `width` is H of its encoder (truncated where the run is)."""
    recipe, variant = plan.recipe(run), plan.variant(run)
    sizes = tuple(sorted(plan.sizes(run.task).values()))
    if isinstance(recipe, StsRecipe):
        return Objective(
            variant=variant,
            base=recipe.base,
            depth=depth,
            width=width,
            nested_dims=tuple(recipe.nested_dims),
            target_dim=recipe.target_dim,
            sizes=sizes,
            cell=run.cell,
        )
    return RetrievalObjective(
        variant=variant,
        base=recipe.base,
        depth=depth,
        width=width,
        target_dims=tuple(recipe.target_dims),
        dim_lists={name: tuple(dims) for name, dims in recipe.dim_lists.items()},
        sizes=sizes,
        cell=run.cell,
    )
