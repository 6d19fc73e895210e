"""The command line: `matryobench <verb>`. The workflow's rules call the same verbs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from matryobench import cli_chain, cli_results
from matryobench.cli_results import Config, Out
from matryobench.errors import InputError
from matryobench.failures import explain
from matryobench.training import launch

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

app.add_typer(cli_results.app)  # without a name: its verbs stand beside these
app.add_typer(cli_chain.app)


def main() -> None:
    """Runs the command line; what the user can mend is one sentence on standard error and exit code 2."""
    with uncollected():
        try:
            app()
        except Exception as error:
            sentence = explain(error, *sys.argv[1:2])
            if sentence is None:
                raise
            launch.report(sentence)
            print(f"matryobench: {sentence}", file=sys.stderr)
            raise SystemExit(2) from None


@contextmanager
def uncollected() -> Iterator[None]:
    """Spares a process that ends with the block most of its search for garbage: what libraries make when they are imported
    stays, and looking through it, above all when the interpreter ends, costs a job with a model more than a second.
    """
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.freeze()


@app.command()
def plan(
    config: Config,
    device: Annotated[
        str | None, typer.Option(help="h100, a100, cpu or measured; the config's compute.device without it.")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Devices that the wall time is for.")] = 1,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also what the hours would be without each saving.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the cost alone, as JSON.")] = False,
) -> None:
    """Lists the runs of an experiment in the order in which they can be trained, and what everything will cost."""
    from matryobench.listing import print_costs, print_plan
    from matryobench.plan import Plan

    loaded = Plan.load(config)
    if device is None and not as_json:
        print_plan(loaded)
    print_costs(loaded, device, devices, explain, as_json)


@app.command()
def calibrate(
    out: Annotated[Path, typer.Option("--out", help="File to write, for device 'measured'.")] = Path(
        "results/calibration.json"
    ),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads, as the experiment's `threads`.")] = 1,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU where there is one without it.")] = None,
) -> None:
    """Measures the speed of this machine, for plans with device 'measured'; takes about a minute."""
    from matryobench.estimating.calibrating import calibrate as measure
    from matryobench.listing import print_calibration

    print_calibration(measure(out, threads, device), out)


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
    from matryobench.job import run_job
    from matryobench.locks import same_job, writing
    from matryobench.plan import Plan

    loaded = Plan.load(config)
    if continued is not None and start is None:
        raise InputError("--start is missing; give the record of the backbone that --continued goes on from.")

    def work() -> None:
        from matryobench.pretraining.jobs import pretrain_backbone, pretrain_from

        if continued is None:
            pretrain_backbone(loaded, text, out)
        elif start is not None:
            pretrain_from(loaded, continued, text, start, out)

    spec = loaded.experiment.pretraining.get(continued or "")
    results = [out / name for name in ("model", "pretraining.json", "backbone.json")]
    same = same_job([loaded.experiment.model_dump(mode="json"), continued], text, start)
    run_job(loaded, work, writing(out, same, results), spec.training.processes if spec else 1)


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
    from matryobench.job import run_job
    from matryobench.locks import same_job, writing
    from matryobench.plan import Plan

    loaded = Plan.load(config)
    wanted = loaded.run(run)
    folder = start.parent / "model" if start.name == "run.json" else backbone_folder(start)

    def work() -> None:
        from matryobench.training.runs import train as train_run

        train_run(loaded, wanted, tokens, table, folder, out)

    results = [out / name for name in ("model", "telemetry.jsonl", "run.json")]
    same = same_job(loaded.settings_hash(wanted), tokens, table, start)
    run_job(loaded, work, writing(out, same, results), loaded.recipe(wanted).training.processes)


@app.command("evaluate-run")
def evaluate_run(
    config: Config,
    run: Annotated[str, typer.Argument(help="Run id, as `plan` lists it.")],
    model: Annotated[Path, typer.Option(help="The run's model folder.")],
    files: Annotated[Path, typer.Option(help="Results folder with the experiment's tables and tokens.")],
    out: Out,
) -> None:
    """Evaluates one trained run on all of its cells."""
    from matryobench.job import run_job
    from matryobench.locks import writing
    from matryobench.plan import Plan

    loaded = Plan.load(config)
    wanted = loaded.run(run)

    def work() -> None:
        from matryobench.evaluation.runs import evaluate_run as evaluate

        evaluate(loaded, wanted, model, files, out)

    run_job(loaded, work, writing(out))


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
    from matryobench.job import run_job
    from matryobench.locks import writing_file
    from matryobench.plan import Plan

    loaded = Plan.load(config)
    wanted = loaded.run(run)

    def work() -> None:
        from matryobench.evaluation.runs import search_shard

        search_shard(loaded, wanted, corpus, shard, of, model, files, out)

    run_job(loaded, work, writing_file(out))


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


@app.command()
def simulate(
    documents: Annotated[int, typer.Option(min=1, help="Documents of the corpus.")],
    out: Annotated[Path, typer.Option("--out", help="Record to write (.json); its files go into a folder beside it.")],
    queries: Annotated[int, typer.Option(min=1, help="Queries.")] = 100,
    layers: Annotated[int, typer.Option(min=1, help="Layers.")] = 6,
    width: Annotated[int, typer.Option(min=1, help="Coordinates of a vector.")] = 768,
    dims: Annotated[str, typer.Option(help="Comma-separated widths to search at.")] = "8,16,32,64,128,256,512,768",
    top_k: Annotated[int, typer.Option(help="Documents ranked per query; at least 100.")] = 100,
    shards: Annotated[int, typer.Option(min=1, help="Shards that the corpus is searched in.")] = 1,
    shard: Annotated[
        int | None, typer.Option(min=0, help="Rank this shard alone; without it, those that lack, and evaluate all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the vectors.")] = 0,
) -> None:
    """Searches a corpus of fake vectors with the real search and metrics: time, memory and bytes at any size."""
    from matryobench.scale.jobs import run
    from matryobench.scale.settings import Simulation, widths

    run(Simulation(documents, queries, layers, width, widths(dims), top_k, seed, shards), shard, out)


@app.command()
def schema(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where a file is out of date.")] = False,
) -> None:
    """Regenerates workflow/schemas/*.json and config/default.yaml from the settings models."""
    from matryobench.schemas import write_schemas

    for path in write_schemas(check):
        print(path)
