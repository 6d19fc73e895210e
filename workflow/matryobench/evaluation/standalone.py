"""`matryobench evaluate MODEL`: the whole grid of any model, outside the workflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matryobench.errors import InputError
from matryobench.paths import DATASETS

if TYPE_CHECKING:
    import pandas as pd

    from matryobench.models.encoder import Pooling


def evaluate_standalone(
    model: str,
    task: str,
    sets: str,
    layers: str | None,
    dims: str | None,
    pooling: str | None,
    max_length: int | None,
    revision: str | None,
    mirror_root: Path,
    offline: bool,
    out: Path,
) -> None:
    """See `cli.evaluate`; raises InputError for a task, set, pooling, model or list that cannot be used."""
    from matryobench.data.fetch import fetch_dataset, fetch_model
    from matryobench.data.mirror import Mirror
    from matryobench.data.registry import find_dataset, load_datasets

    if task != "sts":
        raise InputError(f"--task: unknown task '{task}'; the valid one is: sts.")
    poolings: dict[str | None, Pooling | None] = {None: None, "mean": "mean", "cls": "cls"}
    if pooling not in poolings:
        raise InputError(f"--pooling: '{pooling}' is not one of mean, cls; change it.")
    if out.suffix != ".parquet":
        raise InputError(
            f"--out: {out} does not end in .parquet; a cells table is written as parquet with a csv beside it."
        )
    wanted_layers, wanted_dims = _numbers("--layers", layers), _numbers("--dims", dims)
    mirror = Mirror(mirror_root)
    registry = load_datasets(DATASETS)
    columns = {}
    for name in sets.split(","):
        spec = find_dataset(registry, name.strip(), "--sets")
        if spec.kind != "scored-pairs":
            raise InputError(f"--sets: '{name}' has {spec.kind}; an STS test set needs scored pairs.")
        table, _ = fetch_dataset(name.strip(), spec, mirror, offline)
        columns[name.strip()] = {key: table.column(key).to_pylist() for key in ("sentence1", "sentence2", "score")}
    folder = Path(model) if Path(model).is_dir() else fetch_model(model, revision, mirror, offline)

    from matryobench.analysis import cells
    from matryobench.evaluation.results import cells_frame
    from matryobench.evaluation.runs import evaluate_model

    results, _ = evaluate_model(folder, columns, wanted_layers, wanted_dims, poolings[pooling], max_length)
    name = Path(model).resolve().name if Path(model).is_dir() else model
    frame = cells_frame(
        results, experiment="evaluate", method=name, variant="as-is", recipe="as-is", seed=0, run_id=name
    )
    cells.write(frame, out)
    if len(columns) > 1:
        frame = cells.collect([out])
        cells.write(frame, out)
    _print_grids(frame)
    print(f"{len(frame)} rows -> {out} and {out.with_suffix('.csv')}")


def _numbers(option: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option}: '{text}' is not a comma-separated list of whole numbers; e.g. 2,4,6.") from None


def _print_grids(frame: pd.DataFrame) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for dataset, rows in frame.groupby("dataset", sort=False):
        grid = rows.pivot(index="layer", columns="dim", values="value")
        table = Table(title=f"{dataset}: Spearman of cosine similarity", title_justify="left")
        for heading in ("layer", *(f"d={dim}" for dim in grid.columns)):
            table.add_column(heading, justify="right")
        for layer, row in grid.iterrows():
            table.add_row(str(layer), *(f"{value:.4f}" for value in row))
        console.print(table)
