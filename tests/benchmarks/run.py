"""Runs the benchmarks, each in a process of its own, and writes their table.

    python tests/benchmarks/run.py [NAMES] [--quick] [--repeats 3] [--threads N] [--mirror DIR] [--demo DIR] [--out FILE.md]

A benchmark runs our way and its peer in alternation on the same data, checks that the results agree and gives rows. They
replace the rows of the same benchmark in the table and in the .json beside it; those of other benchmarks stay. Exit code 1:
results disagreed or a benchmark broke. A missed target is in the table and not an error: these are not tests.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(Path(__file__).resolve().parent)]

from harness import Absent, Outcome, Setting
from page import markdown
from records import record_of

from matryobench.files import write_json, write_text

BENCHMARKS = {
    "sts-grid": "sts_grid.run",
    "search-time": "search_time.run",
    "search-memory": "search_memory.run",
    "encoding": "encoding.run",
    "objective-cost": "objective_cost.run",
    "training-step": "training_step.run",
    "truncated-depth": "truncated_depth.run",
    "mteb-classification": "mteb_cells.classification",
    "mteb-retrieval": "mteb_cells.retrieval",
    "dry-run": "start_up.dry_run",
    "job-overhead": "start_up.job_overhead",
    "make-demo": "start_up.make_demo",
}


def main() -> int:
    """The command line; see the module."""
    options = _options()
    if options.worker:
        write_json(options.worker, measure(options.names[0], options))
        return 0
    mirror = options.mirror or _mirror()
    threads = str(options.threads)
    environment = os.environ | {
        "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
        "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "TQDM_DISABLE": "1",
    }  # fmt: skip
    records, broken = _earlier(options.out), False
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names or list(BENCHMARKS):
            result = Path(folder) / f"{name}.json"
            command = [sys.executable, __file__, name, "--worker", str(result), "--threads", threads, "--repeats",
                       str(options.repeats), "--demo", str(options.demo)]  # fmt: skip
            command += ["--quick"] * options.quick + (["--mirror", str(mirror)] if mirror else [])
            ran = subprocess.run(command, env=environment, check=False)
            if ran.returncode:
                print(f"{name}: broke", file=sys.stderr)
                broken = True
                continue
            records[name] = json.loads(result.read_text(encoding="utf-8"))
            broken |= not _print(records[name])
            _write(options.out, records)
    print(f"-> {options.out} and {options.out.with_suffix('.json')}")
    return int(broken)


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The record of one benchmark, run in this process."""
    import torch
    from machine import description, rates

    # Their loading reports and warnings are not about what is measured.
    for library in ("transformers", "sentence_transformers", "datasets"):
        importlib.import_module("logging").getLogger(library).setLevel("ERROR")
    torch.set_num_threads(options.threads)
    reached = rates(torch.device("cpu"), options.quick)
    module, function = BENCHMARKS[name].split(".")
    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(options.quick, options.repeats, options.threads, options.mirror, options.demo, Path(scratch))
        try:
            outcome = getattr(importlib.import_module(module), function)(setting)
        except Absent as reason:
            outcome = Outcome(absent=str(reason))
    return record_of(name, outcome, reached, description(), options.threads, options.quick, options.repeats)


def _earlier(out: Path) -> dict[str, Any]:
    file = out.with_suffix(".json")
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _write(out: Path, records: dict[str, Any]) -> None:
    ordered = {
        name: records[name] for name in [*BENCHMARKS, *sorted(set(records) - set(BENCHMARKS))] if name in records
    }
    write_json(out.with_suffix(".json"), ordered)
    write_text(out, markdown(ordered))


def _print(record: dict[str, Any]) -> bool:
    """Shows the rows; whether all results agreed."""
    if record["absent"]:
        print(f"{record['name']}: not run: {record['absent']}", flush=True)
    for row in record["rows"]:
        agreement = row["agreement"] or {"text": "nothing to compare", "holds": True}
        met = {True: "met", False: "MISSED", None: "no target"}[row["met"]]
        print(f"{row['name']} against {row['peer']}: {row['value']:.3g} (target {row['target']}: {met}); {agreement['text']}"
              + ("" if agreement["holds"] else ", WHICH DISAGREES"), flush=True)  # fmt: skip
    return all(row["agreement"] is None or row["agreement"]["holds"] for row in record["rows"])


def _mirror() -> Path | None:
    """The project's mirror, or one made of the shared public data beside the project; None without either."""
    shared, made = ROOT.parent / "shared" / "data", ROOT / "build" / "benchmark-mirror"
    if (ROOT / "mirror").is_dir():
        return ROOT / "mirror"
    if not shared.is_dir():
        return None
    tool = ROOT / "tools" / "mirror_from_shared.py"
    subprocess.run([sys.executable, str(tool), str(shared), str(made)], check=True, stdout=subprocess.DEVNULL)
    return made


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all without any")
    parser.add_argument("--quick", action="store_true", help="sizes that take seconds; written to build/ without --out")
    parser.add_argument("--repeats", type=int, default=None, help="pairs of runs; 3, quick 2")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of all libraries; all cores")
    parser.add_argument("--mirror", type=Path, help="of public data; the project's, or made of ../shared/data")
    parser.add_argument(
        "--demo", type=Path, default=ROOT / "results" / "demo", help="results folder of a finished demo"
    )
    parser.add_argument("--out", type=Path, help="page to write; results/reference/benchmarks.md")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    options.repeats = options.repeats or (2 if options.quick else 3)
    quick, full = ROOT / "build" / "benchmarks-quick.md", ROOT / "results" / "reference" / "benchmarks.md"
    options.out = options.out or (quick if options.quick else full)
    return options


if __name__ == "__main__":
    sys.exit(main())
