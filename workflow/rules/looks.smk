"""Adaptive seeds: which runs are asked for. With looks, each is a checkpoint, after which Snakemake plans the following seeds;
a study with fixed seeds has none of these rules, and asks for all its runs at once."""

if STUDY.looks:

    checkpoint look:
        input:
            study=f"{STUDY_FOLDER}/study.json",
            asked=lambda wildcards: asked_after(int(wildcards.look) - 1),
        output:
            record=LOOK,
        log:
            f"{STUDY_FOLDER}/logs/look{{look}}.log",
        wildcard_constraints:
            look=r"\d+",
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            code=digest("analysis.looks"),
        message:
            "Look {wildcards.look}: decide which comparisons get more seeds"
        shell:
            'python -m kvformer look "$(dirname {input.study:q})" {wildcards.look} > {log:q} 2>&1'

    # The report is made whatever became of the runs; this job then fails if one of them did.
    rule ended:
        input:
            study=f"{STUDY_FOLDER}/study.json",
            asked=ASKED,
        output:
            ended=touch(ENDED),
        log:
            f"{STUDY_FOLDER}/logs/ended.log",
        retries: 0
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000,
            runtime=10,
        message:
            "Check that all runs have come to an end"
        shell:
            'python -m kvformer look "$(dirname {input.study:q})" > {log:q} 2>&1'

    # The most that can be trained: all seeds of all comparisons. Nothing else asks for it.
    rule every_seed:
        input:
            summaries(RUNS),
        localrule: True
        message:
            "All seeds of all looks are trained"
