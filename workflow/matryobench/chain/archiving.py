"""An experiment as an RO-Crate for an archive: results, records and the workflow that made them, each file with its hash.

Profiles: RO-Crate 1.1, Workflow RO-Crate 1.0, Process Run Crate and Workflow Run Crate 0.5 (https://w3id.org/ro/crate/1.1,
https://w3id.org/ro/wfrun/workflow/0.5). Data, tokens and scores per item are left out, and weights unless asked for; the
records name them by hash.
"""

from __future__ import annotations

import mimetypes
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matryobench import __version__, layout
from matryobench.chain.links import Files, broken, read_record
from matryobench.chain.verifying import CONFIG, open_results, recorded_products, verify
from matryobench.errors import InputError
from matryobench.files import atomic_path, sha256_of
from matryobench.paths import ROOT
from matryobench.provenance import code

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

    from matryobench.dag import Dag

SOURCE = "source"
"""Folder of the crate that holds the checkout's workflow."""

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
_CODE = ("pyproject.toml", "CITATION.cff", "LICENSE", "Makefile", "README.md", "CHANGELOG.md", "config/*.yaml",
         "envs/*", "notebooks/*.ipynb", "workflow/**/*")  # fmt: skip
_FORMS = {".parquet": "application/vnd.apache.parquet", ".yaml": "application/yaml", ".jsonl": "application/jsonl",
          ".md": "text/markdown", ".smk": "text/plain", ".ipynb": "application/x-ipynb+json", ".svg": "image/svg+xml",
          ".tex": "application/x-tex", ".csv": "text/csv", ".cff": "application/yaml"}  # fmt: skip
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of all entries of the zip, so that the same crate has the same bytes


def write_archive(results: Path, out: Path, models: bool = False) -> int:
    """Writes the crate to a folder or, where `out` ends in .zip, a zip file, whole or not at all; returns its files.

    The same results and code give the same bytes. Raises InputError where the chain is broken (`verify` shows where) and
    where `out` is there already.
    """
    if out.exists():
        raise InputError(f"{out} exists already; remove it, or name another file or folder.")
    if problems := broken(verify(results)):
        first = problems[0]
        raise InputError(
            f"{results}: {len(problems)} links of its chain do not hold, the first: {first.file} {first.sentence}; "
            "`matryobench verify` lists them."
        )
    dag = open_results(results)
    own, sources = result_files(dag, results, models), code_files()
    crate = _crate(dag, results, own, sources)
    if out.suffix != ".zip":
        with atomic_path(out) as partial:
            crate.write(partial)
    else:
        with tempfile.TemporaryDirectory(prefix="matryobench-") as folder, atomic_path(out) as partial:
            crate.write(folder)
            _zip(Path(folder), partial)
    return len(own) + len(sources) + 1


def result_files(dag: Dag, results: Path, models: bool) -> list[str]:
    """What of the results belongs into the crate, relative to their folder."""
    plan, files = dag.plan, Files(results)
    found = [CONFIG]
    for record, products in recorded_products(dag).items():
        outputs = (files.record(record) or {}).get("outputs", {})
        found += [record, *products, *(f"{Path(record).parent.as_posix()}/{name}" for name in outputs)]
    places = ["backbone", *(f"pretraining/{name}" for name in {run.pretraining for run in plan.runs} if name)]
    places += [f"{kind}/{run.run_id}" for run in plan.runs for kind in ("runs", "evaluation")]
    patterns = ["*.json", "telemetry.jsonl", "cells.parquet", "cells.csv", *(["model/**/*"] if models else [])]
    for place in places:
        for pattern in patterns:
            matches = sorted((results / place).glob(pattern))
            found += [path.relative_to(results).as_posix() for path in matches if _is_kept(path)]
    return sorted({Path(file).as_posix() for file in found})


def code_files() -> list[str]:
    """The checkout's workflow, relative to its root: what runs the experiment again; the Snakefile comes first."""
    found = [path for pattern in _CODE for path in ROOT.glob(pattern) if _is_kept(path)]
    return ["Snakefile", *sorted({path.relative_to(ROOT).as_posix() for path in found})]


def _is_kept(path: Path) -> bool:
    generated = any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
    return path.is_file() and not path.name.startswith(".") and not generated


