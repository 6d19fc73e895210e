"""The command line: `matryobench <verb>`. The workflow's rules call the same verbs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from matryobench.errors import InputError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Config = Annotated[Path, typer.Argument(help="The experiment's YAML file.")]
Out = Annotated[Path, typer.Option("--out", help="File or folder to write.")]
TestedTask = Annotated[str, typer.Argument(help="sts or retrieval.")]
Items = Annotated[list[Path], typer.Argument(help="Items tables of the task's runs.")]
Cells = Annotated[Path, typer.Option(help="The experiment's cells table.")]
Files = Annotated[Path, typer.Option(help="Results folder with the experiment's tables.")]
TableOut = Annotated[Path, typer.Option(help="Table to write (.parquet, and .csv beside it).")]


def main() -> None:
    """Runs the command line; what the user can mend is one sentence on standard error and exit code 2."""
    try:
        app()
    except InputError as error:
        print(f"matryobench: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@app.command()
def plan(config: Config) -> None:
    """Lists the runs of an experiment in the order in which they can be trained, with counts."""
    from matryobench.listing import print_plan
    from matryobench.plan import Plan

    print_plan(Plan.load(config))


@app.command()
def fetch(
    config: Config,
    dataset: Annotated[str | None, typer.Option(help="Only this dataset; written as a table to --out.")] = None,
    backbone: Annotated[bool, typer.Option("--backbone", help="Only the backbone; its record goes to --out.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="File to write for --dataset or --backbone.")] = None,
) -> None:
    """Fills the mirror with all that the experiment needs and checks it; the only step that may use the network."""
    from matryobench.config import PretrainedBackbone
    from matryobench.data import prepare
    from matryobench.plan import Plan

    loaded = Plan.load(config)
    if (dataset is not None or backbone) and out is None:
        raise InputError("--out is missing; give the file to write.")
    if dataset is not None and out is not None:
        print(f"{dataset}: {prepare.fetch_data(loaded, dataset, out)} rows -> {out}")
    elif backbone and out is not None:
        prepare.write_backbone(prepare.fetch_backbone(loaded.experiment, loaded.place), out)
        print(f"backbone -> {out}")
    else:
        folder = loaded.experiment.folder / "data"
        for name in loaded.dataset_names():
            print(f"{name}: {prepare.fetch_data(loaded, name, folder / f'{name}.parquet')} rows")
        if not isinstance(loaded.experiment.backbone, PretrainedBackbone):
            print(f"backbone: {prepare.fetch_backbone(loaded.experiment, loaded.place)}")


@app.command()
def tokenise(
    table: Annotated[Path, typer.Argument(help="Table that fetch wrote.")],
    max_length: Annotated[
        list[int], typer.Argument(min=3, help="Tokens per text at most; groups: of queries, then of passages.")
    ],
    backbone: Annotated[Path, typer.Option(help="The backbone's record, for its tokenizer.")],
    out: Out,
) -> None:
    """Tokenises a dataset once for all runs."""
    from matryobench.data import prepare

    if len(max_length) > 2:
        raise InputError("MAX_LENGTH: give one length, or two for groups: of queries and of passages.")
    query_max_length = max_length[0] if len(max_length) == 2 else None
    texts = prepare.tokenise_table(table, prepare.backbone_folder(backbone), max_length[-1], out, query_max_length)
    print(f"{table.stem}: {texts} distinct texts -> {out}")


@app.command()
def pretrain(
    config: Config,
    text: Annotated[Path, typer.Option(help="Table of texts.")],
    out: Out,
    continued: Annotated[
        str | None, typer.Option(help="Entry of `pretraining` to run; the experiment's own backbone without it.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Record of the backbone that --continued goes on from.")] = None,
) -> None:
    """Pre-trains the experiment's own backbone, or goes on from one; --out gets model/, pretraining.json, backbone.json."""
    from matryobench.plan import Plan
    from matryobench.pretraining.jobs import pretrain_backbone, pretrain_from

    loaded = Plan.load(config)
    if continued is None:
        pretrain_backbone(loaded, text, out)
    elif start is None:
        raise InputError("--start is missing; give the record of the backbone that --continued goes on from.")
    else:
        pretrain_from(loaded, continued, text, start, out)


