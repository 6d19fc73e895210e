"""`matryobench evaluate MODEL`: the whole grid of any model, outside the workflow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from matryobench.errors import InputError, unknown_name
from matryobench.paths import DATASETS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from matryobench.data.mirror import Mirror
    from matryobench.evaluation.rankings import Rankings
    from matryobench.evaluation.retrieval import SetScores
    from matryobench.evaluation.retrieval_runs import SearchSettings
    from matryobench.evaluation.search import Similarity
    from matryobench.evaluation.searches import Search
    from matryobench.evaluation.sts import SetResult
    from matryobench.grid import Cell
    from matryobench.models.encoder import Encoder, Pooling

STS_SETS = "sts12,sts13,sts14,sts15,sts16,stsb,sick-r"
Task = Literal["sts", "retrieval", "mteb"]


@dataclass(frozen=True)
class Request:
    """What the command line asks for, as given there."""

    model: str
    task: str
    sets: str | None
    data: Sequence[Path]
    layers: str | None
    dims: str | None
    pooling: str | None
    max_length: int | None
    query_max_length: int | None
    similarity: str
    top_k: int
    exclude_own_id: bool
    run_files: str | None
    half_precision: bool
    instructions: Sequence[str]
    revision: str | None
    mirror: Path
    offline: bool
    out: Path


def evaluate_standalone(request: Request) -> None:
    """See `cli.evaluate`; raises InputError for a task, set, pooling, model or list that cannot be used."""
    if request.task not in get_args(Task):
        raise unknown_name("--task", "task", request.task, get_args(Task))
    if request.pooling not in (None, "mean", "cls"):
        raise InputError(f"--pooling: '{request.pooling}' is not one of mean, cls; change it.")
    if request.similarity not in ("cosine", "dot"):
        raise InputError(f"--similarity: '{request.similarity}' is not one of cosine, dot; change it.")
    if request.out.suffix != ".parquet":
        raise InputError(
            f"--out: {request.out} does not end in .parquet; a cells table is written as parquet with a csv beside it."
        )
    _numbers("--layers", request.layers), _numbers("--dims", request.dims)  # said before anything is loaded
    if request.data and request.task != "retrieval":
        raise InputError("--data: folders are searched for the task retrieval; add --task retrieval.")
    if request.instructions and request.task != "mteb":
        raise InputError("--instruction: instructions are for the task mteb; add --task mteb.")
    frame = {"sts": _sts, "retrieval": _retrieval, "mteb": _mteb}[request.task](request)

    from matryobench.analysis import cells
    from matryobench.printing.grids import print_grids

    cells.write(frame, request.out)
    if frame["dataset"].nunique() > 1:
        frame = cells.collect([request.out])
        cells.write(frame, request.out)
    print_grids(frame)
    print(f"{len(frame)} rows -> {request.out} and {request.out.with_suffix('.csv')}")


def _sts(request: Request) -> pd.DataFrame:
    from matryobench.data.fetch import fetch_dataset
    from matryobench.data.mirror import Mirror
    from matryobench.data.registry import find_dataset, load_datasets

    mirror, registry = Mirror(request.mirror), load_datasets(DATASETS)
    columns: dict[str, dict[str, list[Any]]] = {}
    for name in _names(request.sets or STS_SETS):
        spec = find_dataset(registry, name, "--sets")
        if spec.kind != "scored-pairs":
            raise InputError(f"--sets: '{name}' has {spec.kind}; an STS test set needs scored pairs.")
        table, _ = fetch_dataset(name, spec, mirror, request.offline)
        columns[name] = {key: table.column(key).to_pylist() for key in ("sentence1", "sentence2", "score")}
    folder = _model_folder(request, mirror)

    from matryobench.evaluation.results import cells_frame

    return cells_frame(evaluate_pairs(_load(request, folder), columns), **_identity(request))


def evaluate_pairs(model: Model, sets: Mapping[str, Mapping[str, Sequence[Any]]]) -> list[SetResult]:
    """Evaluates a model on sets of columns (sentence1, sentence2, score)."""
    from matryobench.data.tokens import tokenise
    from matryobench.evaluation.sts import evaluate_sts

    tokens = {
        name: tokenise(columns, model.tokenizer, model.max_length, {"dataset": name}) for name, columns in sets.items()
    }
    return evaluate_sts(model.encoder, tokens, model.cells)


def _retrieval(request: Request) -> pd.DataFrame:
    from matryobench.data.mirror import Mirror
    from matryobench.data.specs import COLUMNS
    from matryobench.data.tokens import Tokens, pieces, tokenise_passages
    from matryobench.data.values import passage_text

    run_files = _cells("--run-files", request.run_files)
    if request.top_k < 100:
        raise InputError(f"--top-k: {request.top_k} is below 100, which recall@100 needs; raise it.")
    mirror = Mirror(request.mirror)
    collections = list(_collections(request, mirror))
    folder = _model_folder(request, mirror)

    from matryobench.evaluation.results import cells_frame
    from matryobench.evaluation.retrieval_runs import SearchSettings, evaluate_sets, rank
    from matryobench.evaluation.searches import build_search

    model = _load(request, folder)
    wanted = {cell: _identity(request)["run_id"] for cell in run_files}
    if unknown := sorted(set(wanted) - set(model.cells)):
        raise InputError(f"--run-files: {unknown[0][0]}:{unknown[0][1]} is not an evaluated cell; change it.")
    similarity: Similarity = "cosine" if request.similarity == "cosine" else "dot"
    cells = tuple((layer, layer, dim) for layer, dim in model.cells)
    results = []
    for name, exclude_own_id, (passages, queries, qrels) in collections:

        def tokens(texts: Iterable[str], length: int, what: str) -> Tokens:
            return tokenise_passages(pieces(texts), model.tokenizer, length, {"dataset": what})

        texts = (passages.column(column).to_pylist() for column in COLUMNS["passages"][1:])
        documents = tokens(map(passage_text, *texts), model.max_length, f"{name}.corpus")
        asked = tokens(
            queries.column("text").to_pylist(), request.query_max_length or model.max_length, f"{name}.queries"
        )
        search = build_search(name, passages, documents, [(name, exclude_own_id, queries, asked, qrels)])
        settings = SearchSettings(cells, similarity, request.top_k, identity="")
        out = request.out.with_suffix("")
        rankings = rank(model.encoder, search, settings)
        scores = evaluate_sets(model.encoder, search, settings, rankings, wanted, out)
        results += scores
        if request.half_precision:
            _print_half_precision(model.encoder, search, settings, rankings, scores)
        facts = search.sets[0].facts
        print(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items() if value))
    return cells_frame(results, **_identity(request))


def _mteb(request: Request) -> pd.DataFrame:
    from matryobench.data.mirror import Mirror
    from matryobench.evaluation.mteb_standalone import evaluate_folder, given_instructions, registry_sets
    from matryobench.evaluation.results import cells_frame

    mirror, names = Mirror(request.mirror), _names(request.sets or "")
    sets = registry_sets(names, mirror, request.offline)
    told = given_instructions(request.instructions, names)
    folder, identity = _model_folder(request, mirror), _identity(request)
    model, out = _load(request, folder), request.out.with_suffix("")
    return cells_frame(evaluate_folder(model, folder, identity["run_id"], sets, told, out), **identity)


def _print_half_precision(
    encoder: Encoder, search: Search, settings: SearchSettings, exact: Rankings, scores: Sequence[SetScores]
) -> None:
    """What float16 documents change: the share of equal rankings, and every metric's difference, per cell."""
    from rich.console import Console
    from rich.table import Table

    from matryobench.evaluation.half_precision import metric_differences, rank_agreement, rank_fp16
    from matryobench.evaluation.retrieval_runs import evaluate_sets

    half = rank_fp16(encoder, search, settings)
    agreement = rank_agreement(exact, half)
    for before, after in zip(scores, evaluate_sets(encoder, search, settings, half), strict=True):
        changes = metric_differences(before, after)
        table = Table(title=f"{before.dataset}: float16 documents against the exact search", title_justify="left")
        for heading in ("layer", "dim", "equal top 10", "shared of top 10", *changes):
            table.add_column(heading, justify="right")
        for number, (layer, _, dim) in enumerate(before.cells):
            shares = (f"{share[number]:.4f}" for share in (agreement.equal_lists, agreement.overlap))
            table.add_row(str(layer), str(dim), *shares, *(f"{change[number]:+.5f}" for change in changes.values()))
        Console().print(table)


