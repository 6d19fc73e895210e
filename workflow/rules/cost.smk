# What cells and trainings cost.


# Once per experiment: all runs share the backbone's shape, and nothing else of a run changes what a cell costs.
rule measure_cost:
    input:
        backbone=f"{ROOT}/backbone/backbone.json",
        files=EXPERIMENT.cost_files(),
    output:
        table=f"{ROOT}/tables/deployment.parquet",
        csv=f"{ROOT}/tables/deployment.csv",
        record=f"{ROOT}/tables/deployment.json",
    log:
        f"{ROOT}/logs/measure_cost/deployment.log",
    benchmark:
        f"{ROOT}/benchmarks/measure_cost/deployment.tsv"
    conda:
        "../../envs/evaluate.yaml"
    # All cores that the workflow was given, so that nothing runs beside it and disturbs the clock (it computes with the
    # experiment's `threads`, as other jobs do). Where a cluster schedules, there is no such number, and the job itself sees
    # all cores of its node, not those that it was given.
    threads: workflow.is_main_process and workflow.resource_settings.cores or THREADS
    resources:
        **request("measure_cost"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        settings=EXPERIMENT.cost_hash(),
        code=source_hash(
            "deployment/measuring.py",
            "deployment/jobs.py",
            "deployment/costs.py",
            "evaluation/search.py",
            "models",
        ),
        root=subpath(output.table, ancestor=2),
    message:
        "measure what cells cost"
    shell:
        "{params.matryobench} measure-cost {params.config} --backbone {input.backbone} --files {params.root}"
        " --out {output.table} &> {log}"


# Sums of what trainings recorded; nothing is measured again.
rule sum_training_costs:
    input:
        EXPERIMENT.training_records(),
    output:
        multiext(f"{ROOT}/tables/training-costs", ".csv", ".md", ".tex", ".made.json"),
    log:
        f"{ROOT}/logs/sum_training_costs/training-costs.log",
    benchmark:
        f"{ROOT}/benchmarks/sum_training_costs/training-costs.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        **request("sum_training_costs"),
    params:
        matryobench=MATRYOBENCH,
        config=EXPERIMENT.config,
        code=source_hash("deployment/training_costs.py", "analysis/blocks.py"),
        looks=EXPERIMENT.figure_hash(),
        root=subpath(output[0], ancestor=2),
        stem=lambda wildcards, output: output[0].removesuffix(".csv"),
    message:
        "sum up what training cost"
    shell:
        "{params.matryobench} training-costs {params.config} --files {params.root} --out {params.stem} &> {log}"


ruleorder: measure_cost > tabulate
ruleorder: sum_training_costs > tabulate
