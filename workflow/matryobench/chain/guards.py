"""No row of a result is built from a run that is not what the config asks for: what evaluation and collection refuse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matryobench.chain.links import Files, evaluation_links, identity_links, model_link, read_record, run_links
from matryobench.errors import InputError
from matryobench.files import folder_sha256

if TYPE_CHECKING:
    from matryobench.plan import Plan, Run


def check_model(plan: Plan, run: Run, model: Path) -> dict[str, str]:
    """The SHA-256 of every file of a run's model folder, which its run.json, beside the folder, has to name.

    Raises InputError where run.json is missing or of another run or other settings, or the files are others. A record of
    an earlier version, without hashes of the model, is taken as it is: the evaluation's own record then has them.
    """
    path = model.parent / "run.json"
    record = read_record(path)
    found = model_link("runs", path.name, record.get("model_sha256"), model, f"train {run.run_id} again")
    for link in [*identity_links(plan, run, record, path.name), found]:
        if link.status in ("wrong", "not there"):
            raise InputError(f"{path}: {link.sentence}.")
    return folder_sha256(model) if record.get("model_sha256") is None else record["model_sha256"]


def check_runs(plan: Plan, results: Path) -> None:
    """Follows every run of the plan from its cells table back to the data, as far as the files are there.

    Weights are not hashed again, which evaluation did. Raises InputError, one sentence, for the first link that is
    broken: which run, what differs, what to do. What records of earlier versions do not say is not held against them.
    """
    files = Files(results)
    for run in plan.runs:
        for link in [*run_links(plan, run, files, weights=False), *evaluation_links(plan, run, files)]:
            if link.status in ("wrong", "missing"):
                raise InputError(f"{results / link.file}: {link.sentence}.")
