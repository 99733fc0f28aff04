rule train:
    input:
        lambda wildcards: needed_by([run_path(wildcards)]),
    output:
        config=f"{STUDY_FOLDER}/{RUN_PATH}/config.json",
        metrics=f"{STUDY_FOLDER}/{RUN_PATH}/metrics.jsonl",
        summary=f"{STUDY_FOLDER}/{RUN_PATH}/summary.json",
        provenance=f"{STUDY_FOLDER}/{RUN_PATH}/provenance.json",
        attention=f"{STUDY_FOLDER}/{RUN_PATH}/attention.npz",
    log:
        f"{STUDY_FOLDER}/logs/{RUN_PATH}.log",
    benchmark:
        f"{STUDY_FOLDER}/benchmarks/{RUN_PATH}.jsonl"
    wildcard_constraints:
        task=alternatives(run.task for run in RUNS.values()),
        setting=alternatives(run.setting for run in RUNS.values()),
        variant=alternatives(run.variant for run in RUNS.values()),
        seed=r"\d+",
    priority: lambda wildcards: run_priority(run_path(wildcards))
    conda:
        ENVIRONMENT
    threads: lambda wildcards: RUNS[run_path(wildcards)].threads
    resources:
        mem_mb=run_mem_mb,
        runtime=run_runtime,
        gpu=run_gpu,
        attempts_left=run_attempts_left,
    params:
        command=lambda wildcards: run_command(run_path(wildcards), wildcards),
    message:
        "Train {wildcards.variant} on {wildcards.task} ({wildcards.setting}), seed {wildcards.seed}"
    shell:
        TRAIN
