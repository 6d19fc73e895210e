# Pre-training of the experiment's own backbone, where it has one.
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
            "../../envs/matryobench.yaml"
        threads: THREADS
        resources:
            mem_mb=8000,
            runtime=1440,
        params:
            matryobench=MATRYOBENCH,
            config=EXPERIMENT.config,
            backbone=EXPERIMENT.backbone_hash(),
            out=subpath(output.record, parent=True),
        message:
            "pre-train the backbone"
        shell:
            "{params.matryobench} pretrain {params.config} --text {input.text} --out {params.out} &> {log}"