def _crate(dag: Dag, results: Path, own: Iterable[str], sources: Iterable[str]) -> ROCrate:
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    experiment, crate = dag.plan.experiment, ROCrate(version="1.1")
    crate.metadata.extra_terms["sha256"] = "https://schema.org/sha256"

    def entity(identifier: str, properties: Mapping[str, Any]) -> Any:
        return crate.add(ContextEntity(crate, identifier, properties=dict(properties)))

    records = [read_record(results / layout.training_record(run.run_id)) for run in dag.plan.runs]
    records += [read_record(results / layout.evaluation_record(run.run_id)) for run in dag.plan.runs]
    dates = sorted(str(record["date"]) for record in records)
    citation = _citation()
    root = crate.root_dataset
    root["conformsTo"] = [
        entity(one, {"@type": "CreativeWork", "name": name, "version": one.rsplit("/", 1)[1]})
        for one, name in PROFILES.items()
    ]
    crate.name = f"{citation['title']}: experiment {experiment.name}"
    crate.description = f"{experiment.description} `matryobench verify .` in this folder checks every hash."
    crate.datePublished = dates[-1]
    crate.license = entity(
        f"https://spdx.org/licenses/{citation['license']}", {"@type": "CreativeWork", "name": citation["license"]}
    )
    crate.creator = [entity(f"#author-{at}", author) for at, author in enumerate(citation["authors"], 1)]
    software = [
        entity(f"#{name}-{version}", {"@type": "SoftwareApplication", "name": name, "softwareVersion": version})
        for name, version in _versions(records)
    ]
    snakefile, *others = sources
    workflow = crate.add_workflow(
        ROOT / snakefile, f"{SOURCE}/{snakefile}", main=True, lang="snakemake",
        properties={
            "name": f"matryobench {__version__}", "version": str(code()["git_commit"] or "unknown"),
            "softwareRequirements": software, **_facts(ROOT / snakefile),
        },
    )  # fmt: skip
    workflow["hasPart"] = [_add(crate, ROOT / file, f"{SOURCE}/{file}") for file in others]
    added = {file: _add(crate, results / file, file) for file in own}
    products = {file for record in recorded_products(dag).items() for file in [record[0], *record[1]]}
    action = crate.add_action(
        workflow, identifier="#run", object=[added[CONFIG]], result=[added[file] for file in sorted(products)],
        properties={
            "@type": "CreateAction", "name": f"Run of the experiment {experiment.name}", "startTime": dates[0],
            "endTime": dates[-1], "actionStatus": "http://schema.org/CompletedActionStatus",
            "description": f"Trained and evaluated by the commits {', '.join(_commits(records))}.",
        },
    )  # fmt: skip
    root["mentions"] = [action]
    return crate


def _add(crate: ROCrate, path: Path, place: str) -> Any:
    return crate.add_file(path, place, properties={"name": Path(place).name, **_facts(path)})


def _facts(path: Path) -> dict[str, Any]:
    form = _FORMS.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
    return {"encodingFormat": form, "contentSize": path.stat().st_size, "sha256": sha256_of(path)}


def _citation() -> dict[str, Any]:
    """Title, licence and authors of CITATION.cff, the authors as entities."""
    from matryobench.validation import read_yaml

    given = read_yaml(ROOT / "CITATION.cff")
    authors = []
    for author in given["authors"]:
        person = " ".join(author[key] for key in ("given-names", "family-names") if key in author)
        authors.append({"@type": "Person" if person else "Organization", "name": person or author["name"]})
    return {"title": given["title"], "license": given["license"], "authors": authors}


def _versions(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Python and every library that the runs and evaluations name, with each version that they were made by."""
    found = {("python", str(record["python"])) for record in records}
    found |= {(name, version) for record in records for name, version in record["libraries"].items() if version}
    return sorted(found)


def _commits(records: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({str(record["git_commit"]) for record in records})


def _zip(folder: Path, out: Path) -> None:
    """All files of a folder, sorted, without times and owners."""
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            entry.file_size = path.stat().st_size  # says whether the entry needs the form for large files
            with path.open("rb") as content, archive.open(entry, "w") as stored:
                shutil.copyfileobj(content, stored)
