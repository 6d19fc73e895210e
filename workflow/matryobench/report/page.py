"""Writing the page: what all parts of the report say, in one file."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench import layout
from matryobench.errors import InputError
from matryobench.files import sha256_of, write_text
from matryobench.report import contents, embedding, grids, records, verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matryobench.plan import Plan

CELLS, CLAIMS = "tables/cells.parquet", "tables/claims.csv"


@dataclass(frozen=True)
class Missing:
    """A file that the plan has and the results lack, where the report says so, and what makes it."""

    anchor: str
    file: str
    command: str


def write_report(plan: Plan, results: Path, out: Path) -> list[Missing]:
    """Writes the report of a results folder to `out` (.html) and returns what is missing there.

    Missing files have a place in the report that says so. Raises InputError where there are no results at all, and for
    files that are there but damaged.
    """
    if not results.is_dir():
        raise InputError(f"{results} is no folder; run the experiment first, or name its results with --results.")
    from matryobench.chain.sources import Sources

    parts = contents.contents(plan, results)
    sources = Sources.of(plan, results, _read_files(plan, results, parts))
    page, missing = _page(plan, results, parts)
    write_text(out, page)
    sources.sign("report", [out])
    return missing


def _read_files(plan: Plan, results: Path, parts: Sequence[contents.Part]) -> list[Path]:
    """All of the results that the page shows something of."""
    shown = [file for entry in contents.entries(parts) for file in entry.files]
    kept = [f"data/{name}.parquet" for name in plan.dataset_names()]
    patterns = ("tables/*.csv", "runs/*/run.json", "evaluation/*/evaluation.json", "pretraining/*/pretraining.json")
    found = [path for pattern in patterns for path in results.glob(pattern)]
    named = [*shown, *kept, CELLS, str(records.DEPLOYMENT_RECORD), layout.BACKBONE, layout.BACKBONE_RECORD]
    return [*found, *(path for file in named if (path := results / file).is_file())]


def _page(plan: Plan, results: Path, parts: Sequence[contents.Part]) -> tuple[str, list[Missing]]:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from matryobench.provenance import config_hash, environment

    found = records.read(plan, results)
    cells = next((path for name in (CELLS, "tables/cells.csv") if (path := results / name).is_file()), None)
    claims = results / CLAIMS
    tests = sorted((results / "tables").glob("*.csv"))
    missing = [
        *([Missing("claims", CLAIMS, contents.command(plan, CLAIMS))] if not claims.is_file() else []),
        *([Missing("explorer", CELLS, contents.command(plan, CELLS))] if cells is None else []),
        *(Missing(one.anchor, one.files[0], one.command) for one in contents.entries(parts) if one.missing),
        *_missing_records(plan, found),
    ]
    script, style = _asset("explorer.js"), _asset("report.css")
    values: dict[str, Any] = {
        "experiment": plan.experiment,
        "command": contents.command(plan),
        "made_by": environment(),
        "script": script,
        "style": style,
        "script_hash": _csp_hash(script),
        "style_hash": _csp_hash(style),
        "parts": parts,
        "missing": missing,
        "verdicts": verdicts.read(claims) if claims.is_file() else None,
        "figures": {entry.name for part in parts for group in part.groups for entry in group.figures},
        "grids": embedding.as_json(grids.explorer(plan, cells, tests)) if cells is not None else None,
        "runs": plan.runs,
        "recorded": len(found.runs),
        "commits": found.distinct("git_commit"),
        "dates": found.dates(),
        "backbone": records.backbone(plan, results),
        "measured": records.measured(results),
        "environment": records.environment(found),
        "hashes": [("cells table", sha256_of(cells)), ("settings", config_hash(plan.experiment))] if cells else [],
        "tables": {
            "runs": records.run_table(plan, found),
            "data": records.data_table(plan, results, found),
            "cost": records.cost_table(plan, found),
        },
    }
    jinja = Environment(
        loader=PackageLoader("matryobench.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return jinja.get_template("page.html.jinja").render(values), missing


def _missing_records(plan: Plan, found: records.Records) -> list[Missing]:
    """The runs and evaluations without a record."""
    kinds = ((found.runs, "runs/{}/run.json"), (found.evaluations, "evaluation/{}/evaluation.json"))
    return [
        Missing("runs", file, contents.command(plan, file))
        for held, pattern in kinds
        for run in plan.by_id
        if run not in held
        for file in [pattern.format(run)]
    ]


def _asset(name: str) -> str:
    return (files("matryobench.report") / name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    """The hash by which the page's policy lets this script or style run, and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
