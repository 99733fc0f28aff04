# Timings need the machine to themselves: the job asks for all cores, and gets them when the runs are finished.
rule cost:
    input:
        # What the costs depend on is in the parameter; other changes of the study measure nothing again.
        study=ancient(f"{STUDY_FOLDER}/study.json"),
        tuned=chosen_values,
        data=[f"{PREPARED}/{dataset}/manifest.json" for dataset in STUDY.datasets()],
    output:
        cost=f"{STUDY_FOLDER}/cost.csv",
    log:
        f"{STUDY_FOLDER}/logs/cost.log",
    priority: -2
    conda:
        ENVIRONMENT
    threads: all_cores
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        digest=cost_digest,
        how=MEASURING,
    message:
        "Count and measure what the variants cost"
    shell:
        "python -m kvformer cost --study {input.study:q} --out {output.cost:q} {params.how} > {log:q} 2>&1"
