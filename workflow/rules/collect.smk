# On the submitting machine: planning has looked for the data there, and a job elsewhere would not know what was left out.
rule study:
    input:
        script=os.path.relpath(f"{workflow.basedir}/workflow/scripts/study.py"),
    output:
        study=f"{STUDY_FOLDER}/study.json",
    log:
        f"{STUDY_FOLDER}/logs/study.log",
    priority: 100
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        digest=sha256_bytes(canonical_json(CONTENT).encode()),
    message:
        "Write down the study"
    shell:
        "python {input.script:q} {output.study:q} > {log:q} 2>&1"


rule collect:
    input:
        study=f"{STUDY_FOLDER}/study.json",
        summaries=[f"{STUDY_FOLDER}/{path}/summary.json" for path in RUNS],
        code=package_code("analysis.collect"),
    output:
        runs=f"{STUDY_FOLDER}/runs.csv",
        curves=f"{STUDY_FOLDER}/curves.csv.gz",
    log:
        f"{STUDY_FOLDER}/logs/collect.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    message:
        "Collect the runs into one table"
    shell:
        'python -m kvformer collect "$(dirname {input.study:q})" > {log:q} 2>&1'
