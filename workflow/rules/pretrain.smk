# Pre-training: of the experiment's own backbone, where it has one, and continued from the backbone (SMAE).
if EXPERIMENT.pretrains:

    rule pretrain:
        input:
            text=EXPERIMENT.pretraining_text,
        output:
            model=directory(f"{ROOT}/backbone/model"),
            numbers=f"{ROOT}/backbone/pretraining.json",
            record=f"{ROOT}/backbone/backbone.json",
        log:
            f"{ROOT}/logs/pretrain/backbone.log",
        benchmark:
            f"{ROOT}/benchmarks/pretrain/backbone.tsv"
        conda:
            "../../envs/train.yaml"
        threads: THREADS
        resources:
            **request("pretrain"),
        params:
            matryobench=MATRYOBENCH,
            config=EXPERIMENT.config,
            backbone=EXPERIMENT.backbone_hash(),
            out=subpath(output.record, parent=True),
        message:
            "pre-train the backbone"
        shell:
            "{params.matryobench} pretrain {params.config} --text {input.text} --out {params.out} &> {log}"


rule continue_pretraining:
    input:
        text=lambda wildcards: EXPERIMENT.pretraining_table(wildcards.name),
        start=f"{ROOT}/backbone/backbone.json",
    output:
        model=directory(f"{ROOT}/pretraining/{{name}}/model"),
        numbers=f"{ROOT}/pretraining/{{name}}/pretraining.json",
        telemetry=f"{ROOT}/pretraining/{{name}}/telemetry.jsonl",
        record=f"{ROOT}/pretraining/{{name}}/backbone.json",
    log:
        f"{ROOT}/logs/pretrain/{{name}}.log",
    benchmark:
        f"{ROOT}/benchmarks/pretrain/{{name}}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: THREADS
    resources:
        **request("continue_pretraining", "name"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        settings=lambda wildcards: EXPERIMENT.pretraining_hash(wildcards.name),
        out=subpath(output.record, parent=True),
    message:
        "continue the pre-training: {wildcards.name}"
    shell:
        "{params.matryobench} pretrain {params.config} --continued {wildcards.name} --start {input.start}"
        " --text {input.text} --out {params.out} &> {log}"
