# One tidy table of the experiment, and the tables made from it.
rule collect:
    input:
        tables=EXPERIMENT.cells(),
        records=EXPERIMENT.records(),
        evaluations=EXPERIMENT.evaluations(),
    output:
        cells=f"{ROOT}/tables/cells.parquet",
        csv=f"{ROOT}/tables/cells.csv",
        record=f"{ROOT}/tables/cells.made.json",
    log:
        f"{ROOT}/logs/collect/cells.log",
    benchmark:
        f"{ROOT}/benchmarks/collect/cells.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        **request("collect"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash("analysis/cells.py", "analysis/frames.py"),
        root=subpath(output.cells, ancestor=2),
    message:
        "collect the cells tables of all runs"
    shell:
        "{params.matryobench} collect {params.config} {input.tables} --files {params.root}"
        " --out {output.cells} &> {log}"


# Paired tests of every method against the reference at the named sizes, from per-item scores.
rule significance:
    input:
        cells=f"{ROOT}/tables/cells.parquet",
        scores=lambda wildcards: EXPERIMENT.items(wildcards.task),
        gold=lambda wildcards: EXPERIMENT.gold(wildcards.task),
    output:
        table=f"{ROOT}/tables/{{task}}-significance.parquet",
        csv=f"{ROOT}/tables/{{task}}-significance.csv",
        record=f"{ROOT}/tables/{{task}}-significance.made.json",
    log:
        f"{ROOT}/logs/significance/{{task}}.log",
    benchmark:
        f"{ROOT}/benchmarks/significance/{{task}}.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        **request("significance", "task"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash(
            "analysis/significance.py",
            "analysis/paired.py",
            "analysis/items.py",
            "analysis/sizes.py",
            "analysis/cells.py",
            "analysis/frames.py",
        ),
        root=lambda wildcards, input: str(Path(input.cells).parents[1]),
    message:
        "test the methods of {wildcards.task} at the sizes"
    shell:
        "{params.matryobench} significance {params.config} {wildcards.task} {input.scores} --cells {input.cells}"
        " --files {params.root} --out {output.table} &> {log}"


# The same on every cell, against the baselines: differences with intervals, Holm, equivalence.
rule test_grids:
    input:
        cells=f"{ROOT}/tables/cells.parquet",
        scores=lambda wildcards: EXPERIMENT.items(wildcards.task),
        gold=lambda wildcards: EXPERIMENT.gold(wildcards.task),
    output:
        table=f"{ROOT}/tables/{{task}}-grid-tests.parquet",
        csv=f"{ROOT}/tables/{{task}}-grid-tests.csv",
        record=f"{ROOT}/tables/{{task}}-grid-tests.made.json",
    log:
        f"{ROOT}/logs/test_grids/{{task}}.log",
    benchmark:
        f"{ROOT}/benchmarks/test_grids/{{task}}.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        **request("test_grids", "task"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash(
            "analysis/grid_tests.py",
            "analysis/set_tests.py",
            "analysis/set_scores.py",
            "analysis/intervals.py",
            "analysis/paired.py",
            "analysis/items.py",
            "analysis/cells.py",
            "analysis/frames.py",
        ),
        root=lambda wildcards, input: str(Path(input.cells).parents[1]),
    message:
        "test every cell of {wildcards.task} against the baselines"
    shell:
        "{params.matryobench} grid-tests {params.config} {wildcards.task} {input.scores} --cells {input.cells}"
        " --files {params.root} --out {output.table} &> {log}"


rule tabulate:
    input:
        cells=f"{ROOT}/tables/cells.parquet",
        needs=lambda wildcards: EXPERIMENT.table_needs(wildcards.name),
    output:
        csv=report(
            f"{ROOT}/tables/{{name}}.csv",
            caption="../report/table.rst",
            category=lambda wildcards: written(wildcards).category,
            subcategory=lambda wildcards: written(wildcards).subcategory,
            labels=lambda wildcards: written(wildcards).labels,
        ),
        md=f"{ROOT}/tables/{{name}}.md",
        tex=f"{ROOT}/tables/{{name}}.tex",
        record=f"{ROOT}/tables/{{name}}.made.json",
    log:
        f"{ROOT}/logs/tabulate/{{name}}.log",
    benchmark:
        f"{ROOT}/benchmarks/tabulate/{{name}}.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        **request("tabulate", "name"),
        # Of which a group of small jobs on a cluster has one at a time (workflow/profiles/slurm).
        turn=1,
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash(
            "analysis", "products.py", "reports.py", "expected.py", "deployment"
        ),
        looks=EXPERIMENT.figure_hash(),
        stem=lambda wildcards, output: output[0].removesuffix(".csv"),
    message:
        "write table {wildcards.name}"
    shell:
        "{params.matryobench} table {params.config} {wildcards.name} --cells {input.cells}"
        " --out {params.stem} &> {log}"


# Which cells each method's loss trains, as the finished runs recorded it.
rule cover:
    input:
        EXPERIMENT.records(),
    output:
        csv=f"{ROOT}/tables/coverage.csv",
        record=f"{ROOT}/tables/coverage.made.json",
    log:
        f"{ROOT}/logs/cover/coverage.log",
    benchmark:
        f"{ROOT}/benchmarks/cover/coverage.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        **request("cover"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash("analysis/coverage.py", "analysis/frames.py"),
    message:
        "write the map of gradient coverage"
    shell:
        "{params.matryobench} coverage {params.config} {input} --out {output.csv} &> {log}"


# What the published numbers and the experiment's say of every claim of the papers.
rule judge:
    input:
        f"{ROOT}/tables/cells.parquet",
    output:
        csv=f"{ROOT}/tables/claims.csv",
        md=f"{ROOT}/tables/claims.md",
        html=report(
            f"{ROOT}/tables/claims.html",
            caption="../report/claims.rst",
            category="Claims",
            labels={
                "kind": "table",
                "shows": "verdicts on the papers' claims",
                "methods": "all",
            },
        ),
        record=f"{ROOT}/tables/claims.made.json",
    log:
        f"{ROOT}/logs/judge/claims.log",
    benchmark:
        f"{ROOT}/benchmarks/judge/claims.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        **request("judge"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash(
            "claims",
            "evidence.py",
            "analysis/published.py",
            "analysis/cells.py",
            "analysis/frames.py",
            "analysis/matching.py",
        ),
        claims=EXPERIMENT.claims_hash(),
        looks=EXPERIMENT.figure_hash(),
        stem=lambda wildcards, output: output[0].removesuffix(".csv"),
    message:
        "judge the papers' claims"
    shell:
        "{params.matryobench} claims {params.config} --cells {input} --out {params.stem} &> {log}"


ruleorder: collect > significance > test_grids > cover > judge > tabulate
