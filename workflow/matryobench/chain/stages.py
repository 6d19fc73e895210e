"""The links of what comes before the runs, data, tokens and pre-trainings, and of what is made after them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from matryobench import job_inputs, layout
from matryobench.chain.links import Files, Link, comparison, model_link, written_link
from matryobench.chain.sources import inputs_sha256
from matryobench.config import PretrainedBackbone
from matryobench.data.registry import mined_inputs
from matryobench.errors import InputError

if TYPE_CHECKING:
    from matryobench.plan import Plan


def data_links(plan: Plan, name: str, files: Files) -> Iterator[Link]:
    """A dataset's table: that it is of this dataset and names its source files, or the tables that it was made from."""
    from matryobench.data.records import read_meta

    file = layout.table(name)
    if not (files.root / file).is_file():
        yield Link("data", file, "not there", "is not there")
        return
    meta = read_meta(files.root / file)
    if meta.get("dataset") != name:
        yield Link("data", file, "wrong", f"is a table of {meta.get('dataset')}; fetch {name} again")
    elif not (meta.get("sha256") or meta.get("revision") or meta.get("tables_sha256")):
        yield Link("data", file, "lacking", f"names neither source files nor a revision; fetch {name} again")
    else:
        yield Link("data", file, "ok")
    for other in mined_inputs(plan.datasets[name]):
        recorded = (meta.get("tables_sha256") or {}).get(other)
        yield comparison("data", file, recorded, layout.table(other), files, f"fetch {name} again")


def token_files(plan: Plan) -> list[str]:
    """All token files of an experiment."""
    files = {job_inputs.training_tokens(plan, run) for run in plan.runs}
    files |= {
        file for run in plan.runs for file in job_inputs.evaluation_files(plan, run) if file.startswith("tokens/")
    }
    return sorted(files)


def token_links(file: str, files: Files) -> Iterator[Link]:
    """A token file: the table and the tokenizer that it was made from."""
    if not (files.root / file).is_file():
        yield Link("tokens", file, "not there", "is not there")
        return
    meta, remedy = _token_meta(files.root / file), "tokenise it again"
    yield comparison("tokens", file, meta.get("table_sha256"), layout.table(str(meta.get("dataset"))), files, remedy)
    recorded, backbone = meta.get("tokenizer_sha256"), files.record(layout.BACKBONE)
    if recorded is None:
        yield Link("tokens", file, "lacking", f"does not say with which tokenizer it was made; {remedy}")
    elif backbone is None:
        yield Link("tokens", file, "not there", f"{layout.BACKBONE}, which names the tokenizer, is not there")
    elif any(backbone["sha256"].get(name) != sha256 for name, sha256 in recorded.items()):
        yield Link("tokens", file, "wrong", f"was made with another tokenizer than that of {layout.BACKBONE}; {remedy}")
    else:
        yield Link("tokens", file, "ok")


def _token_meta(path: Path) -> dict[str, Any]:
    from matryobench.tensors import read_meta

    return read_meta(path, "token file", "tokenise")


def backbone_links(plan: Plan, files: Files) -> Iterator[Link]:
    """The encoder that every run starts from: its files and, where the experiment pre-trains it, what from."""
    backbone = plan.experiment.backbone
    if isinstance(backbone, PretrainedBackbone):
        yield from _pretraining_links(
            layout.BACKBONE_RECORD, layout.BACKBONE, backbone.text, backbone.spec, files, "pre-train the backbone again"
        )
    else:
        yield from _folder_links(layout.BACKBONE, files, "fetch the backbone again")


def continued_links(plan: Plan, name: str, files: Files) -> Iterator[Link]:
    """A continued pre-training: its settings, text, start and model."""
    spec, file = plan.experiment.pretraining[name], layout.pretraining_record(name)
    remedy = f"run the pre-training {name} again"
    yield from _pretraining_links(file, layout.continued(name), spec.text, spec, files, remedy)
    record = files.record(file)
    if record is not None:
        yield comparison("pre-trainings", file, record.get("start_sha256"), layout.BACKBONE, files, remedy)


