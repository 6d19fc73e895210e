# One tidy table of the experiment, and the tables made from it.
rule collect:
    input:
        EXPERIMENT.cells(),
    output:
        cells=f"{ROOT}/tables/cells.parquet",
        csv=f"{ROOT}/tables/cells.csv",
    log:
        f"{ROOT}/logs/collect/cells.log",
    benchmark:
        f"{ROOT}/benchmarks/collect/cells.tsv"
    conda:
        "../../envs/matryobench.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash("analysis/cells.py"),
    message:
        "collect the cells tables of all runs"
    shell:
        "{params.matryobench} collect {params.config} {input} --out {output.cells} &> {log}"


rule tabulate:
    input:
        f"{ROOT}/tables/cells.parquet",
    output:
        multiext(f"{ROOT}/tables/{{name}}", ".csv", ".md", ".tex"),
    log:
        f"{ROOT}/logs/tabulate/{{name}}.log",
    benchmark:
        f"{ROOT}/benchmarks/tabulate/{{name}}.tsv"
    conda:
        "../../envs/matryobench.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash("analysis", "reports.py"),
        looks=EXPERIMENT.figure_hash(),
        stem=lambda wildcards, output: output[0].removesuffix(".csv"),
    message:
        "write table {wildcards.name}"
    shell:
        "{params.matryobench} table {params.config} {wildcards.name} --cells {input} --out {params.stem} &> {log}"


ruleorder: collect > tabulate
