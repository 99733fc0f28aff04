# On the machine that plans: it has looked for the data, and a job elsewhere would not know what was left out.
rule study:
    input:
        study_differs,
        tuned=chosen_values,
    output:
        study=f"{STUDY_FOLDER}/study.json",
    log:
        f"{STUDY_FOLDER}/logs/study.log",
    priority: 100
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        study=manifest_json,
    message:
        "Write down the study"
    script:
        "../scripts/study.py"


rule collect:
    input:
        study=f"{STUDY_FOLDER}/study.json",
        summaries=ASKED,
    output:
        runs=f"{STUDY_FOLDER}/runs.csv",
        curves=f"{STUDY_FOLDER}/curves.csv.gz",
        correct=f"{STUDY_FOLDER}/correct.csv.gz",
    log:
        f"{STUDY_FOLDER}/logs/collect.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=digest("analysis.collect"),
    message:
        "Collect the runs into one table"
    shell:
        'python -m kvformer collect "$(dirname {input.study:q})" > {log:q} 2>&1'
