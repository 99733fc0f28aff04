rule prepare:
    input:
        changed_user_files,
    output:
        manifest=f"{PREPARED}/{{dataset}}/manifest.json",
    log:
        f"{RESULTS}/logs/prepare/{{dataset}}.log",
    wildcard_constraints:
        dataset=alternatives(STUDY.datasets()),
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        folders=Untracked("--out", PREPARED, "--user-folder", EXECUTION.data_folder),
    message:
        "Prepare the data set {wildcards.dataset}"
    shell:
        "python -m kvformer prepare {wildcards.dataset:q} {params.folders} > {log:q} 2>&1"
