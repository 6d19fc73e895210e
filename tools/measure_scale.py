"""Measures how time and memory of a whole grid's search and evaluation grow with the corpus, on fake vectors.

    python tools/measure_scale.py --documents 100000,300000,1000000 --out results/reference/scale.csv [--queries 100,1000]

Every row is a `matryobench simulate` of its own (6 layers x 8 dims, width 768, top 100), one thread, run one after the other:
processor seconds of making the vectors, of the search and of the evaluation; documents per processor second; peak memory; bytes
written; machine, versions and date. Rows of an --out that is there are kept where the same is not measured again. In the end
the table of docs/scaling.md is written from it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
KEYS = ("documents", "queries", "threads")
OUT = PROJECT / "results" / "reference" / "scale.csv"
PAGE = PROJECT / "docs" / "scaling.md"
MARKS = "<!-- scale -->\n", "<!-- /scale -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", default="100000,300000,1000000", help="sizes of the corpus")
    parser.add_argument("--queries", default="100", help="numbers of queries")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--page", type=Path, default=PAGE, help="page whose table is written anew")
    arguments = parser.parse_args()
    for queries in map(int, arguments.queries.split(",")):
        for documents in map(int, arguments.documents.split(",")):
            row = measured(documents, queries, arguments.threads)
            print(json.dumps(row), flush=True)
            write(row, arguments.out)
    page = arguments.page.read_text(encoding="utf-8")
    arguments.page.write_text(with_table(page, read(arguments.out)), encoding="utf-8")


def measured(documents: int, queries: int, threads: int) -> dict[str, str | int | float]:
    """One simulation in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "record.json"
        verb = [sys.executable, str(PROJECT / "workflow" / "run.py"), "simulate", "--documents", str(documents)]
        subprocess.run(
            [*verb, "--queries", str(queries), "--out", str(out)],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.DEVNULL,
        )
        record = json.loads(out.read_text(encoding="utf-8"))
    cpu = record["cpu_seconds"]
    rest = sum(seconds for stage, seconds in cpu.items() if stage not in ("generate", "search", "check"))
    return {
        "documents": documents,
        "queries": queries,
        "threads": record["threads"],
        "generate_cpu_s": cpu["generate"],
        "search_cpu_s": cpu["search"],
        "search_s": record["seconds"]["search"],
        "evaluate_cpu_s": round(rest, 3),
        "documents_per_cpu_s": record["documents_per_cpu_second"],
        "peak_mb_search": record["peak_memory_mb"]["search"],
        "peak_mb": record["peak_memory_mb"]["evaluate"],
        "bytes_rankings": record["bytes"]["rankings.safetensors"],
        "bytes_items": record["bytes"]["items.parquet"],
        "bytes_run_file": record["bytes"]["run.trec.gz"],
        "machine": f"{record['processor']}, {record['cores']} cores",
        "torch": record["libraries"]["torch"],
        "commit": str(record["git_commit"])[:12],
        "date": record["date"][:10],
    }


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def write(row: dict[str, str | int | float], path: Path) -> None:
    """Adds a row, or replaces the one of the same size."""
    kept = [old for old in read(path) if any(old[key] != str(row[key]) for key in KEYS)] if path.exists() else []
    rows = sorted([*kept, row], key=lambda one: [int(one[key]) for key in ("queries", "documents", "threads")])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def with_table(page: str, rows: list[dict[str, str]]) -> str:
    """The page with the table of these rows between its marks."""
    before, rest = page.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    lines = ["| documents | queries | search, processor s | documents/s | vectors, s | merge, metrics, files, s | peak MiB |",
             "|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for row in rows:
        counts = (f"{int(row[key]):,}" for key in ("documents", "queries"))
        seconds = (f"{float(row[key]):.1f}" for key in ("generate_cpu_s", "evaluate_cpu_s"))
        rate = f"{int(row['documents_per_cpu_s']):,}"
        cells = (*counts, f"{float(row['search_cpu_s']):.1f}", rate, *seconds, f"{float(row['peak_mb']):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    taken = sorted({(row["machine"], row["torch"], row["date"]) for row in rows})
    lines += ["", *(f"{machine}; torch {torch}; {date}." for machine, torch, date in taken)]
    return before + MARKS[0] + "\n".join(lines) + "\n" + MARKS[1] + after


if __name__ == "__main__":
    main()
