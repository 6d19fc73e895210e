# The analysis notebook, executed on the experiment's tables: an example of going on from them, as a page to read.
from matryobench.plan import digest

NOTEBOOK = Path(workflow.basedir, "notebooks", "analysis.ipynb")


rule run_notebook:
    input:
        cells=f"{ROOT}/tables/cells.parquet",
        # Only its intervals need these; mteb has no scores per item.
        scores=[
            file
            for task in EXPERIMENT.plan.tasks
            if task != "mteb"
            for file in EXPERIMENT.items(task)
        ],
        gold=[file for task in EXPERIMENT.plan.tasks for file in EXPERIMENT.gold(task)],
    output:
        notebook=f"{ROOT}/notebooks/analysis.ipynb",
        page=report(
            f"{ROOT}/notebooks/analysis.html",
            category="Notebook",
            labels={"notebook": "analysis"},
        ),
        record=f"{ROOT}/notebooks/analysis.made.json",
    log:
        f"{ROOT}/logs/run_notebook/analysis.log",
    benchmark:
        f"{ROOT}/benchmarks/run_notebook/analysis.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        **request("run_notebook"),
    params:
        matryobench=MATRYOBENCH,
        code=source_hash("notebook.py", "analysis", "claims", "figures"),
        questions=digest(NOTEBOOK.read_text(encoding="utf-8")),
        claims=EXPERIMENT.claims_hash(),
        looks=EXPERIMENT.figure_hash(),
        root=lambda wildcards, input: str(Path(input.cells).parents[1]),
        stem=lambda wildcards, output: output.page.removesuffix(".html"),
    message:
        "run the analysis notebook"
    shell:
        "{params.matryobench} notebook {params.root} --out {params.stem} &> {log}"