def _collections(request: Request, mirror: Mirror) -> Iterator[tuple[str, bool, tuple[pa.Table, pa.Table, pa.Table]]]:
    """(name, own id excluded, (passages, queries, qrels)) of the folders of --data and the collections of --sets."""
    from matryobench.data.collection_tables import collection_from_folder
    from matryobench.data.fetch import fetch_dataset
    from matryobench.data.registry import find_collection, load_collections, load_datasets

    if not request.data and request.sets is None:
        raise InputError("--data: give a BEIR-format folder to search, or names of test collections with --sets.")
    names = [folder.resolve().name for folder in request.data]
    if len(set(names)) < len(names):
        raise InputError("--data: two folders have the same name, which would be one test set's; rename one.")
    for name, folder in zip(names, request.data, strict=True):
        yield name, request.exclude_own_id, collection_from_folder(folder)
    registry, known = load_datasets(DATASETS), load_collections(DATASETS)
    for name in _names(request.sets or ""):
        one = find_collection(known, name, "--sets")
        parts = [
            fetch_dataset(part, registry[part], mirror, request.offline)[0]
            for part in (one.corpus, one.queries, one.qrels)
        ]
        yield name, one.exclude_own_id, (parts[0], parts[1], parts[2])


@dataclass(frozen=True)
class Model:
    """An encoder with its tokenizer, and the cells to evaluate it at."""

    encoder: Encoder
    tokenizer: Any
    max_length: int
    cells: list[Cell]


