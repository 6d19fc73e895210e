"""The verbs that work on results: tables, figures, tests, verdicts, cost, report. `cli` has them beside its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Config = Annotated[Path, typer.Argument(help="The experiment's YAML file.")]
Out = Annotated[Path, typer.Option("--out", help="File or folder to write.")]
TestedTask = Annotated[str, typer.Argument(help="sts or retrieval.")]
Items = Annotated[list[Path], typer.Argument(help="Items tables of the task's runs.")]
Cells = Annotated[Path, typer.Option(help="The experiment's cells table.")]
Files = Annotated[Path, typer.Option(help="Results folder with the experiment's tables.")]
TableOut = Annotated[Path, typer.Option(help="Table to write (.parquet, and .csv beside it).")]


@app.command()
def collect(
    config: Config,
    tables: Annotated[list[Path], typer.Argument(help="Cells tables of all runs.")],
    files: Annotated[Path, typer.Option(help="Results folder with the records of runs and evaluations.")],
    out: Out,
) -> None:
    """Joins the runs' cells tables to the experiment's one, adds averages; refuses what is not of the config's runs."""
    from matryobench import reports
    from matryobench.plan import Plan

    print(f"{reports.collect(Plan.load(config), tables, files, out)} rows -> {out}")


@app.command()
def figure(
    config: Config,
    name: Annotated[str, typer.Argument(help="Name of the figure, e.g. sts-panels.")],
    cells: Annotated[
        Path, typer.Option(help="The experiment's cells table; the other tables that a figure needs are beside it.")
    ],
    out: Annotated[Path, typer.Option(help="Path without ending; .svg, .png and .pdf are written.")],
) -> None:
    """Draws one figure."""
    from matryobench import reports
    from matryobench.plan import Plan

    for path in reports.draw_figure(Plan.load(config), name, cells, out):
        print(path)


@app.command()
def table(
    config: Config,
    name: Annotated[str, typer.Argument(help="Name of the table, e.g. sts-grid.")],
    cells: Annotated[
        Path, typer.Option(help="The experiment's cells table; the other tables that a table needs are beside it.")
    ],
    out: Annotated[Path, typer.Option(help="Path without ending; .csv, .md and .tex are written.")],
) -> None:
    """Writes one table as csv, markdown and LaTeX."""
    from matryobench import reports
    from matryobench.plan import Plan

    for path in reports.write_table(Plan.load(config), name, cells, out):
        print(path)


@app.command()
def significance(
    config: Config,
    task: TestedTask,
    items: Items,
    cells: Cells,
    files: Files,
    out: TableOut,
) -> None:
    """Tests every method against the task's reference at the named sizes, from per-item scores."""
    from matryobench import evidence
    from matryobench.plan import Plan

    print(f"{evidence.write_significance(Plan.load(config), task, cells, items, files, out)} comparisons -> {out}")


@app.command("grid-tests")
def grid_tests(
    config: Config,
    task: TestedTask,
    items: Items,
    cells: Cells,
    files: Files,
    out: TableOut,
) -> None:
    """Tests every cell of every method against the task's baselines, from per-item scores."""
    from matryobench import evidence
    from matryobench.plan import Plan

    print(f"{evidence.write_grid_tests(Plan.load(config), task, cells, items, files, out)} comparisons -> {out}")


@app.command()
def coverage(
    config: Config,
    records: Annotated[list[Path], typer.Argument(help="run.json of all runs.")],
    out: Annotated[Path, typer.Option(help="Table to write (.csv).")],
) -> None:
    """Writes which (layer, dim) cells each method's loss trained, and with what total weight."""
    from matryobench import evidence
    from matryobench.plan import Plan

    print(f"{evidence.write_coverage(Plan.load(config), records, out)} rows -> {out}")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Evaluation folder of a run, or a pattern of several ('...-s*').")],
    second: Annotated[Path, typer.Argument(help="The one that it is compared with.")],
    metric: Annotated[str | None, typer.Option(help="Metric of retrieval sets; each set's own without it.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the test sets' tables, where they have moved.")] = None,
    margin: Annotated[float, typer.Option(min=0, help="Differences within it count as none (equivalence).")] = 0.01,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Table to write (.parquet, and .csv beside it).")] = None,
) -> None:
    """Prints the differences of two runs on every cell, with intervals, significance and equivalence."""
    from matryobench.analysis import grid_tests
    from matryobench.analysis.run_comparison import compare_runs
    from matryobench.analysis.set_tests import Options
    from matryobench.printing.comparisons import print_comparison

    found = compare_runs(first, second, metric=metric, data=data, options=Options(seed=seed, margin=margin))
    print_comparison(found)
    if out is not None:
        grid_tests.write(found, out)
        print(f"{len(found)} rows -> {out}")


@app.command()
def claims(
    config: Config,
    cells: Annotated[Path, typer.Option(help="The experiment's cells table.")],
    out: Annotated[Path, typer.Option(help="Path without ending; .csv, .md and .html are written.")],
) -> None:
    """Says of every statement of config/claims.yaml what the published numbers and this experiment's say."""
    from matryobench import evidence
    from matryobench.plan import Plan

    for path in evidence.write_claims(Plan.load(config), cells, out):
        print(path)


@app.command()
def report(
    config: Config,
    results: Annotated[Path | None, typer.Option(help="Results folder; the experiment's own without it.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; report.html there without it.")] = None,
) -> None:
    """Writes the report: verdicts, grid explorer, figures, tables and provenance in one HTML file that opens offline."""
    from matryobench.plan import Plan
    from matryobench.report.page import write_report

    loaded = Plan.load(config)
    folder = results or loaded.experiment.folder
    file = out or folder / "report.html"
    missing = write_report(loaded, folder, file)
    for one in missing:
        print(f"missing: {one.file}")
    print(f"{file.stat().st_size / 1e6:.1f} MB, {len(missing)} missing -> {file}")