@app.command()
def train(
    config: Config,
    run: Annotated[str, typer.Argument(help="Run id, as `plan` lists it.")],
    tokens: Annotated[Path, typer.Option(help="Token file of the recipe's training data.")],
    table: Annotated[Path, typer.Option(help="The table that it was made from; reference backends read it.")],
    start: Annotated[
        Path, typer.Option(help="Backbone's record, or the run.json of the run that this one starts from.")
    ],
    out: Out,
) -> None:
    """Trains one run; interrupted, the same command goes on at the last checkpoint."""
    from matryobench.data.prepare import backbone_folder
    from matryobench.plan import Plan
    from matryobench.training.runs import train as train_run

    loaded = Plan.load(config)
    folder = start.parent / "model" if start.name == "run.json" else backbone_folder(start)
    train_run(loaded, loaded.run(run), tokens, table, folder, out)


@app.command("evaluate-run")
def evaluate_run(
    config: Config,
    run: Annotated[str, typer.Argument(help="Run id, as `plan` lists it.")],
    model: Annotated[Path, typer.Option(help="The run's model folder.")],
    files: Annotated[Path, typer.Option(help="Results folder with the experiment's tables and tokens.")],
    out: Out,
) -> None:
    """Evaluates one trained run on all of its cells."""
    from matryobench.evaluation.runs import evaluate_run as evaluate
    from matryobench.plan import Plan

    loaded = Plan.load(config)
    evaluate(loaded, loaded.run(run), model, files, out)


@app.command()
def search(
    config: Config,
    run: Annotated[str, typer.Argument(help="Run id, as `plan` lists it.")],
    corpus: Annotated[str, typer.Argument(help="Dataset of passages.")],
    shard: Annotated[int, typer.Option(min=0, help="Shard to search, counted from 0.")],
    of: Annotated[int, typer.Option(min=1, help="Number of shards.")],
    model: Annotated[Path, typer.Option(help="The run's model folder.")],
    files: Annotated[Path, typer.Option(help="Results folder with the experiment's tables and tokens.")],
    out: Out,
) -> None:
    """Ranks one shard of a corpus for all queries and cells of a run; the evaluation merges the shards."""
    from matryobench.evaluation.runs import search_shard
    from matryobench.plan import Plan

    loaded = Plan.load(config)
    search_shard(loaded, loaded.run(run), corpus, shard, of, model, files, out)


