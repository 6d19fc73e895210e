"""What `matryobench recommend` prints: the cell, what it costs next to the full model, how sure that is, its export."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from matryobench import layout
from matryobench.analysis.blocks import signed
from matryobench.analysis.cells import LINE
from matryobench.analysis.cells import read as read_cells
from matryobench.config import load_experiment
from matryobench.deployment import costs
from matryobench.deployment.recommending import GB, Choice, Wish, full_model, recommend, task_and_metric
from matryobench.deployment.uncertainty import difference_interval
from matryobench.deployment.weighing import weigh
from matryobench.errors import InputError


def print_recommendation(results: Path, wish: Wish, alternatives: int) -> None:
    """Prints the recommendation from a results folder or the YAML file of an experiment.

    Raises InputError where tables are missing, naming the command that makes them, and as `recommending.recommend` does.
    """
    folder = results_folder(results)
    cells = read_cells(_existing(folder, "tables/cells.parquet"))
    measured = costs.read(_existing(folder, layout.DEPLOYMENT))
    task, metric = task_and_metric(cells, wish)
    weighed = weigh(cells, measured, task=task, dataset=wish.dataset, metric=metric)
    choice = recommend(weighed, wish)
    full = full_model(weighed, choice.rows.iloc[0])
    interval = difference_interval(folder, cells, task, wish.dataset, metric, choice.rows.iloc[0], full)
    for line in lines(folder, wish, task, metric, full, interval, choice, alternatives):
        print(line)


def results_folder(results: Path) -> Path:
    """The results folder itself, or that of an experiment's YAML file. Raises InputError where there is neither."""
    if results.is_dir():
        return results
    if results.suffix in (".yaml", ".yml"):
        return load_experiment(results).folder
    raise InputError(f"{results}: is no results folder and no YAML file; give results/<experiment> or its config.")


def lines(
    folder: Path,
    wish: Wish,
    task: str,
    metric: str,
    full: pd.Series,
    interval: tuple[float, float] | None,
    choice: Choice,
    alternatives: int,
) -> Iterator[str]:
    """The lines of the answer; `full` is the model that the recommended cell replaces, `interval` of their difference."""
    row = choice.rows.iloc[0]
    yield f"{task}, {wish.dataset}, {metric}: {_reason(wish, choice)} of {len(choice.rows)} cells within the bounds"
    yield f"  {_name(row)}"
    yield f"  quality {_quality(row)}, {_share(row['mean'], choice.best)} of the best cell ({choice.best:.4f})"
    yield (
        f"  one query {row['query_ms']:.2f} ms (95% within {row['query_ms_p95']:.2f} ms), "
        f"{row['texts_per_second']:,.0f} texts/s, encoder {row['encoder_bytes'] / 1e6:.1f} MB"
    )
    yield f"  index {row['bytes_per_document']:,.0f} bytes per document{_index(row, wish)}"
    if (row["layer"], row["dim"]) != (full["layer"], full["dim"]):
        yield f"against the full model, {_name(full)}:"
        share = _share(row["mean"], full["mean"])
        yield f"  quality {signed(row['mean'] - full['mean'], 4)}{_between(interval)} ({share}),"
        yield (
            f"  query time {_factor(row, full, 'query_ms')}, index {_factor(row, full, 'bytes_per_document')}, encoder "
            f"{_factor(row, full, 'encoder_bytes')}, texts/s {_factor(row, full, 'texts_per_second')}"
        )
    yield "how sure:"
    yield from (f"  {sentence}" for sentence in confidence(folder, task, metric, row))
    following = choice.rows.iloc[1 : 1 + alternatives]
    if not following.empty:
        yield "next:"
        for _, other in following.iterrows():
            yield (
                f"  {_quality(other)}, {other['query_ms']:.2f} ms, {other['bytes_per_document']:,.0f} bytes: {_name(other)}"
            )
    yield "to use it:"
    yield from (f"  {command}" for command in export_commands(folder, row))


def export_commands(folder: Path, row: pd.Series) -> list[str]:
    """The command that writes the cell as a model folder; two where queries and documents are read at other layers."""
    sides = {"": row["layer"]}
    if row["document_layer"] != row["layer"]:
        sides = {"-queries": row["layer"], "-documents": row["document_layer"]}
    commands = []
    for side, layer in sides.items():
        run, out = folder / "runs" / row["run_id"], f"{row['run_id']}-layer{layer}-dim{row['dim']}{side}"
        commands.append(
            f"matryobench export {shlex.quote(str(run))} {shlex.quote(out)} --layer {layer} --dim {row['dim']}"
        )
    return commands


def confidence(folder: Path, task: str, metric: str, row: pd.Series) -> Iterator[str]:
    """What the tables say about the quality of a cell: its spread over seeds, and the paired tests at this size."""
    if row["seeds"] > 1:
        yield f"{row['seeds']} seeds, from {row['low']:.4f} to {row['high']:.4f}."
    else:
        yield "A single seed, so nothing is known about other trainings."
    file = folder / "tables" / f"{task}-significance.parquet"
    if not file.exists():
        yield "No paired tests are in the tables."
        return
    from matryobench.analysis import significance

    table = significance.read(file)
    own = table[(table[[*LINE, "layer", "dim"]] == row[[*LINE, "layer", "dim"]]).all(axis=1)]
    if task == "retrieval":
        own = own[own["metric"] == metric]
    if own.empty:
        yield "No paired test was made at this cell."
    for test in own.to_dict("records"):
        word = "differs" if test["significant"] else "does not differ significantly"
        yield (
            f"On {test['dataset']} it {word} from {test['reference']} ({signed(test['difference'], 4)}, "
            f"p {test['p_holm']:.3g} by Holm, {test['test']})."
        )


def _existing(folder: Path, file: str) -> Path:
    path = folder / file
    if path.exists():
        return path
    config = folder / "experiment.yaml"
    made_by = f"snakemake --cores all --configfile {config} -- {path}"
    raise InputError(f"{path}: is missing; make it with `{made_by}`.")


def _reason(wish: Wish, choice: Choice) -> str:
    if choice.cheapest:
        return f"the cheapest (in {wish.cheapest_in}) that is good enough,"
    return "the best"


def _name(row: pd.Series) -> str:
    layer = f"layer {row['layer']}"
    if row["document_layer"] != row["layer"]:
        layer = f"layer {row['layer']} for queries and {row['document_layer']} for documents"
    return f"{layer}, dim {row['dim']} of {row['method']} ({row['variant']}, {row['recipe']}), run {row['run_id']}"


def _quality(row: pd.Series) -> str:
    return f"{row['mean']:.4f}" + (f" ± {row['sd']:.4f}" if row["seeds"] > 1 else "")


def _between(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    return f" [95%: {signed(interval[0], 4)} .. {signed(interval[1], 4)} over items]"


def _share(value: float, of: float) -> str:
    return f"{100 * value / of:.1f}%" if of > 0 else "–"


def _factor(row: pd.Series, full: pd.Series, column: str) -> str:
    return f"x {row[column] / full[column]:.2f}"


def _index(row: pd.Series, wish: Wish) -> str:
    if wish.documents is None:
        return ""
    return f", {row['bytes_per_document'] * wish.documents / GB:.3g} GB of {wish.documents:,} documents"
