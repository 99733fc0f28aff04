"""Tuning before comparing: the trials of each variant, and the choice that the reported runs of tuned tasks wait for.

A study without tuning has none of these rules. The choice is a checkpoint: only once it is made are the configurations of
the reported runs known. It reaches them as a file whose age is ignored, and each run folder says at which values it was
trained, so that a choice that is made again with the same result retrains nothing, and a changed one the runs that it concerns.
"""

if TRIALS:

    rule tune:
        input:
            lambda wildcards: needed_by([trial_path(wildcards)]),
        output:
            config=f"{STUDY_FOLDER}/{TRIAL_PATH}/config.json",
            metrics=f"{STUDY_FOLDER}/{TRIAL_PATH}/metrics.jsonl",
            summary=f"{STUDY_FOLDER}/{TRIAL_PATH}/summary.json",
            provenance=f"{STUDY_FOLDER}/{TRIAL_PATH}/provenance.json",
            attention=f"{STUDY_FOLDER}/{TRIAL_PATH}/attention.npz",
        log:
            f"{STUDY_FOLDER}/logs/{TRIAL_PATH}.log",
        benchmark:
            f"{STUDY_FOLDER}/benchmarks/{TRIAL_PATH}.jsonl"
        wildcard_constraints:
            task=alternatives(run.task for run in TRIALS.values()),
            setting=alternatives(run.setting for run in TRIALS.values()),
            variant=alternatives(run.variant for run in TRIALS.values()),
            seed=r"\d+",
        # Before all reported runs: those of tuned tasks wait for them.
        priority: lambda wildcards: -0.5 / (1 + task_resources(wildcards).runtime)
        conda:
            ENVIRONMENT
        threads: lambda wildcards: TRIALS[trial_path(wildcards)].threads
        resources:
            mem_mb=run_mem_mb,
            runtime=run_runtime,
            gpu=run_gpu,
            attempts_left=trial_attempts_left,
        params:
            command=lambda wildcards: run_command(trial_path(wildcards), wildcards),
        message:
            "Try {wildcards.setting} for {wildcards.variant} on {wildcards.task}, seed {wildcards.seed}"
        shell:
            TRAIN

    share_entries("tune")

    rule tuning_study:
        input:
            trials_differ,
        output:
            study=TRIAL_STUDY,
        log:
            f"{STUDY_FOLDER}/logs/tuning_study.log",
        priority: 100
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            study=trials_json,
        message:
            "Write down the trials"
        script:
            "../scripts/study.py"

    rule collect_tuning:
        input:
            study=TRIAL_STUDY,
            summaries=summaries(TRIALS),
        output:
            runs=f"{STUDY_FOLDER}/{TUNING}/runs.csv",
            curves=f"{STUDY_FOLDER}/{TUNING}/curves.csv.gz",
        log:
            f"{STUDY_FOLDER}/logs/collect_tuning.log",
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            code=digest("analysis.collect"),
        message:
            "Collect the trials into one table"
        shell:
            'python -m kvformer collect "$(dirname {input.study:q})" > {log:q} 2>&1'

    checkpoint choose:
        input:
            study=TRIAL_STUDY,
            runs=f"{STUDY_FOLDER}/{TUNING}/runs.csv",
        output:
            choice=CHOICE[0],
        log:
            f"{STUDY_FOLDER}/logs/choose.log",
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            code=digest("analysis.tuning"),
        message:
            "Choose the values of each variant"
        shell:
            'python -m kvformer choose "$(dirname {output.choice:q})" > {log:q} 2>&1'