@app.command()
def convert(
    folder: Annotated[Path, typer.Argument(help="BEIR-format folder: corpus, queries, qrels.")],
    out: Annotated[Path, typer.Option("--out", help="Tevatron-format file to write, .jsonl or .jsonl.gz.")],
    split: Annotated[str, typer.Option(help="Whose judgements: qrels/<split>.tsv.")] = "train",
    negatives: Annotated[int, typer.Option(min=1, help="BM25 hard negatives per query.")] = 30,
    depth: Annotated[int, typer.Option(min=1, help="BM25 ranks that they are drawn from.")] = 100,
    min_grade: Annotated[int, typer.Option(min=1, help="Lowest grade of a positive.")] = 1,
    exclude_own_id: Annotated[
        bool, typer.Option("--exclude-own-id", help="A query's own id is a document that is no negative.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
) -> None:
    """Turns BEIR-format judgements into Tevatron's training form, with hard negatives mined by BM25."""
    from matryobench.data.groups import write_tevatron
    from matryobench.data.mining import groups_from_folder

    table, facts = groups_from_folder(folder, split, negatives, depth, seed, min_grade, exclude_own_id)
    write_tevatron(table, out)
    print(f"{table.num_rows} queries -> {out} ({facts})")


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(help="Model folder, or hub id that is in (or can be fetched into) the mirror.")
    ],
    task: Annotated[str, typer.Option(help="What to evaluate: sts, retrieval or mteb.")] = "sts",
    sets: Annotated[str | None, typer.Option(help="Comma-separated test sets; the seven STS sets without it.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="BEIR-format folder to search (retrieval); may be given several times.")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Comma-separated layers; all without it.")] = None,
    dims: Annotated[str | None, typer.Option(help="Comma-separated dims; 8, 16, ... H without it.")] = None,
    pooling: Annotated[str | None, typer.Option(help="mean or cls; what the folder says without it.")] = None,
    max_length: Annotated[int | None, typer.Option(min=3, help="Tokens per text (document) at most.")] = None,
    query_max_length: Annotated[
        int | None, typer.Option(min=3, help="Tokens per query at most; as --max-length without it.")
    ] = None,
    similarity: Annotated[str, typer.Option(help="cosine or dot (retrieval).")] = "cosine",
    top_k: Annotated[int, typer.Option(help="Documents ranked per query (retrieval); at least 100.")] = 100,
    exclude_own_id: Annotated[
        bool, typer.Option("--exclude-own-id", help="Leave a query's own id out of its ranking (folders of --data).")
    ] = False,
    run_files: Annotated[
        str | None, typer.Option(help="Cells to write TREC run files for, e.g. 6:384,2:32 (retrieval).")
    ] = None,
    half_precision: Annotated[
        bool,
        typer.Option("--half-precision", help="Also measure what float16 documents would change (retrieval, FAISS)."),
    ] = False,
    instruction: Annotated[
        list[str] | None,
        typer.Option(help="KEY=TEXT: instruction before texts (mteb); KEY classification, retrieval-query, <set>, ..."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a hub id.")] = None,
    mirror: Annotated[Path, typer.Option(help="The mirror folder.")] = Path("mirror"),
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the hub.")] = False,
    out: Annotated[Path, typer.Option(help="Cells table to write (.parquet, and .csv beside it).")] = Path(
        "cells.parquet"
    ),
) -> None:
    """Evaluates every layer x dim cell of any model from one encoding; prints the grids and writes the cells table."""
    from matryobench.evaluation.standalone import Request, evaluate_standalone

    evaluate_standalone(
        Request(
            model=model, task=task, sets=sets, data=data or [], layers=layers, dims=dims, pooling=pooling,
            max_length=max_length, query_max_length=query_max_length, similarity=similarity, top_k=top_k,
            exclude_own_id=exclude_own_id, run_files=run_files, half_precision=half_precision,
            instructions=instruction or [], revision=revision, mirror=mirror, offline=offline, out=out,
        )
    )  # fmt: skip


@app.command()
def collect(
    config: Config, tables: Annotated[list[Path], typer.Argument(help="Cells tables of all runs.")], out: Out
) -> None:
    """Joins the runs' cells tables to the experiment's one and adds averages over the test sets."""
    from matryobench import reports
    from matryobench.plan import Plan

    print(f"{reports.collect(Plan.load(config), tables, out)} rows -> {out}")


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
    from matryobench.notebook import run_notebook
    from matryobench.paths import NOTEBOOK

    for path in run_notebook(results, out, notebook or NOTEBOOK):
        print(path)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder (results/<experiment>/runs/<run id>) or model folder.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    layer: Annotated[int, typer.Option(min=1, help="Layers to keep.")],
    dim: Annotated[int, typer.Option(min=1, help="Coordinates to keep.")],
) -> None:
    """Writes one cell as a standalone sentence-transformers model of `layer` layers and `dim` coordinates."""
    from matryobench.models.export import export as export_cell

    export_cell(run, layer, dim, out)
    print(f"layer {layer}, dim {dim} -> {out}")


@app.command("measure-cost")
def measure_cost(
    config: Config,
    backbone: Annotated[Path, typer.Option(help="The backbone's record.")],
    files: Annotated[Path, typer.Option(help="Results folder with the test sets' tables and tokens.")],
    out: Annotated[Path, typer.Option(help="Table to write (.parquet; .csv and .json beside it).")],
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the GPU without it, where there is one.")] = None,
) -> None:
    """Measures what every cell costs on this machine: encoder milliseconds, texts and searches per second, bytes."""
    from matryobench.data.prepare import backbone_folder
    from matryobench.deployment.jobs import measure_cost as measure
    from matryobench.plan import Plan

    print(f"{measure(Plan.load(config), backbone_folder(backbone), files, out, device)} rows -> {out}")


@app.command("training-costs")
def training_costs(
    config: Config,
    files: Annotated[Path, typer.Option(help="Results folder with the records of runs and pre-trainings.")],
    out: Annotated[Path, typer.Option(help="Path without ending; .csv, .md and .tex are written.")],
) -> None:
    """Sums up what the training of every method cost: models, seconds, tokens, and how much that is next to BERT."""
    from matryobench.deployment import training_costs as costs
    from matryobench.plan import Plan

    loaded = Plan.load(config)
    titles = {name: method.title for name, method in loaded.methods.items()}
    for path in costs.write_training_costs(costs.training_costs(loaded, files), out, titles):
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


@app.command()
def schema(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where a file is out of date.")] = False,
) -> None:
    """Regenerates workflow/schemas/*.json and config/default.yaml from the settings models."""
    from matryobench.schemas import write_schemas

    for path in write_schemas(check):
        print(path)
