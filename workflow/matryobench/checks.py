"""What can be wrong with a task's settings, found before any job starts: one sentence with file, key and fix.

Nothing here imports torch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from matryobench import products
from matryobench.config import PretrainedBackbone
from matryobench.data.registry import find_collection, find_dataset
from matryobench.data.specs import DatasetSpec
from matryobench.errors import InputError, unknown_name
from matryobench.evaluation.instructions import check_instructions
from matryobench.tasks import TRAINED_AS, MtebTask, RetrievalRecipe, RetrievalTask, RunEntry, StsRecipe, StsTask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matryobench.grid import Cell
    from matryobench.plan import Plan

# What a reference library can train, by task: (method, variant) pairs.
BACKENDS: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "sentence-transformers": {"sts": (("bert", "paper"), ("mse", "v1"), ("2dmse-v1", "st-5.7"))},
    "tevatron": {"retrieval": (("bert", "paper"),)},
}


_LETTERS = "must be lower-case letters, digits, {} because files are named after it; rename it."
# What files are named after; the rules' wildcards hold nothing else.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*", re.ASCII)
_RECIPE = re.compile(r"[a-z0-9][a-z0-9_.-]*", re.ASCII)
_PATH = re.compile(
    r"[\w./+,=@%:][\w./+,=@%:-]*"
)  # letters of any alphabet, and nothing that a shell reads as more than a letter


def check_names(plan: Plan) -> None:
    """Names that files are called after and the results folder, which stands in the jobs' shell commands."""
    for name in plan.experiment.pretraining:
        if not _NAME.fullmatch(name):
            raise InputError(f"{plan.place}: pretraining: the name {name!r} {_LETTERS.format('or dashes')}")
    for task, spec in plan.tasks.items():
        for name in spec.recipes:
            if not _RECIPE.fullmatch(name):
                letters = _LETTERS.format("dots, dashes or underscores")
                raise InputError(f"{plan.place}: {task}.recipes: the name {name!r} {letters}")
    if not _PATH.fullmatch(str(plan.experiment.folder)):
        raise InputError(
            f"{plan.place}: results: the folder {str(plan.experiment.folder)!r} has a space or a sign that a shell would "
            "read; use letters, digits and ._-/ only."
        )


def check_pretraining(plan: Plan) -> None:
    """Pre-training needs datasets of kind text and sizes that fit the backbone."""
    backbone = plan.experiment.backbone
    texts = {"backbone.text": backbone.text} if isinstance(backbone, PretrainedBackbone) else {}
    texts |= {f"pretraining.{name}.text": spec.text for name, spec in plan.experiment.pretraining.items()}
    for key, name in texts.items():
        place = f"{plan.place}: {key}"
        spec = find_dataset(plan.datasets, name, place)
        if spec.kind != "text":
            raise InputError(f"{place}: '{name}' has {spec.kind}; pre-training needs a dataset of kind text.")
    for name in plan.experiment.pretraining:
        _check_sizes(plan, plan.pretraining_sizes(name), f"pretraining.{name}.sizes")


def check_task(plan: Plan, name: str) -> None:
    """The task's datasets, grid, sizes, widths and names of methods."""
    task = plan.tasks[name]
    where = f"{plan.place}: {name}"
    for number, dataset in enumerate(task.sets):
        if task.sets.count(dataset) > 1:
            raise InputError(f"{where}.evaluate.{number}: '{dataset}' is listed twice; list every test set once.")
    if isinstance(task, RetrievalTask):
        _check_retrieval_data(plan, task)
    else:
        _check_sentence_recipes(plan, name, task.recipes)
    if isinstance(task, StsTask):
        _check_sts_sets(plan, task)
    if isinstance(task, MtebTask):
        _check_mteb_sets(plan, task)
    for number, method in enumerate(task.baselines):
        if method not in plan.methods:
            raise unknown_name(f"{where}.baselines.{number}", "method", method, plan.methods)
    if task.reference is not None:
        run = [entry.method for entry in task.runs if "native" in entry.backends]
        if task.reference not in run:
            raise unknown_name(f"{where}.reference", "method of this task's runs", task.reference, run)
        if isinstance(task, MtebTask) or not task.sizes:
            raise InputError(f"{where}.reference: methods are compared at sizes, which {name} has none of; remove it.")
    for layer in task.grid.layers:
        _check_layer(plan, layer, f"{name}.grid.layers")
    for dim in task.grid.dims:
        _check_dim(plan, dim, f"{name}.grid.dims")
    _check_sizes(plan, plan.sizes(name), f"{name}.sizes")
    for recipe_name, recipe in task.recipes.items():
        for key, dims in _widths(recipe).items():
            for dim in dims:
                _check_dim(plan, dim, f"{name}.recipes.{recipe_name}.{key}")


def check_shown(plan: Plan, name: str) -> None:
    """Figures and tables of methods show native runs, so there must be one."""
    if all(run.backend != "native" for run in plan.runs_of(name)):
        raise InputError(
            f"{plan.place}: {name}.runs: only reference backends are run, which are shown beside this program's own; add"
            " native to the backends of one."
        )


