"""The links of the chain: each says whether what a file was made from is what is there, by the hashes that it recorded.

data tables -> token files -> pre-trainings and runs -> evaluations -> products (`products.py`). Paths are relative to the
results folder; files are hashed once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from matryobench import job_inputs, layout
from matryobench.errors import InputError
from matryobench.files import folder_sha256, sha256_of
from matryobench.plan import digest

if TYPE_CHECKING:
    from matryobench.plan import Plan, Run

Status = Literal["ok", "wrong", "lacking", "missing", "not there"]
"""lacking: a record of an earlier version, without this hash. missing: a file that no archive may be without. not there:
an intermediate file (data, tokens, weights, scores per item) that archives leave out."""


@dataclass(frozen=True)
class Link:
    """One comparison: which file's record it is from, and, where it does not hold, what is wrong and what to do."""

    stage: str
    file: str
    status: Status
    sentence: str = ""


class Files:
    """The files of a results folder, each hashed and read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sums: dict[str, str | None] = {}

    def sha256(self, file: str) -> str | None:
        """A file's hash; None where it is not there."""
        if file not in self._sums:
            path = self.root / file
            self._sums[file] = sha256_of(path) if path.is_file() else None
        return self._sums[file]

    def record(self, file: str) -> dict[str, Any] | None:
        """A JSON record; None where it is not there. Raises InputError where it is not one."""
        path = self.root / file
        return read_record(path) if path.is_file() else None


def read_record(path: Path) -> dict[str, Any]:
    """A record, as its job wrote it. Raises InputError where it is missing or not a JSON object."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such record; run the job that writes it again.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not a readable record ({error}); run the job that writes it again.") from None
    if not isinstance(record, dict):
        raise InputError(f"{path}: is not a record; run the job that writes it again.")
    return record


def comparison(stage: str, holder: str, recorded: Any, file: str, files: Files, remedy: str) -> Link:
    """Whether `file` has the hash that `holder` recorded of it."""
    found = files.sha256(file)
    if recorded is None:
        return Link(stage, holder, "lacking", f"does not say from which {file} it was made; {remedy}")
    if found is None:
        return Link(stage, holder, "not there", f"was made from {file}, which is not there")
    if found != recorded:
        return Link(stage, holder, "wrong", f"was made from another {file} than the one that is there; {remedy}")
    return Link(stage, holder, "ok")


def identity_links(plan: Plan, run: Run, record: Mapping[str, Any], file: str) -> Iterator[Link]:
    """Whether run.json is of this run and of the settings that the config gives it."""
    named, settings, wanted = record.get("run_id"), record.get("settings_hash"), plan.settings_hash(run)
    if named != run.run_id:
        yield Link("runs", file, "wrong", f"is the record of {named} and not of {run.run_id}; train {run.run_id} again")
    elif settings != wanted:
        problem = f"was trained with other settings (hash {settings}) than {plan.place} asks for ({wanted})"
        yield Link("runs", file, "wrong", f"{run.run_id} {problem}; train it again")
    else:
        yield Link("runs", file, "ok")


def model_link(stage: str, file: str, recorded: Mapping[str, str] | None, folder: Path, remedy: str) -> Link:
    """Whether the files of a model folder are those that its record names."""
    if recorded is None:
        return Link(stage, file, "lacking", f"does not say of which model files it is; {remedy}")
    if not folder.is_dir():
        return Link(stage, file, "not there", f"the model folder {folder.name} is not there")
    found = folder_sha256(folder)
    if differing := sorted(name for name in {*found, *recorded} if found.get(name) != recorded.get(name)):
        return Link(stage, file, "wrong", f"{folder.name}/{differing[0]} is not the file that it names; {remedy}")
    return Link(stage, file, "ok")


def run_links(plan: Plan, run: Run, files: Files, *, weights: bool) -> Iterator[Link]:
    """A run's record: its settings, the tokens and the start that it was trained from and, with `weights`, its model."""
    file, remedy = layout.training_record(run.run_id), f"train {run.run_id} again"
    record = files.record(file)
    if record is None:
        yield Link("runs", file, "missing", f"there is no such record; {remedy}")
        return
    yield from identity_links(plan, run, record, file)
    inputs = record.get("inputs") or {}
    yield comparison("runs", file, inputs.get("tokens_sha256"), job_inputs.training_tokens(plan, run), files, remedy)
    yield _start_link(file, inputs.get("start_sha256"), job_inputs.start(run), files, remedy)
    if weights:
        folder = files.root / Path(file).parent / "model"
        yield model_link("runs", file, record.get("model_sha256"), folder, remedy)