def load_model(
    folder: Path, layers: Sequence[int] | None, dims: Sequence[int] | None, pooling: str | None, max_length: int | None
) -> Model:
    """Any model folder with its grid.

    Layers default to all; dims to the powers of two from 8 below H, and H; pooling and maximum length to what the
    folder says (plain transformers folders: pooling must be given, length 128). Raises InputError for cells outside
    the model.
    """
    from matryobench.models.folders import device_of, load_encoder, load_tokenizer, read_settings

    settings = read_settings(folder)
    poolings: dict[str | None, Pooling | None] = {None: settings.pooling, "mean": "mean", "cls": "cls"}
    chosen = poolings[pooling]
    if chosen is None:
        raise InputError(f"{folder}: does not say how it pools; give --pooling mean or --pooling cls.")
    encoder = load_encoder(folder, chosen)
    depth, width = encoder.depth, encoder.width
    layers = sorted(set(layers or range(1, depth + 1)))
    dims = sorted(set(dims or [*(2**power for power in range(3, 20) if 2**power < width), width]))
    for layer in layers:
        if not 1 <= layer <= depth:
            raise InputError(f"--layers: layer {layer} is not in 1..{depth}, the model's layers; change it.")
    for dim in dims:
        if not 1 <= dim <= width:
            raise InputError(f"--dims: dim {dim} is not in 1..{width}, the model's width; change it.")
    encoder.to(device_of())
    cells = [(layer, dim) for layer in layers for dim in dims]
    return Model(encoder, load_tokenizer(folder), max_length or settings.max_length or 128, cells)


def _load(request: Request, folder: Path) -> Model:
    layers, dims = _numbers("--layers", request.layers), _numbers("--dims", request.dims)
    return load_model(folder, layers, dims, request.pooling, request.max_length)


def _model_folder(request: Request, mirror: Mirror) -> Path:
    from matryobench.data.fetch import fetch_model

    folder = Path(request.model)
    return folder if folder.is_dir() else fetch_model(request.model, request.revision, mirror, request.offline)


def _identity(request: Request) -> dict[str, Any]:
    folder = Path(request.model)
    name = folder.resolve().name if folder.is_dir() else request.model
    return {"experiment": "evaluate", "method": name, "variant": "as-is", "recipe": "as-is", "seed": 0, "run_id": name}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option}: '{text}' is not a comma-separated list of whole numbers; e.g. 2,4,6.") from None


def _cells(option: str, text: str | None) -> list[Cell]:
    try:
        pairs = [part.split(":") for part in _names(text or "")]
        return [(int(layer), int(dim)) for layer, dim in pairs]
    except ValueError:
        raise InputError(f"{option}: '{text}' is not a list of layer:dim pairs; e.g. 6:384,2:32.") from None