def check_published(plan: Plan, name: str) -> None:
    """The published numbers that a task is compared with must have something that is evaluated."""
    published = plan.tasks[name].published
    if published is not None and not any(
        products.is_published(plan, *one) for one in products.shown(plan) if one[0] == name
    ):
        raise InputError(
            f"{plan.place}: {name}.published: the numbers of '{published}' have none of this task's test sets (an average"
            " must be over the same sets), recipes and methods; remove it or evaluate what they have."
        )


def check_entry(plan: Plan, place: str, task_name: str, entry: RunEntry) -> None:
    """An entry of `runs`: known method for this task, known variants and recipes, cells on the grid."""
    task = plan.tasks[task_name]
    if entry.method not in plan.methods:
        raise unknown_name(f"{place}.method", "method", entry.method, plan.methods)
    method = plan.methods[entry.method]
    if TRAINED_AS[task_name] not in method.tasks:
        raise InputError(
            f"{place}.method: {entry.method} is not defined for {task_name} but for {', '.join(method.tasks)}; remove it."
        )
    if method.pretraining is not None and method.pretraining not in plan.experiment.pretraining:
        raise InputError(
            f"{place}.method: {entry.method} starts from the pre-training '{method.pretraining}', which this config"
            f" lacks; add 'pretraining.{method.pretraining}'."
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
    if definition.task not in ("any", TRAINED_AS[task_name]):
        raise InputError(f"{place}.variants: {method} ({variant}) is defined for {definition.task}; use another one.")
    if entry.cells and definition.runs == "one":
        raise InputError(f"{place}.cells: {method} trains one model for all cells; remove 'cells'.")
    for backend in entry.backends:
        known = BACKENDS.get(backend, {}).get(task_name, ())
        if backend != "native" and (method, variant) not in known:
            able = ", ".join(f"{name} ({kind})" for name, kind in known) or f"nothing of {task_name}"
            raise InputError(f"{place}.backends: {backend} cannot train {method} ({variant}); it trains {able}.")
        if backend != "native" and plan.datasets[recipe.train].kind == "instructed":
            raise InputError(
                f"{place}.backends: {backend} cannot leave instructions out of the pooling, which '{recipe.train}' needs;"
                " remove the backend or train on triplets."
            )
        if backend != "native" and recipe.training.processes > 1:
            raise InputError(f"{place}.backends: {backend} trains in one process; set {where}.training.processes to 1.")
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
        sizes = plan.sizes(task_name)
        if not sizes:
            raise InputError(
                f"{plan.place}: key '{task_name}.sizes' is missing, which {method} ({variant}) trains; add it."
            )
        full = (plan.shape.layers, plan.shape.hidden)
        if None not in full and full not in sizes.values():
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


def _check_sizes(plan: Plan, sizes: Mapping[str, Cell], key: str) -> None:
    for size, (layer, dim) in sizes.items():
        _check_layer(plan, layer, f"{key}.{size}")
        _check_dim(plan, dim, f"{key}.{size}")


def _check_sentence_recipes(plan: Plan, task: str, recipes: Mapping[str, StsRecipe]) -> None:
    for name, recipe in recipes.items():
        place = f"{plan.place}: {task}.recipes.{name}.train"
        spec = find_dataset(plan.datasets, recipe.train, place)
        if spec.kind not in ("triplets", "scored-pairs", "instructed"):
            raise InputError(
                f"{place}: '{recipe.train}' has {spec.kind}; name a dataset of triplets, scored pairs or instructed ones."
            )
        _check_base(f"{plan.place}: {task}.recipes.{name}.base", recipe, spec)


def _check_mteb_sets(plan: Plan, task: MtebTask) -> None:
    for family, names in task.evaluate.items():
        for number, name in enumerate(names):
            place = f"{plan.place}: mteb.evaluate.{family}.{number}"
            if family == "retrieval":
                find_collection(plan.collections, name, place)
            elif name not in plan.classifications:
                raise unknown_name(place, "classification set", name, plan.classifications)
    check_instructions(task.instructions, task.evaluate, f"{plan.place}: mteb.instructions")
    longest = plan.shape.positions
    if longest is not None and task.max_length > longest:
        raise InputError(
            f"{plan.place}: mteb.max_length: {task.max_length} is more than the backbone's {longest} positions; lower it."
        )


def _check_sts_sets(plan: Plan, task: StsTask) -> None:
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
    for claimed, name in task.stand_ins.items():
        if name not in (*task.evaluate, "average"):
            place = f"{plan.place}: retrieval.stand_ins.{claimed}"
            raise unknown_name(place, "evaluated set", name, [*task.evaluate, "average"])
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
    if spec.kind != "scored-pairs" and base.loss == "cosent":
        raise InputError(f"{place}: cosent needs scored pairs and '{recipe.train}' has triplets; use mnrl or angle.")
    if spec.kind == "scored-pairs" and base.loss in ("mnrl", "instructor"):
        raise InputError(
            f"{place}: {base.loss} needs triplets and '{recipe.train}' has scored pairs; use cosent or angle."
        )
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
