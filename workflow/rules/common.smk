# What all rules share: the checked experiment, and the command line that they call.
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir, "workflow")))

from matryobench.controllers import enter_job, take_over
from matryobench.dag import Dag, source_hash
from matryobench.errors import InputError
from matryobench.failures import explain
from matryobench.locks import Busy, hold_experiment
from matryobench.report.places import place


def stop(sentence):
    """Ends with one sentence and code 2."""
    print(f"matryobench: {sentence}", file=sys.stderr)
    sys.exit(2)


try:
    EXPERIMENT = Dag(config, workflow.configfiles)
    enter_job(Path(EXPERIMENT.root))
except InputError as error:
    stop(error)

# One snakemake at a time works on a results folder. Held until this process ends, however it ends; what only reads the
# workflow (--dag, --lint, --report, ...) goes on without it, and -n does not even ask for it.
REFUSED = LOCK = None
if workflow.is_main_process and not workflow.output_settings.dryrun:
    try:
        LOCK = hold_experiment(Path(EXPERIMENT.root))
        EXPERIMENT.write_config()
    except Busy as busy:
        REFUSED = str(busy)
    except OSError as error:
        REFUSED = explain(error, "snakemake") or str(error)


# Jobs outside conda find the interpreter that Snakemake runs under, activated or not.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
)

ROOT = EXPERIMENT.root


def drawn(wildcards):
    """Where a figure stands in Snakemake's own report."""
    return place(EXPERIMENT.plan, wildcards.name, figure=True)


def written(wildcards):
    """Where a table stands in Snakemake's own report."""
    return place(EXPERIMENT.plan, wildcards.name, figure=False)


def request(rule, *names):
    """What a rule's jobs ask for, from the plan and the attempt; `names` are the wildcards that distinguish them."""

    def asked(resource):
        def value(wildcards, attempt):
            keys = [wildcards[name] for name in names]
            key = (tuple(keys) if len(keys) > 1 else keys[0]) if keys else None
            return EXPERIMENT.need(rule, key, attempt)[resource]

        return value

    return {resource: asked(resource) for resource in ("mem_mb", "runtime", "gpu")}


THREADS = EXPERIMENT.plan.experiment.threads
# `python workflow/run.py` works uninstalled, also inside conda jobs, where PYTHONPATH is removed.
MATRYOBENCH = f"python {os.path.relpath(Path(workflow.basedir, 'workflow', 'run.py'))}"


wildcard_constraints:
    dataset=r"[a-z0-9][a-z0-9_.-]*",
    run=r"[a-z0-9][a-z0-9_.-]*",
    lengths=r"\d+(-\d+)?",
    corpus=r"[a-z0-9][a-z0-9_.-]*",
    shard=r"\d+",
    shards=r"\d+",
    task=r"sts|retrieval",
    name=r"[a-z0-9][a-z0-9-]*",


# After the lock and before the first job, not in dry runs: what an earlier snakemake left in Slurm ends.
onstart:
    if REFUSED:
        stop(REFUSED)
    try:
        if workflow.is_main_process:
            take_over(Path(ROOT), submits=not workflow.local_exec)
    except InputError as error:
        stop(error)
