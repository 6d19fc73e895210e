# Figures: pure functions of the cells table.
rule draw:
    input:
        f"{ROOT}/tables/cells.parquet",
    output:
        svg=report(
            f"{ROOT}/figures/{{name}}.svg",
            category="Figures",
            labels={"figure": "{name}"},
        ),
        png=f"{ROOT}/figures/{{name}}.png",
        pdf=f"{ROOT}/figures/{{name}}.pdf",
    log:
        f"{ROOT}/logs/draw/{{name}}.log",
    benchmark:
        f"{ROOT}/benchmarks/draw/{{name}}.tsv"
    conda:
        "../../envs/matryobench.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash("figures", "reports.py", "analysis/cells.py"),
        looks=EXPERIMENT.figure_hash(),
        stem=lambda wildcards, output: output.svg.removesuffix(".svg"),
    message:
        "draw {wildcards.name}"
    shell:
        "{params.matryobench} figure {params.config} {wildcards.name} --cells {input} --out {params.stem} &> {log}"
