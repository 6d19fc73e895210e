"""The verbs that follow the chain from report to data: verify, archive. `cli` has them beside its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Results = Annotated[Path, typer.Argument(help="Results folder of an experiment, with its experiment.yaml.")]


@app.command()
def verify(
    results: Results,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Checks by hashes that every file was made from those that are there; exit code 1 where a link is broken."""
    from matryobench.chain.links import broken
    from matryobench.chain.verifying import verify as verify_results
    from matryobench.printing.verification import print_verification

    links = verify_results(results)
    print_verification(links, as_json)
    if broken(links):
        raise typer.Exit(1)


@app.command()
def archive(
    results: Results,
    out: Annotated[Path, typer.Argument(help="Crate to write: a folder, or a .zip file.")],
    models: Annotated[bool, typer.Option("--models", help="Also the trained models.")] = False,
) -> None:
    """Writes the experiment as an RO-Crate (Workflow Run Crate) for an archive; refuses results whose chain is broken."""
    from matryobench.chain.archiving import write_archive

    print(f"{write_archive(results, out, models)} files -> {out}")
