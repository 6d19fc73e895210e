"""The verb `simulate`: arguments to a record on disk and a summary on the screen."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from matryobench.errors import InputError
from matryobench.files import write_json
from matryobench.provenance import environment
from matryobench.scale.settings import Simulation


def run(simulation: Simulation, shard: int | None, out: Path) -> None:
    """Simulates and writes the record to `out` (.json), its files to the folder of that name without the ending.

    A record of a whole simulation replaces the folder's shards. Raises InputError as `simulate` does.
    """
    if out.suffix != ".json":
        raise InputError(f"--out: {out} does not end in .json; name the record to write.")
    from matryobench.scale.simulation import simulate

    folder = out.with_suffix("")
    record = simulate(simulation, shard, folder)
    if shard is None:
        shutil.rmtree(folder / "shards", ignore_errors=True)
    else:
        out = folder / "shards" / f"{shard}-of-{simulation.shards}.json"
    write_json(out, {**record, **environment()})
    _show(record)
    print(f"-> {out}")


def _show(record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", title=f"{record['documents_searched']} of {record['documents']} documents searched")
    for heading in ("seconds", "processor seconds"):
        table.add_column(heading, justify="right")
    for stage, seconds in record["seconds"].items():
        table.add_row(stage, f"{seconds:.2f}", f"{record['cpu_seconds'][stage]:.2f}")
    console = Console()
    console.print(table)
    if record["documents_searched"]:
        print(f"search: {record['documents_per_second']} documents/s at all cells, {record['queries']} queries")
    print("peak memory, MiB: " + ", ".join(f"{stage} {value:.0f}" for stage, value in record["peak_memory_mb"].items()))
    print(f"written: {sum(record['bytes'].values())} bytes")
    for metric, values in record.get("metrics", {}).items():
        print(f"{metric}: {values['mean']:.6f}, as the planted documents must give")
