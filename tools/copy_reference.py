"""Copies the small, tidy part of a finished experiment to results/reference: tables, figures, provenance; no models.

    python tools/copy_reference.py results/minilm results/reference/minilm

Refuses results of uncommitted code, since nobody could make them again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from matryobench.errors import InputError
from matryobench.files import atomic_path, write_json

# Pictures to look at and tables to read; .svg, .pdf and .tex are made again from the tables.
PATTERNS = ("tables/*.csv", "tables/*.md", "figures/*.png")


def copy_reference(results: Path, out: Path) -> int:
    """Copies the files and returns their number. Raises InputError for unfinished or uncommitted results."""
    files = [path for pattern in PATTERNS for path in sorted(results.glob(pattern))]
    records = [json.loads(path.read_text()) for path in sorted(results.glob("runs/*/run.json"))]
    evaluations = [json.loads(path.read_text()) for path in sorted(results.glob("evaluation/*/evaluation.json"))]
    if not files or not records or len(records) != len(evaluations):
        raise InputError(f"{results}: not a finished experiment; run the workflow to its end first.")
    for record in [*records, *evaluations]:
        if not record["git_commit"] or record["git_commit"].endswith("-dirty"):
            raise InputError(f"{results}: {record['run_id']} was made by uncommitted code; commit and run it again.")
    with atomic_path(out) as partial:
        for path in files:
            target = partial / path.relative_to(results)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        shutil.copyfile(results / "experiment.yaml", partial / "experiment.yaml")
        write_json(partial / "runs.json", records)
        write_json(partial / "evaluations.json", evaluations)
    return len(files) + 3


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    try:
        print(f"{copy_reference(arguments.results, arguments.out)} files -> {arguments.out}")
    except InputError as error:
        sys.exit(f"copy_reference: {error}")


if __name__ == "__main__":
    main()
