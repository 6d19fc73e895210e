"""Where the results came from and what they cost: the records of runs, evaluations and pre-trainings of a results folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench import layout
from matryobench.data.records import read_meta
from matryobench.errors import InputError

if TYPE_CHECKING:
    from matryobench.plan import Plan, Run

DEPLOYMENT_RECORD = Path(layout.DEPLOYMENT).with_suffix(".json")
MEASURED = ("device", "processor", "cores", "threads", "precision", "search", "date", "git_commit")
ENVIRONMENT = ("git_commit", "device", "processor", "cores", "platform", "python")


@dataclass(frozen=True)
class Table:
    """A plain table: header, rows of texts, and from which column on they are numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: int


@dataclass(frozen=True)
class Records:
    """The records of an experiment: by run id of its plan, and of its pre-trainings by name."""

    runs: Mapping[str, Mapping[str, Any]]
    evaluations: Mapping[str, Mapping[str, Any]]
    pretraining: Mapping[str, Mapping[str, Any]]

    @property
    def all(self) -> list[Mapping[str, Any]]:
        """Every record."""
        return [*self.runs.values(), *self.evaluations.values(), *self.pretraining.values()]

    def distinct(self, key: str) -> list[str]:
        """The different values of a key in all records, in order."""
        return sorted({str(one[key]) for one in self.all if one.get(key) is not None})

    def dates(self) -> tuple[str, str] | None:
        """The first and the last day on which something was made."""
        days = sorted(str(one["date"])[:10] for one in self.all if one.get("date"))
        return (days[0], days[-1]) if days else None


def read(plan: Plan, results: Path) -> Records:
    """The records of the plan's runs, from their folders or from the lists that reference folders have in their place.

    What is missing is left out. Raises InputError for a record that is not one.
    """
    runs = _by_run(results, "runs/*/run.json", "runs.json")
    evaluations = _by_run(results, "evaluation/*/evaluation.json", "evaluations.json")
    own = [results / "backbone" / "pretraining.json", *sorted(results.glob("pretraining/*/pretraining.json"))]
    pretraining = {path.parent.name: _load(path) for path in own if path.is_file()}
    known = plan.by_id
    return Records(
        {run: runs[run] for run in known if run in runs},
        {run: evaluations[run] for run in known if run in evaluations},
        pretraining,
    )


def run_table(plan: Plan, records: Records) -> Table:
    """A row per run: what it is, where it started, what it was trained on, what it cost, and by which code."""
    header = (
        *("run", "method", "variant", "recipe", "trained by", "starts from", "trained on", "device", "commit", "date"),
        *("seed", "steps", "million tokens", "final loss", "training s", "evaluation s", "peak MiB"),
    )
    return Table(header, [_run_row(plan, run, records) for run in plan.runs], 10)


def data_table(plan: Plan, results: Path, records: Records) -> Table:
    """A row per dataset: kind, source, revision, rows and licence, as recorded when it was made, else as declared."""
    trained = {str(data["dataset"]): data for one in records.runs.values() if (data := one.get("dataset"))}
    rows = []
    for name in plan.dataset_names():
        spec = plan.datasets[name]
        table = results / "data" / f"{name}.parquet"
        meta = read_meta(table) if table.is_file() else trained.get(name, {})
        hub = spec.hub
        revision = meta.get("revision") or (hub.revision if hub else None) or _digest(meta.get("sha256"))
        source = (
            f"hub: {meta.get('id') or hub.id}" if hub else str(meta.get("source") or _source(spec)).replace("_", " ")
        )
        count = meta.get("rows") or spec.rows
        rows.append((name, spec.kind, source, revision, spec.licence, f"{count:,}" if count else ""))
    return Table(("dataset", "kind", "source", "revision", "licence", "rows"), rows, 5)


def cost_table(plan: Plan, records: Records) -> Table:
    """Models, seconds and tokens per task, and of the pre-trainings; only of what was recorded."""
    rows = []
    for name, one in records.pretraining.items():
        seconds = one.get("train_seconds")
        rows.append((f"pre-training: {name}", "1", _number(seconds), "", _millions(one.get("tokens_seen"))))
    for task in plan.tasks:
        own = [run.run_id for run in plan.runs_of(task) if run.run_id in records.runs]
        evaluated = [run for run in own if run in records.evaluations]
        rows.append((
            f"task: {task}", str(len(own)), _number(_sum(records.runs, own, "train_seconds")),
            _number(_sum(records.evaluations, evaluated, "wall_seconds")),
            _millions(_sum(records.runs, own, "tokens_seen")),
        ))  # fmt: skip
    return Table(("part", "models", "training s", "evaluation s", "million tokens"), rows, 1)


