# One job per run. A run is trained again when its own settings or inputs change, never because a source file did.
rule train:
    input:
        tokens=lambda wildcards: EXPERIMENT.training_tokens(wildcards.run),
        table=lambda wildcards: EXPERIMENT.training_table(wildcards.run),
        start=lambda wildcards: EXPERIMENT.start(wildcards.run),
    output:
        model=directory(f"{ROOT}/runs/{{run}}/model"),
        telemetry=f"{ROOT}/runs/{{run}}/telemetry.jsonl",
        record=f"{ROOT}/runs/{{run}}/run.json",
    log:
        f"{ROOT}/logs/train/{{run}}.log",
    benchmark:
        f"{ROOT}/benchmarks/train/{{run}}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: THREADS
    resources:
        **request("train", "run"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        settings=lambda wildcards: EXPERIMENT.plan.settings_hash(
            EXPERIMENT.plan.run(wildcards.run)
        ),
        out=subpath(output.record, parent=True),
    message:
        "train {wildcards.run}"
    shell:
        "{params.matryobench} train {params.config} {wildcards.run} --tokens {input.tokens} --table {input.table}"
        " --start {input.start} --out {params.out} &> {log}"
