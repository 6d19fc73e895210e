"""Verification of a results folder: every link of the chain, from the files alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matryobench import layout
from matryobench.chain import stages
from matryobench.chain.links import Files, Link, evaluation_links, run_links
from matryobench.errors import InputError

if TYPE_CHECKING:
    from matryobench.dag import Dag

STAGES = ("data", "tokens", "pre-trainings", "runs", "evaluations", "tables", "figures", "pages")
CONFIG, REPORT = "experiment.yaml", "report.html"


def verify(results: Path) -> list[Link]:
    """All links of the results in a folder, which may have been moved, by the config that the workflow left there.

    Raises InputError where there is no such config, or it cannot be used.
    """
    dag = open_results(results)
    plan, files = dag.plan, Files(results)
    links: list[Link] = []
    for name in plan.dataset_names():
        links += stages.checked(stages.data_links(plan, name, files), "data", layout.table(name))
    for file in stages.token_files(plan):
        links += stages.checked(stages.token_links(file, files), "tokens", file)
    links += stages.checked(stages.backbone_links(plan, files), "pre-trainings", layout.BACKBONE)
    for name in sorted({run.pretraining for run in plan.runs if run.pretraining}):
        file = layout.pretraining_record(name)
        links += stages.checked(stages.continued_links(plan, name, files), "pre-trainings", file)
    for run in plan.runs:
        file = layout.training_record(run.run_id)
        links += stages.checked(run_links(plan, run, files, weights=True), "runs", file)
        file = layout.evaluation_record(run.run_id)
        links += stages.checked(evaluation_links(plan, run, files), "evaluations", file)
    for record, products in recorded_products(dag).items():
        links += stages.checked(stages.product_links(record, products, files), "tables", record)
    return links


def open_results(results: Path) -> Dag:
    """The plan of the config that the workflow left in a results folder."""
    from matryobench.dag import Dag
    from matryobench.validation import read_yaml

    if not (results / CONFIG).is_file():
        raise InputError(f"{results / CONFIG} does not exist; name the results folder of an experiment.")
    return Dag(read_yaml(results / CONFIG), [results / CONFIG])


def recorded_products(dag: Dag) -> dict[str, list[str]]:
    """The record of every product -> the files that the plan asks for and that it is the record of."""
    found: dict[str, list[str]] = {}
    for target in dag.targets():
        product = target.removeprefix(f"{dag.root}/")
        found.setdefault(layout.record(product), []).append(product)
    return found | {layout.record(REPORT): [REPORT]}