def _start_link(file: str, recorded: Any, start: str, files: Files, remedy: str) -> Link:
    """Whether a run started from the weights that the record `start` names."""
    before = files.record(start)
    if before is None:
        return Link("runs", file, "not there", f"started from {start}, which is not there")
    sums = before.get("sha256") or before.get("model_sha256")
    if sums is None or recorded is None:
        return Link(
            "runs", start, "lacking", f"does not say from which weights {Path(file).parent.name} started; {remedy}"
        )
    if weights_sha256(sums) != recorded:
        return Link("runs", file, "wrong", f"started from other weights than those of {start}; {remedy}")
    return Link("runs", file, "ok")


def weights_sha256(sums: Mapping[str, str]) -> str:
    """The one hash of a model's weights, from the hashes of its files: what runs record as start_sha256."""
    return digest([sums[name] for name in sorted(sums) if name.endswith(".safetensors") and "/" not in name])


def evaluation_links(plan: Plan, run: Run, files: Files) -> Iterator[Link]:
    """An evaluation's record: its settings, the run, the files that it read, and the tables that it wrote."""
    file, remedy = layout.evaluation_record(run.run_id), f"evaluate {run.run_id} again"
    record = files.record(file)
    if record is None:
        yield Link("evaluations", file, "missing", f"there is no such record; {remedy}")
        return
    wanted = {"run_id": run.run_id, "evaluation_hash": plan.evaluation_hash(run)}
    for key, value in wanted.items():
        held = record.get(key)
        bad = Link("evaluations", file, "wrong", f"its {key} is {held} where {plan.place} asks for {value}; {remedy}")
        yield Link("evaluations", file, "ok") if held == value else bad
    trained = layout.training_record(run.run_id)
    yield comparison("evaluations", file, record.get("run_sha256"), trained, files, remedy)
    read = record.get("files_sha256")
    if read is None:
        yield Link("evaluations", file, "lacking", f"does not say which files were evaluated on; {remedy}")
    else:
        for one in job_inputs.evaluation_files(plan, run):
            yield comparison("evaluations", file, read.get(one), one, files, remedy)
    yield from _written_links(run, record.get("outputs"), file, files, remedy)


def _written_links(run: Run, outputs: Any, file: str, files: Files, remedy: str) -> Iterator[Link]:
    """The tables that an evaluation wrote: their bytes, and whose rows the cells table has."""
    if outputs is None:
        yield Link("evaluations", file, "lacking", f"does not name the tables that it wrote; {remedy}")
    for name, recorded in (outputs or {}).items():
        yield written_link("evaluations", file, recorded, f"{Path(file).parent.as_posix()}/{name}", files, remedy)
    cells = files.root / layout.cells(run.run_id)
    if cells.is_file():
        import pyarrow.compute as pc

        from matryobench.data.parquet import read_parquet

        held = pc.unique(read_parquet(cells, ["run_id"]).column("run_id")).to_pylist()
        bad = Link("evaluations", layout.cells(run.run_id), "wrong", f"holds rows of {', '.join(held)}; {remedy}")
        yield Link("evaluations", file, "ok") if held == [run.run_id] else bad


def written_link(
    stage: str, holder: str, recorded: str, file: str, files: Files, remedy: str, absent: Status = "not there"
) -> Link:
    """Whether a written file is still what its record says."""
    found = files.sha256(file)
    if found is None:
        return Link(stage, holder, absent, f"{file} is not there")
    if found != recorded:
        return Link(stage, file, "wrong", f"is not the file that {Path(holder).name} names; {remedy}")
    return Link(stage, holder, "ok")


def broken(links: Iterable[Link]) -> list[Link]:
    """The links that do not hold or cannot be checked although they must."""
    return [link for link in links if link.status in ("wrong", "lacking", "missing")]
