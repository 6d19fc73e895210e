"""The registry of claims: `config/claims.yaml`, checked."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from matryobench.claims.spec import PUBLISHED_VARIANTS, Cells, Claim, Claims, Paper, Series
from matryobench.data.registry import load_classifications, load_collections, load_datasets
from matryobench.errors import InputError, unknown_name
from matryobench.objectives.registry import load_methods
from matryobench.objectives.spec import Method
from matryobench.paths import CLAIMS, DATASETS
from matryobench.validation import parse, read_yaml

AVERAGE = "average"


@lru_cache
def load_claims(path: Path = CLAIMS) -> Claims:
    """Reads and checks the claims. Raises InputError, one sentence naming file, claim and fix, also for a name of a
    paper, method, variant, dataset or size that there is not, and for a cell that is not on the paper's grid."""
    found = parse(Claims, _entries_first(read_yaml(path), path), str(path))
    methods = load_methods()
    datasets = {AVERAGE, *load_datasets(DATASETS), *load_collections(DATASETS), *load_classifications(DATASETS)}
    for name, claim in found.claims.items():
        place = f"{path}: claim '{name}'"
        if claim.paper not in found.papers:
            raise unknown_name(place, "paper", claim.paper, found.papers)
        if claim.dataset not in datasets:
            raise unknown_name(place, "data set", claim.dataset, datasets)
        for check in claim.checks:
            for series in (part for one in check.series() for part in one.parts()):
                _check_series(place, series, methods)
            for cells in check.all_cells():
                _check_cells(place, cells, found.papers[claim.paper])
    return found


def _entries_first(data: Any, path: Path) -> Any:
    """Checks the claims one by one, so that an error names the claim and not a place in the whole file."""
    entries = data.get("claims") if isinstance(data, dict) else None
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        parse(Claim, entry, f"{path}: claim '{name}'")
    return data


def _check_series(place: str, series: Series, methods: dict[str, Method]) -> None:
    if series.method not in methods:
        raise unknown_name(place, "method", series.method, methods)
    variants = {*methods[series.method].variants, *PUBLISHED_VARIANTS}
    for variant in series.variants:
        if variant not in variants:
            raise unknown_name(place, f"variant of {series.method}", variant, variants)


def _check_cells(place: str, cells: Cells, paper: Paper) -> None:
    for name in cells.sizes:
        if name not in paper.sizes:
            raise unknown_name(place, "size", name, paper.sizes)
    for layer, dim in cells.pairs:
        if layer not in paper.grid.layers or dim not in paper.grid.dims:
            raise _not_on_grid(place, f"cell ({layer}, {dim})", paper)
    for what, named, valid in (("layer", cells.layers, paper.grid.layers), ("dim", cells.dims, paper.grid.dims)):
        for value in named if isinstance(named, list) else ():
            if value not in valid:
                raise _not_on_grid(place, f"{what} {value}", paper)


def _not_on_grid(place: str, what: str, paper: Paper) -> InputError:
    layers, dims = (", ".join(map(str, values)) for values in (paper.grid.layers, paper.grid.dims))
    return InputError(
        f"{place}: {what} is not on the paper's grid; name layers of {layers} and dims of {dims}, on which it gives"
        " values."
    )
