# One small file stands for some thirty source files, for each of thousands of trainings. A touched file changes no checksum.
rule code:
    input:
        code_of_module,
    output:
        checksums=f"{RESULTS}/code/{{module}}.cksum",
    log:
        f"{RESULTS}/logs/code/{{module}}.log",
    wildcard_constraints:
        module=alternatives(MODULES[run.task] for run in RUNS.values()),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
    message:
        "Take the checksums of the code that trains {wildcards.module} tasks"
    shell:
        "cksum {input:q} > {output.checksums:q} 2> {log:q}"


rule train:
    input:
        data=run_data,
        code=run_code,
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
    priority: run_priority
    conda:
        ENVIRONMENT
    threads: run_threads
    resources:
        mem_mb=run_mem_mb,
        runtime=run_runtime,
        gpu=run_gpu,
    params:
        run=run_json,
        variant=variant_definition,
    message:
        "Train {wildcards.variant} on {wildcards.task} ({wildcards.setting}), seed {wildcards.seed}"
    # exec: a signal of the scheduler reaches the trainer itself, which then saves its state.
    shell:
        'exec python -m kvformer train --run {params.run:q} --out "$(dirname {output.summary:q})"'
        ' --data "$KVFORMER_PREPARED" --device "$KVFORMER_DEVICE"'
        ' --checkpoint-seconds "$KVFORMER_CHECKPOINT_SECONDS" ${{KVFORMER_KEEP_WEIGHTS:+--keep-weights}}'
        " ${{KVFORMER_COMPILE:+--compile=$KVFORMER_COMPILE}}"
        " > {log:q} 2>&1"
