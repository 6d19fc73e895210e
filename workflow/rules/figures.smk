# Figures: pure functions of the cells table and of what a figure needs beside it.
rule draw:
    input:
        cells=f"{ROOT}/tables/cells.parquet",
        needs=lambda wildcards: EXPERIMENT.figure_needs(wildcards.name),
    output:
        svg=report(
            f"{ROOT}/figures/{{name}}.svg",
            caption="../report/figure.rst",
            category=lambda wildcards: drawn(wildcards).category,
            subcategory=lambda wildcards: drawn(wildcards).subcategory,
            labels=lambda wildcards: drawn(wildcards).labels,
        ),
        png=f"{ROOT}/figures/{{name}}.png",
        pdf=f"{ROOT}/figures/{{name}}.pdf",
        record=f"{ROOT}/figures/{{name}}.made.json",
    log:
        f"{ROOT}/logs/draw/{{name}}.log",
    benchmark:
        f"{ROOT}/benchmarks/draw/{{name}}.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        **request("draw", "name"),
        # Of which a group of small jobs on a cluster has one at a time (workflow/profiles/slurm).
        turn=1,
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash(
            "figures", "products.py", "reports.py", "analysis", "deployment"
        ),
        looks=EXPERIMENT.figure_hash(),
        stem=lambda wildcards, output: output.svg.removesuffix(".svg"),
    message:
        "draw {wildcards.name}"
    shell:
        "{params.matryobench} figure {params.config} {wildcards.name} --cells {input.cells} --out {params.stem} &> {log}"
