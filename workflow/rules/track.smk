# One job copies all runs: several writers at once would lock each other out of the database.
rule track:
    input:
        study=f"{STUDY_FOLDER}/study.json",
        runs=f"{STUDY_FOLDER}/runs.csv",
        figures=f"{STUDY_FOLDER}/figures",
        tables=f"{STUDY_FOLDER}/tables",
        report=f"{STUDY_FOLDER}/report.html",
        crate=f"{STUDY_FOLDER}/ro-crate-metadata.json",
        code=package_code("tracking"),
    output:
        tracked=touch(TRACKED),
    log:
        f"{STUDY_FOLDER}/logs/track.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    message:
        "Copy the runs to MLflow"
    shell:
        'python -m kvformer track "$(dirname {input.study:q})"'
        ' ${{KVFORMER_TRACKING_URI:+--uri "$KVFORMER_TRACKING_URI"}} > {log:q} 2>&1'
