"""What can be wrong with a task's settings, found before any job starts: one sentence with file, key and fix.

Nothing here imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matryobench.config import PretrainedBackbone
from matryobench.data.registry import find_collection, find_dataset
from matryobench.data.specs import DatasetSpec
from matryobench.errors import InputError, unknown_name
from matryobench.tasks import RetrievalRecipe, RetrievalTask, RunEntry, StsRecipe, StsTask

if TYPE_CHECKING:
    from matryobench.plan import Plan

# What a reference library can train, by task: (method, variant) pairs.
BACKENDS: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "sentence-transformers": {"sts": (("bert", "paper"), ("mse", "v1"), ("2dmse-v1", "st-5.7"))},
    "tevatron": {"retrieval": (("bert", "paper"),)},
}


def check_pretraining_text(plan: Plan) -> None:
    """The text that the backbone is pre-trained on must be a dataset of kind text."""
    backbone = plan.experiment.backbone
    if isinstance(backbone, PretrainedBackbone):
        place = f"{plan.place}: backbone.text"
        spec = find_dataset(plan.datasets, backbone.text, place)
        if spec.kind != "text":
            raise InputError(f"{place}: '{backbone.text}' has {spec.kind}; pre-training needs a dataset of kind text.")


def check_task(plan: Plan, name: str) -> None:
    """The task's datasets, grid, sizes, widths and names of methods."""
    task = plan.tasks[name]
    where = f"{plan.place}: {name}"
    for number, dataset in enumerate(task.evaluate):
        if task.evaluate.count(dataset) > 1:
            raise InputError(f"{where}.evaluate.{number}: '{dataset}' is listed twice; list every test set once.")
    if isinstance(task, StsTask):
        _check_sts_data(plan, task)
    else:
        _check_retrieval_data(plan, task)
    for number, method in enumerate(task.baselines):
        if method not in plan.methods:
            raise unknown_name(f"{where}.baselines.{number}", "method", method, plan.methods)
    for layer in task.grid.layers:
        _check_layer(plan, layer, f"{name}.grid.layers")
    for dim in task.grid.dims:
        _check_dim(plan, dim, f"{name}.grid.dims")
    for size, (layer, dim) in task.sizes.items():
        _check_layer(plan, layer, f"{name}.sizes.{size}")
        _check_dim(plan, dim, f"{name}.sizes.{size}")
    for recipe_name, recipe in task.recipes.items():
        for key, dims in _widths(recipe).items():
            for dim in dims:
                _check_dim(plan, dim, f"{name}.recipes.{recipe_name}.{key}")


def check_entry(plan: Plan, place: str, task_name: str, entry: RunEntry) -> None:
    """An entry of `runs`: known method for this task, known variants and recipes, cells on the grid."""
    task = plan.tasks[task_name]
    if entry.method not in plan.methods:
        raise unknown_name(f"{place}.method", "method", entry.method, plan.methods)
    method = plan.methods[entry.method]
    if task_name not in method.tasks:
        raise InputError(
            f"{place}.method: {entry.method} is not defined for {task_name} but for {', '.join(method.tasks)}; remove it."
        )
    for variant in entry.variants:
        if variant not in method.variants:
            raise unknown_name(f"{place}.variants", f"variant of {entry.method}", variant, method.variants)
    for recipe in entry.recipes:
        if recipe not in task.recipes:
            raise unknown_name(f"{place}.recipes", "recipe", recipe, task.recipes)
    for layer, dim in entry.cells:
        if layer not in task.grid.layers or dim not in task.grid.dims:
            raise InputError(
                f"{place}.cells: [{layer}, {dim}] is not in {task_name}.grid; add it there or remove it here."
            )


def check_variant(plan: Plan, place: str, task_name: str, entry: RunEntry, variant: str, recipe_name: str) -> None:
    """One variant x recipe of an entry: everything that the variant reads must be given, and fit the backbone."""
    method = entry.method
    definition = plan.methods[method].variants[variant]
    task, recipe = plan.tasks[task_name], plan.tasks[task_name].recipes[recipe_name]
    where = f"{plan.place}: {task_name}.recipes.{recipe_name}"
    if definition.task not in ("any", task_name):
        raise InputError(f"{place}.variants: {method} ({variant}) is defined for {definition.task}; use another one.")
    if entry.cells and definition.runs == "one":
        raise InputError(f"{place}.cells: {method} trains one model for all cells; remove 'cells'.")
    for backend in entry.backends:
        known = BACKENDS.get(backend, {}).get(task_name, ())
        if backend != "native" and (method, variant) not in known:
            able = ", ".join(f"{name} ({kind})" for name, kind in known) or f"nothing of {task_name}"
            raise InputError(f"{place}.backends: {backend} cannot train {method} ({variant}); it trains {able}.")
        if backend == "tevatron" and recipe.pooling != "cls":
            raise InputError(f"{place}.backends: tevatron pools the first token only; set {where}.pooling to cls.")
    for key in sorted(definition.needs - {"sizes", "dim_lists"}):
        if not getattr(recipe, key):
            raise InputError(f"{where}: key '{key}' is missing, which {method} ({variant}) trains; add it.")
    for name in sorted(definition.dim_lists):
        if isinstance(recipe, RetrievalRecipe) and not recipe.dim_lists.get(name):
            raise InputError(f"{where}: key 'dim_lists.{name}' is missing, which {method} ({variant}) trains; add it.")
    if isinstance(recipe, StsRecipe) and recipe.base.loss == "angle" and recipe.base.angle_weight:
        odd = [d for d in [*recipe.nested_dims, recipe.target_dim or 2, *task.grid.dims] if d % 2]
        if odd:
            raise InputError(f"{where}: the angle term needs even widths and {odd[0]} is odd; change the width.")
    if "sizes" in definition.needs:
        if not task.sizes:
            raise InputError(
                f"{plan.place}: key '{task_name}.sizes' is missing, which {method} ({variant}) trains; add it."
            )
        full = (plan.shape.layers, plan.shape.hidden)
        if None not in full and full not in task.sizes.values():
            raise InputError(
                f"{plan.place}: {task_name}.sizes: the full size {list(full)} is missing, which {method} aligns the"
                " others with; add it."
            )
    if definition.uses_lower_layers and plan.shape.layers == 1:
        raise InputError(
            f"{place}: {method} ({variant}) trains layers below the last and the backbone has one; remove it."
        )


