# Data: every dataset checked and written as a table, then tokenised once per (dataset, maximum lengths).


localrules:
    fetch_data,


rule fetch_data:
    input:
        # Only groups that are mined from other datasets have inputs.
        lambda wildcards: EXPERIMENT.fetched_from(wildcards.dataset),
    output:
        f"{ROOT}/data/{{dataset}}.parquet",
    log:
        f"{ROOT}/logs/fetch_data/{{dataset}}.log",
    benchmark:
        f"{ROOT}/benchmarks/fetch_data/{{dataset}}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        **request("fetch_data", "dataset"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        entry=lambda wildcards: EXPERIMENT.dataset_hash(wildcards.dataset),
    message:
        "fetch {wildcards.dataset}"
    shell:
        "{params.matryobench} fetch {params.config} --dataset {wildcards.dataset} --out {output} &> {log}"


if not EXPERIMENT.pretrains:

    localrules:
        fetch_backbone,

    rule fetch_backbone:
        output:
            f"{ROOT}/backbone/backbone.json",
        log:
            f"{ROOT}/logs/fetch_backbone/backbone.log",
        benchmark:
            f"{ROOT}/benchmarks/fetch_backbone/backbone.tsv"
        conda:
            "../../envs/data.yaml"
        threads: 1
        resources:
            **request("fetch_backbone"),
        params:
            matryobench=MATRYOBENCH,
            config=EXPERIMENT.config,
            backbone=EXPERIMENT.backbone_hash(),
        message:
            "fetch the backbone"
        shell:
            "{params.matryobench} fetch {params.config} --backbone --out {output} &> {log}"


rule tokenise:
    input:
        table=f"{ROOT}/data/{{dataset}}.parquet",
        backbone=f"{ROOT}/backbone/backbone.json",
    output:
        f"{ROOT}/tokens/{{dataset}}.{{lengths}}.safetensors",
    log:
        f"{ROOT}/logs/tokenise/{{dataset}}.{{lengths}}.log",
    benchmark:
        f"{ROOT}/benchmarks/tokenise/{{dataset}}.{{lengths}}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        **request("tokenise", "dataset"),
    params:
        matryobench=MATRYOBENCH,
        # "128", or for groups "32-196": of queries and of passages
        lengths=lambda wildcards: wildcards.lengths.replace("-", " "),
    message:
        "tokenise {wildcards.dataset}"
    shell:
        "{params.matryobench} tokenise {input.table} {params.lengths} --backbone {input.backbone}"
        " --out {output} &> {log}"
