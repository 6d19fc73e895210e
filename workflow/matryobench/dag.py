"""What the Snakemake rules ask: the checked plan of a config, which file feeds which job, and what the targets are."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from matryobench import job_inputs, layout
from matryobench.config import Experiment, PretrainedBackbone
from matryobench.data.registry import mined_inputs
from matryobench.deployment.inputs import cost_files, training_records
from matryobench.errors import InputError
from matryobench.estimating.needs import job_need
from matryobench.files import write_text
from matryobench.paths import CLAIMS
from matryobench.plan import Plan, digest
from matryobench.products import FIGURE_FORMATS, TABLE_FORMATS, Product, figures, tables
from matryobench.validation import parse

PACKAGE = Path(__file__).parent

# Rules whose jobs compute on a GPU where there is one.
GPU_RULES = ("pretrain", "continue_pretraining", "train", "evaluate", "search", "measure_cost")


class Dag:
    """The files of an experiment; all paths are strings relative to the working folder, as Snakemake wants them."""

    def __init__(self, config: Mapping[str, Any], configfiles: Sequence[Any]) -> None:
        if not config:
            raise InputError("snakemake: no experiment was given; add --configfile config/demo.yaml.")
        place = str(configfiles[-1]) if configfiles else "snakemake --config"
        experiment = parse(Experiment, config, place)
        self.plan = Plan(experiment, place)
        self.root = str(experiment.folder)
        self.config = f"{self.root}/experiment.yaml"
        self._config = config

    def write_config(self) -> None:
        """Writes the config as Snakemake merged it, for the jobs to read; leaves an equal file untouched."""
        text = yaml.safe_dump(_plain(self._config), sort_keys=False, allow_unicode=True)
        path = Path(self.config)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)

    @property
    def pretrains(self) -> bool:
        """Whether the experiment pre-trains its own backbone."""
        return isinstance(self.plan.experiment.backbone, PretrainedBackbone)

    @property
    def pretraining_text(self) -> str:
        """Table of the text that the backbone is pre-trained on."""
        backbone = self.plan.experiment.backbone
        return self._at(layout.table(backbone.text if isinstance(backbone, PretrainedBackbone) else "none"))

    def pretraining_table(self, name: str) -> str:
        """Table of the text of a continued pre-training."""
        return self._at(layout.table(self.plan.experiment.pretraining[name].text))

    def pretraining_hash(self, name: str) -> str:
        """Hash of what determines a continued pre-training, besides its inputs."""
        spec = self.plan.experiment.pretraining[name].model_dump(mode="json", exclude_defaults=True)
        return digest([spec, list(self.plan.pretraining_sizes(name).values())])

    def fetched_from(self, dataset: str) -> list[str]:
        """Tables that a dataset is made from: those that groups are mined from, none for files."""
        spec = self.plan.datasets.get(dataset)
        return [self._at(layout.table(name)) for name in mined_inputs(spec)] if spec else []

    def training_table(self, run_id: str) -> str:
        """Table that a run is trained on."""
        return self._at(layout.table(self.plan.recipe(self.plan.run(run_id)).train))

    def training_tokens(self, run_id: str) -> str:
        """Token file that a run is trained on."""
        return self._at(job_inputs.training_tokens(self.plan, self.plan.run(run_id)))

    def evaluation_files(self, run_id: str) -> list[str]:
        """What a run's evaluation reads."""
        return [self._at(file) for file in job_inputs.evaluation_files(self.plan, self.plan.run(run_id))]

    def search_files(self, corpus: str) -> list[str]:
        """What the search of a corpus reads."""
        return [self._at(file) for file in job_inputs.search_files(self.plan, corpus)]

    def start(self, run_id: str) -> str:
        """The record of what a run starts from."""
        return self._at(job_inputs.start(self.plan.run(run_id)))

    def cells(self) -> list[str]:
        """The cells tables of all runs."""
        return [self._at(layout.cells(run.run_id)) for run in self.plan.runs]

    def items(self, task: str) -> list[str]:
        """The per-item scores of a task's runs."""
        return [self._at(layout.items(run.run_id)) for run in self.plan.runs_of(task)]

    def gold(self, task: str) -> list[str]:
        """The tables that hold the gold scores of a task's test sets; retrieval has them in its items."""
        return [self._at(layout.table(name)) for name in self.plan.sts.evaluate] if task == "sts" else []

    def records(self) -> list[str]:
        """The records of all trained runs."""
        return [self._at(layout.training_record(run.run_id)) for run in self.plan.runs]

    def evaluations(self) -> list[str]:
        """The records of all evaluations."""
        return [self._at(layout.evaluation_record(run.run_id)) for run in self.plan.runs]

    def figure_needs(self, name: str) -> list[str]:
        """What a figure is made from besides the cells table; nothing for a name that is none of them."""
        return self._needs(figures(self.plan).get(name))

    def table_needs(self, name: str) -> list[str]:
        """What a table is made from besides the cells table; nothing for a name that is none of them."""
        return self._needs(tables(self.plan).get(name))

    def _needs(self, product: Product | None) -> list[str]:
        return [self._at(f"tables/{file}") for file in (product.needs if product else ())]

    def targets(self) -> list[str]:
        """What the workflow makes besides the report: the experiment's cells table, its figures, tables and notebook."""
        drawn = [self._at(f"figures/{name}.{ending}") for name in figures(self.plan) for ending in FIGURE_FORMATS]
        written = [self._at(f"tables/{name}.{ending}") for name in tables(self.plan) for ending in TABLE_FORMATS]
        claims = [self._at(f"tables/claims.{ending}") for ending in ("csv", "md", "html")]
        products = [*figures(self.plan).values(), *tables(self.plan).values()]
        # What they are made from is kept whole as well: the report reads it too.
        needed = sorted({file for product in products for file in self._needs(product)})
        pages = [self._at(f"notebooks/analysis.{ending}") for ending in ("ipynb", "html")]
        return [self._at("tables/cells.parquet"), *needed, *drawn, *written, *self.cost_targets(), *claims, *pages]

    def need(self, rule: str, key: Any, attempt: int) -> dict[str, int]:
        """What a job asks for: `mem_mb`, `runtime` in minutes and `gpu` cards.

        Memory and minutes grow with the attempt, up to what `compute` says that the cluster grants.
        `key` is what distinguishes the rule's jobs: a run id, a dataset, a pre-training, a task, the name of a table or figure,
        (run id, corpus), or None.
        """
        found = job_need(self.plan, rule, key)
        memory, minutes = found.memory_mb * attempt, found.minutes * attempt
        compute = self.plan.experiment.compute
        return {
            "mem_mb": min(memory, compute.max_memory_mb or memory),
            "runtime": min(minutes, compute.max_minutes or minutes),
            "gpu": self.cards(rule, key),
        }

    def cards(self, rule: str, key: Any) -> int:
        """GPU cards that a rule's job asks for: one per process, none where the experiment computes on CPUs."""
        if rule not in GPU_RULES:
            return 0
        processes = 1
        if rule == "train":
            processes = self.plan.recipe(self.plan.run(key)).training.processes
        elif rule == "continue_pretraining":
            processes = self.plan.experiment.pretraining[key].training.processes
        return self.plan.experiment.compute.cards(processes)

    def dataset_hash(self, name: str) -> str:
        """Hash of a dataset's entry, so that a corrected entry is fetched and checked again."""
        return digest(self.plan.datasets[name].model_dump(mode="json"))

    def backbone_hash(self) -> str:
        """Hash of the backbone's settings."""
        return digest(self.plan.experiment.backbone.model_dump(mode="json"))

    def claims_hash(self) -> str:
        """Hash of the claims that are judged."""
        return digest(CLAIMS.read_text(encoding="utf-8"))

    def figure_hash(self) -> str:
        """Hash of what decides the figures and tables besides the cells table: styles, titles, baselines, selections."""
        looks: list[Any] = [{name: [m.title, m.colour, m.marker] for name, m in self.plan.methods.items()}]
        for task in self.plan.tasks.values():
            shown = {
                "baselines",
                "panels",
                "bands",
                "average",
                "evaluate",
                "sizes",
                "reference",
                "published",
                "stand_ins",
            }
            looks.append([task.model_dump(mode="json", include=shown), list(task.recipes)])
        looks += [anchor.model_dump(mode="json") for anchor in self.plan.experiment.expected]
        return digest(looks)

    def _at(self, file: str) -> str:
        return f"{self.root}/{file}"

    def cost_files(self) -> list[str]:
        """The texts that costs are measured on: of every task's first test set."""
        return [self._at(file) for task in self.plan.tasks for file in cost_files(self.plan, task)]

    def cost_hash(self) -> str:
        """Hash of what is measured, besides its inputs."""
        grids = {name: task.grid.model_dump(mode="json") for name, task in self.plan.tasks.items()}
        return digest([self.plan.experiment.deployment.model_dump(mode="json"), grids])

    def training_records(self) -> list[str]:
        """The records of every training of the experiment: of runs, of what they start from, of its own backbone."""
        return [self._at(file) for file in training_records(self.plan)]

    def cost_targets(self) -> list[str]:
        """The tables of costs; those that join them with quality are among the tables and figures."""
        return [self._at(layout.DEPLOYMENT), *(self._at(f"tables/training-costs.{e}") for e in TABLE_FORMATS)]


def source_hash(*parts: str) -> str:
    """Hash of what some modules or folders of the package do: comments, formatting and file times do not count.

    Rules that are cheap to run again list the code that they use; training rules do not, so that an edit never
    retrains by itself.
    """
    whole = hashlib.sha256()
    for part in parts:
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            whole.update(_meaning(file))
    return whole.hexdigest()[:12]


@cache
def _meaning(file: Path) -> bytes:
    return ast.dump(ast.parse(file.read_text(encoding="utf-8"))).encode()


def _plain(value: Any) -> Any:
    """Snakemake's config as plain containers, which YAML can write."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
