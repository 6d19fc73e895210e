# The whole grid of a run from one encoding of every distinct text.
rule evaluate:
    input:
        model=f"{ROOT}/runs/{{run}}/model",
        record=f"{ROOT}/runs/{{run}}/run.json",
        tokens=EXPERIMENT.evaluation_tokens(),
    output:
        cells=f"{ROOT}/evaluation/{{run}}/cells.parquet",
        csv=f"{ROOT}/evaluation/{{run}}/cells.csv",
        pairs=f"{ROOT}/evaluation/{{run}}/items.parquet",
        record=f"{ROOT}/evaluation/{{run}}/evaluation.json",
    log:
        f"{ROOT}/logs/evaluate/{{run}}.log",
    benchmark:
        f"{ROOT}/benchmarks/evaluate/{{run}}.tsv"
    conda:
        "../../envs/matryobench.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        settings=lambda wildcards: EXPERIMENT.plan.evaluation_hash(
            EXPERIMENT.plan.run(wildcards.run)
        ),
        code=source_hash("evaluation", "models", "data/tokens.py"),
        tokens=lambda wildcards, input: " ".join(
            f"--tokens {file}" for file in input.tokens
        ),
        out=subpath(output.cells, parent=True),
    message:
        "evaluate {wildcards.run}"
    shell:
        "{params.matryobench} evaluate-run {params.config} {wildcards.run} --model {input.model} {params.tokens}"
        " --out {params.out} &> {log}"