def _pretraining_links(file: str, model: str, text: str, spec: Any, files: Files, remedy: str) -> Iterator[Link]:
    record = files.record(file)
    if record is None:
        yield Link("pre-trainings", file, "missing", f"there is no such record; {remedy}")
        return
    settings = record.get("settings")
    if settings is None:
        yield Link("pre-trainings", file, "lacking", f"does not record its settings; {remedy}")
    elif not _same_settings(settings, spec):
        yield Link("pre-trainings", file, "wrong", f"has other settings than the config asks for; {remedy}")
    else:
        yield Link("pre-trainings", file, "ok")
    yield comparison("pre-trainings", file, record.get("text_sha256"), layout.table(text), files, remedy)
    folder = files.root / Path(file).parent / "model"
    yield model_link("pre-trainings", file, record.get("model_sha256"), folder, remedy)
    yield from _folder_links(model, files, remedy)


def _same_settings(recorded: Any, spec: Any) -> bool:
    """Compared as settings, so that one more of them with its default value is no difference."""
    try:
        return bool(type(spec).model_validate(recorded) == spec)
    except ValueError:
        return False


def _folder_links(file: str, files: Files, remedy: str) -> Iterator[Link]:
    """A record of a model folder: the files that it names."""
    from matryobench.data.prepare import backbone_folder
    from matryobench.files import sha256_of

    record = files.record(file)
    if record is None:
        yield Link("pre-trainings", file, "missing", f"there is no such record; {remedy}")
        return
    folder = backbone_folder(files.root / file)
    for name, recorded in record["sha256"].items():
        path = folder / name
        if not path.is_file():
            yield Link("pre-trainings", file, "not there", f"{folder.name}/{name} is not there")
        elif sha256_of(path) != recorded:
            yield Link("pre-trainings", file, "wrong", f"{folder.name}/{name} is not the file that it names; {remedy}")
        else:
            yield Link("pre-trainings", file, "ok")


def product_links(record_file: str, products: list[str], files: Files) -> Iterator[Link]:
    """The record that some products share: that their bytes and their inputs are those that it names."""
    stage = {"tables": "tables", "figures": "figures"}.get(PurePosixPath(record_file).parts[0], "pages")
    remedy = f"make {products[0]} again"
    record = files.record(record_file)
    if record is None or "outputs" not in record:
        for product in products:
            if (files.root / product).is_file():
                yield Link(stage, product, "lacking", f"does not record what it was made from; {remedy}")
            else:
                yield Link(stage, product, "missing", f"is not there; {remedy}")
        return
    inputs, outputs = record["inputs"], record["outputs"]
    if record.get("inputs_sha256") != inputs_sha256(inputs):
        yield Link(stage, record_file, "wrong", f"its list of inputs was changed; {remedy}")
    folder = PurePosixPath(record_file).parent
    for product in sorted({*products, *((folder / name).as_posix() for name in outputs)}):
        recorded = outputs.get(PurePosixPath(product).name)
        if recorded is None:
            yield Link(stage, record_file, "lacking", f"does not name {product}; {remedy}")
        else:
            yield written_link(stage, record_file, recorded, product, files, remedy, absent="missing")
    for file, recorded in {**inputs, **record.get("records", {})}.items():
        if "/" in file:  # what has no folder is no file of the results, such as config/claims.yaml
            yield comparison(stage, record_file, recorded, file, files, remedy)


def checked(links: Iterator[Link], stage: str, file: str) -> list[Link]:
    """The links; a file that cannot be read at all is a broken one."""
    found: list[Link] = []
    try:
        for link in links:
            found.append(link)
    except (InputError, KeyError, TypeError, AttributeError, OSError) as error:
        found.append(Link(stage, file, "wrong", f"cannot be read as what it should be: {str(error).rstrip('.')}"))
    return found
