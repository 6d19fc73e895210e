# The report: all of the experiment in one HTML file. Missing files would have a note in their place; here none is missing.
from matryobench.plan import digest

# A change of how the page looks writes it again too.
PAGE = Path(workflow.basedir, "workflow/matryobench/report")
PARTS = [
    file for file in sorted(PAGE.iterdir()) if file.suffix in (".jinja", ".css", ".js")
]


rule report:
    input:
        products=EXPERIMENT.targets(),
        costs=EXPERIMENT.cost_targets(),
        evaluations=[
            f"{ROOT}/evaluation/{run.run_id}/evaluation.json"
            for run in EXPERIMENT.plan.runs
        ],
        records=EXPERIMENT.records(),
    output:
        page=report(
            f"{ROOT}/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"kind": "page", "shows": "the whole experiment"},
        ),
        record=f"{ROOT}/report.made.json",
    log:
        f"{ROOT}/logs/report/report.log",
    benchmark:
        f"{ROOT}/benchmarks/report/report.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        **request("report"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash("report", "products.py"),
        page=digest([file.read_text(encoding="utf-8") for file in PARTS]),
        results=subpath(output[0], parent=True),
    message:
        "write the report"
    shell:
        "{params.matryobench} report {params.config} --results {params.results} --out {output.page} &> {log}"