def measured(results: Path) -> list[tuple[str, str]]:
    """How and where the costs of cells were measured; nothing where they were not."""
    path = results / DEPLOYMENT_RECORD
    record = _load(path) if path.is_file() else {}
    return [(name.replace("_", " "), str(record[name])) for name in MEASURED if record.get(name) is not None]


def environment(records: Records) -> list[tuple[str, str]]:
    """What code, machine and libraries made the results, several values where records differ."""
    named = {"git_commit": "commit"}
    facts = [(named.get(key, key), ", ".join(records.distinct(key))) for key in ENVIRONMENT]
    versions: dict[str, set[str]] = {}
    for one in records.all:
        for library, version in (one.get("libraries") or {}).items():
            versions.setdefault(library, set()).add(str(version))
    libraries = ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in sorted(versions.items()))
    dates = records.dates()
    days = (dates[0] if dates[0] == dates[1] else f"{dates[0]} to {dates[1]}") if dates else ""
    return [(key, value) for key, value in [*facts, ("libraries", libraries), ("made", days)] if value]


def backbone(plan: Plan, results: Path) -> list[tuple[str, str]]:
    """What the encoder is that every run starts from, with the digest of its weights where it was recorded."""
    given = plan.experiment.backbone.model_dump(mode="json", exclude={"spec"})
    facts = [(key, str(value)) for key, value in given.items() if value is not None]
    shape = plan.shape
    facts.append(("layers, width", f"{shape.layers or 'unknown'}, {shape.hidden or 'unknown'}"))
    record = results / "backbone" / "backbone.json"
    digests = _load(record).get("sha256", {}) if record.is_file() else {}
    return facts + [(f"SHA-256 of {name}", digest) for name, digest in digests.items() if name.endswith(".safetensors")]


def _run_row(plan: Plan, run: Run, records: Records) -> tuple[str, ...]:
    one, evaluated = records.runs.get(run.run_id, {}), records.evaluations.get(run.run_id, {})
    start = run.starts_from or run.pretraining or "backbone"
    trained = (
        plan.methods[run.method].title, run.variant, run.recipe, run.backend, start,
        str((one.get("dataset") or {}).get("dataset", plan.recipe(run).train)),
    )  # fmt: skip
    made = (str(one.get("device", "")), str(one.get("git_commit") or "")[:12], str(one.get("date", ""))[:10])
    if not one:
        made = ("no run.json", "", "")
    numbers = (
        str(run.seed.name), str(one.get("steps", "")), _millions(one.get("tokens_seen")),
        _number(one.get("final_loss"), 4), _number(one.get("train_seconds")), _number(evaluated.get("wall_seconds")),
        _number(one.get("peak_memory_mb"), 0),
    )  # fmt: skip
    return (run.run_id, *trained, *made, *numbers)


def _by_run(results: Path, pattern: str, listed: str) -> dict[str, Mapping[str, Any]]:
    paths = sorted(results.glob(pattern))
    if paths:
        found: Iterable[Any] = (_load(path) for path in paths)
    else:
        found = _load(results / listed) if (results / listed).is_file() else []
    try:
        return {str(one["run_id"]): one for one in found}
    except (TypeError, KeyError):
        raise InputError(f"{results}: a record of {pattern} or {listed} names no run_id; make it again.") from None


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); run the step that writes it again.") from None


def _source(spec: Any) -> str:
    known = ("local", "mirror", "demo_world", "mined", "composed")
    return next((name for name in known if getattr(spec, name, None) is not None), "")


def _digest(sha256: Mapping[str, str] | None) -> str:
    """The files' digests stand for a revision where there is none: of one file its own, of several their number."""
    if not sha256:
        return ""
    return f"SHA-256 {next(iter(sha256.values()))[:12]}" if len(sha256) == 1 else f"{len(sha256)} files by SHA-256"


def _sum(records: Mapping[str, Mapping[str, Any]], names: Iterable[str], key: str) -> float:
    return float(sum(records[name].get(key) or 0 for name in names))


def _number(value: Any, decimals: int = 1) -> str:
    return f"{value:,.{decimals}f}" if isinstance(value, int | float) else ""


def _millions(value: Any) -> str:
    return _number(value / 1e6, 2) if isinstance(value, int | float) else ""