def _widths(recipe: StsRecipe | RetrievalRecipe) -> dict[str, list[int]]:
    if isinstance(recipe, StsRecipe):
        return {"nested_dims": recipe.nested_dims, "target_dim": [recipe.target_dim] if recipe.target_dim else []}
    return {"target_dims": recipe.target_dims, **{f"dim_lists.{key}": dims for key, dims in recipe.dim_lists.items()}}


def _check_sts_data(plan: Plan, task: StsTask) -> None:
    for name, recipe in task.recipes.items():
        place = f"{plan.place}: sts.recipes.{name}.train"
        spec = find_dataset(plan.datasets, recipe.train, place)
        if spec.kind not in ("triplets", "scored-pairs"):
            raise InputError(f"{place}: '{recipe.train}' has {spec.kind}; name a dataset of triplets or scored pairs.")
        _check_base(f"{plan.place}: sts.recipes.{name}.base", recipe, spec)
    for number, name in enumerate(task.evaluate):
        place = f"{plan.place}: sts.evaluate.{number}"
        spec = find_dataset(plan.datasets, name, place)
        if spec.kind != "scored-pairs":
            raise InputError(f"{place}: '{name}' has {spec.kind}; an STS test set needs scored pairs.")


def _check_retrieval_data(plan: Plan, task: RetrievalTask) -> None:
    for name, recipe in task.recipes.items():
        place = f"{plan.place}: retrieval.recipes.{name}.train"
        spec = find_dataset(plan.datasets, recipe.train, place)
        if spec.kind != "groups":
            raise InputError(f"{place}: '{recipe.train}' has {spec.kind}; name a dataset of groups (Tevatron's form).")
        if recipe.training.batch_size * recipe.group_size < 2:
            raise InputError(
                f"{plan.place}: retrieval.recipes.{name}: one query with one passage has no negative; enlarge"
                " group_size or training.batch_size."
            )
    for number, name in enumerate(task.evaluate):
        find_collection(plan.collections, name, f"{plan.place}: retrieval.evaluate.{number}")
    for number, name in enumerate(task.average):
        if name not in task.evaluate:
            place = f"{plan.place}: retrieval.average.{number}"
            raise unknown_name(place, "evaluated set", name, task.evaluate)
    for layer, dim in task.run_files:
        if layer not in task.grid.layers or dim not in task.grid.dims:
            raise InputError(
                f"{plan.place}: retrieval.run_files: [{layer}, {dim}] is not in retrieval.grid; change it."
            )
    for figure, methods in task.panels.items():
        for method in methods:
            if method not in plan.methods:
                raise unknown_name(f"{plan.place}: retrieval.panels.{figure}", "method", method, plan.methods)


def _check_base(place: str, recipe: StsRecipe, spec: DatasetSpec) -> None:
    base = recipe.base
    if spec.kind == "triplets" and base.loss == "cosent":
        raise InputError(f"{place}: cosent needs scored pairs and '{recipe.train}' has triplets; use mnrl or angle.")
    if spec.kind == "scored-pairs" and base.loss == "mnrl":
        raise InputError(f"{place}: mnrl needs triplets and '{recipe.train}' has scored pairs; use cosent or angle.")
    if spec.kind == "scored-pairs" and base.loss == "angle" and base.contrastive_weight:
        raise InputError(
            f"{place}.contrastive_weight: the contrastive term needs triplets and '{recipe.train}' has scored"
            " pairs; set it to 0."
        )


def _check_layer(plan: Plan, layer: int, key: str) -> None:
    last = plan.shape.layers
    if layer < 1 or (last is not None and layer > last):
        top = f"1..{last}" if last else "1 and above"
        raise InputError(f"{plan.place}: {key}: layer {layer} is not in {top}, the backbone's layers; change it.")


def _check_dim(plan: Plan, dim: int, key: str) -> None:
    width = plan.shape.hidden
    if dim < 1 or (width is not None and dim > width):
        top = f"1..{width}" if width else "1 and above"
        raise InputError(f"{plan.place}: {key}: dim {dim} is not in {top}, the backbone's width; change it.")
