# One job copies all runs: several writers at once would lock each other out of the database.
rule track:
    input:
        study=f"{STUDY_FOLDER}/study.json",
        runs=f"{STUDY_FOLDER}/runs.csv",
        figures=f"{STUDY_FOLDER}/figures",
        tables=f"{STUDY_FOLDER}/tables",
        report=f"{STUDY_FOLDER}/report.html",
        crate=f"{STUDY_FOLDER}/ro-crate-metadata.json",
    output:
        tracked=touch(TRACKED),
    log:
        f"{STUDY_FOLDER}/logs/track.log",
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=digest("tracking"),
    message:
        "Copy the runs to MLflow"
    shell:
        'python -m kvformer track "$(dirname {input.study:q})" > {log:q} 2>&1'
