# Timings need the machine to themselves: the job asks for all cores, and gets them when the trainings are done.
rule profile:
    input:
        data=[f"{PREPARED}/{dataset}/manifest.json" for dataset in STUDY.datasets()],
        code=package_code("training.cost", without=CONFIGURATION),
    output:
        profile=f"{STUDY_FOLDER}/profile.csv",
    log:
        f"{STUDY_FOLDER}/logs/profile.log",
    priority: -1
    conda:
        ENVIRONMENT
    threads: all_cores
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        digest=sha256_bytes(canonical_json([CONTENT["settings"], PROFILED]).encode()),
    message:
        "Count and measure what the variants cost"
    shell:
        'python -m kvformer profile --data "$KVFORMER_PREPARED" --device "$KVFORMER_DEVICE"'
        " --out {output.profile:q} > {log:q} 2>&1"