@app.command()
def published(out: Annotated[Path, typer.Argument(help="Folder to write the figures into.")]) -> None:
    """Draws the papers' figures from their published numbers, by the code that draws an experiment's own."""
    from matryobench.published_figures import draw_published

    for path in draw_published(out):
        print(path)


@app.command()
def notebook(
    results: Annotated[Path, typer.Argument(help="Results folder of an experiment, with tables/cells.parquet.")],
    out: Annotated[Path, typer.Option(help="Path without ending; .ipynb (executed) and .html are written.")],
    notebook: Annotated[
        Path | None, typer.Option(help="Another notebook, such as a copy of notebooks/analysis.ipynb.")
    ] = None,
) -> None:
    """Runs notebooks/analysis.ipynb on an experiment's results: further questions to its tables, as a page to read."""
    from matryobench.notebook import notebook_sources, run_notebook
    from matryobench.paths import NOTEBOOK
    from matryobench.plan import Plan

    config = results / "experiment.yaml"
    sources = notebook_sources(Plan.load(config), results) if config.is_file() and notebook is None else None
    paths = run_notebook(results, out, notebook or NOTEBOOK)
    for path in [*paths, *([sources.sign("notebooks/analysis", paths)] if sources is not None else [])]:
        print(path)


@app.command("measure-cost")
def measure_cost(
    config: Config,
    backbone: Annotated[Path, typer.Option(help="The backbone's record.")],
    files: Annotated[Path, typer.Option(help="Results folder with the test sets' tables and tokens.")],
    out: Annotated[Path, typer.Option(help="Table to write (.parquet; .csv and .json beside it).")],
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the GPU without it, where there is one.")] = None,
) -> None:
    """Measures what every cell costs on this machine: encoder milliseconds, texts and searches per second, bytes."""
    from matryobench.cards import claimed
    from matryobench.data.prepare import backbone_folder
    from matryobench.deployment.jobs import measure_cost as measure
    from matryobench.plan import Plan

    loaded = Plan.load(config)
    with claimed(loaded.experiment.compute.cards(), loaded.experiment.compute.share_gpus):
        print(f"{measure(loaded, backbone_folder(backbone), files, out, device)} rows -> {out}")


@app.command("training-costs")
def training_costs(
    config: Config,
    files: Annotated[Path, typer.Option(help="Results folder with the records of runs and pre-trainings.")],
    out: Annotated[Path, typer.Option(help="Path without ending; .csv, .md and .tex are written.")],
) -> None:
    """Sums up what the training of every method cost: models, seconds, tokens, and how much that is next to BERT."""
    from matryobench.chain.sources import Sources
    from matryobench.deployment import training_costs as costs
    from matryobench.deployment.inputs import training_records
    from matryobench.plan import Plan

    loaded = Plan.load(config)
    titles = {name: method.title for name, method in loaded.methods.items()}
    sources = Sources.of(loaded, files, [files / record for record in training_records(loaded)])
    paths = costs.write_training_costs(costs.training_costs(loaded, files), out, titles)
    for path in [*paths, sources.sign("tables/training-costs", paths)]:
        print(path)


@app.command()
def recommend(
    results: Annotated[Path, typer.Argument(help="Results folder, or the experiment's YAML file.")],
    task: Annotated[str | None, typer.Option(help="sts, retrieval or mteb; the only one without it.")] = None,
    dataset: Annotated[str, typer.Option(help="Test set, or the average over all.")] = "average",
    metric: Annotated[str | None, typer.Option(help="Metric of the quality; the task's own without it.")] = None,
    max_query_ms: Annotated[float | None, typer.Option(help="Encoder milliseconds of one query at most.")] = None,
    max_bytes_per_document: Annotated[
        float | None, typer.Option(help="Bytes of a document's float32 vector in the index at most.")
    ] = None,
    max_index_gb: Annotated[float | None, typer.Option(help="GB (10^9 bytes) of the index at most.")] = None,
    documents: Annotated[int | None, typer.Option(min=1, help="Documents of that index.")] = None,
    min_quality: Annotated[float | None, typer.Option(help="Quality at least; asks for the cheapest cell.")] = None,
    min_share: Annotated[
        float | None, typer.Option(help="Quality as a share of the best one at least, e.g. 0.95.")
    ] = None,
    cheapest_in: Annotated[str, typer.Option(help="What 'cheapest' means: query-ms or bytes.")] = "query-ms",
    method: Annotated[list[str] | None, typer.Option(help="Only this method; may be given several times.")] = None,
    alternatives: Annotated[int, typer.Option(min=0, help="How many next best cells are shown.")] = 3,
) -> None:
    """Names the cell to deploy: the best within bounds of cost, or the cheapest that is good enough; and its export."""
    from matryobench.deployment.recommend_printing import print_recommendation
    from matryobench.deployment.recommending import Wish

    wish = Wish(
        task=task, dataset=dataset, metric=metric, max_query_ms=max_query_ms,
        max_bytes_per_document=max_bytes_per_document, max_index_gb=max_index_gb, documents=documents,
        min_quality=min_quality, min_share=min_share, cheapest_in=cheapest_in, methods=tuple(method or ()),
    )  # fmt: skip
    print_recommendation(results, wish, alternatives)
