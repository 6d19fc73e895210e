# The whole grid of a run from one encoding of every distinct text.
EVALUATION_CODE = (
    "evaluation",
    "models",
    "tensors.py",
    "data/tokens.py",
    "data/doc_ids.py",
    "data/instructed_tokens.py",
    "data/collections.py",
    "data/classifications.py",
)


rule evaluate:
    input:
        model=f"{ROOT}/runs/{{run}}/model",
        record=f"{ROOT}/runs/{{run}}/run.json",
        files=lambda wildcards: EXPERIMENT.evaluation_files(wildcards.run),
    output:
        cells=f"{ROOT}/evaluation/{{run}}/cells.parquet",
        csv=f"{ROOT}/evaluation/{{run}}/cells.csv",
        scores=f"{ROOT}/evaluation/{{run}}/items.parquet",
        record=f"{ROOT}/evaluation/{{run}}/evaluation.json",
    log:
        f"{ROOT}/logs/evaluate/{{run}}.log",
    benchmark:
        f"{ROOT}/benchmarks/evaluate/{{run}}.tsv"
    conda:
        "../../envs/evaluate.yaml"
    threads: THREADS
    resources:
        **request("evaluate", "run"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        settings=lambda wildcards: EXPERIMENT.plan.evaluation_hash(
            EXPERIMENT.plan.run(wildcards.run)
        ),
        code=source_hash(*EVALUATION_CODE),
        root=lambda wildcards, input: str(Path(input.model).parents[2]),
        out=subpath(output.cells, parent=True),
    message:
        "evaluate {wildcards.run}"
    shell:
        "{params.matryobench} evaluate-run {params.config} {wildcards.run} --model {input.model} --files {params.root}"
        " --out {params.out} &> {log}"


# One shard of a corpus that is too large for one job; the evaluation merges the rankings.
rule search:
    input:
        model=f"{ROOT}/runs/{{run}}/model",
        record=f"{ROOT}/runs/{{run}}/run.json",
        files=lambda wildcards: EXPERIMENT.search_files(wildcards.corpus),
    output:
        f"{ROOT}/evaluation/{{run}}/shards/{{corpus}}.{{shard}}-of-{{shards}}.safetensors",
    log:
        f"{ROOT}/logs/search/{{run}}/{{corpus}}.{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{ROOT}/benchmarks/search/{{run}}/{{corpus}}.{{shard}}-of-{{shards}}.tsv"
    conda:
        "../../envs/evaluate.yaml"
    threads: THREADS
    resources:
        **request("search", "run", "corpus"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        settings=lambda wildcards: EXPERIMENT.plan.evaluation_hash(
            EXPERIMENT.plan.run(wildcards.run)
        ),
        code=source_hash(*EVALUATION_CODE),
        root=lambda wildcards, input: str(Path(input.model).parents[2]),
    message:
        "search {wildcards.corpus} for {wildcards.run}, shard {wildcards.shard} of {wildcards.shards}"
    shell:
        "{params.matryobench} search {params.config} {wildcards.run} {wildcards.corpus} --shard {wildcards.shard}"
        " --of {wildcards.shards} --model {input.model} --files {params.root} --out {output} &> {log}"
