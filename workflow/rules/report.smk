from kvformer.reporting.captions import FIGURES, table_captions


rule analyse:
    input:
        study=f"{STUDY_FOLDER}/study.json",
        runs=f"{STUDY_FOLDER}/runs.csv",
        curves=f"{STUDY_FOLDER}/curves.csv.gz",
        correct=f"{STUDY_FOLDER}/correct.csv.gz",
        cost=COST,
        tuned=CHOICE,
        published=PUBLISHED,
    output:
        results=f"{STUDY_FOLDER}/results.json",
        curves=f"{STUDY_FOLDER}/curve_means.csv.gz",
    log:
        f"{STUDY_FOLDER}/logs/analyse.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=digest("analysis.analyse"),
        published=lambda wildcards, input: Untracked(*(["--published", *input.published] if input.published else [])),
    message:
        "Compute the numbers of the report"
    shell:
        'python -m kvformer analyse "$(dirname {input.study:q})" {params.published} > {log:q} 2>&1'


rule tables:
    input:
        study=f"{STUDY_FOLDER}/study.json",
        results=f"{STUDY_FOLDER}/results.json",
    output:
        tables=report(
            directory(f"{STUDY_FOLDER}/tables"),
            patterns=["{table}.csv"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        f"{STUDY_FOLDER}/logs/tables.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=digest("reporting.tables"),
        captions=table_captions(STUDY.name, STUDY.baseline),
    message:
        "Make the tables"
    shell:
        'python -m kvformer tables "$(dirname {input.study:q})" > {log:q} 2>&1'


rule figures:
    input:
        study=f"{STUDY_FOLDER}/study.json",
        results=f"{STUDY_FOLDER}/results.json",
        curves=f"{STUDY_FOLDER}/curve_means.csv.gz",
    output:
        figures=report(
            directory(f"{STUDY_FOLDER}/figures"),
            patterns=["{figure}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        f"{STUDY_FOLDER}/logs/figures.log",
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=digest("reporting.figures"),
        captions=FIGURES,
    message:
        "Draw the figures"
    shell:
        'python -m kvformer figures "$(dirname {input.study:q})" --processes {threads} > {log:q} 2>&1'


rule report:
    input:
        study=f"{STUDY_FOLDER}/study.json",
        results=f"{STUDY_FOLDER}/results.json",
        tables=f"{STUDY_FOLDER}/tables",
        figures=f"{STUDY_FOLDER}/figures",
        templates=TEMPLATES,
        lock=LOCK,
    output:
        report=report(
            f"{STUDY_FOLDER}/report.html",
            caption="../report/report.rst",
            category="Report",
        ),
    log:
        f"{STUDY_FOLDER}/logs/report.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=digest("reporting.page"),
    message:
        "Write the report"
    shell:
        'python -m kvformer report "$(dirname {input.study:q})" > {log:q} 2>&1'


rule crate:
    input:
        study=f"{STUDY_FOLDER}/study.json",
        runs=f"{STUDY_FOLDER}/runs.csv",
        results=f"{STUDY_FOLDER}/results.json",
        tables=f"{STUDY_FOLDER}/tables",
        figures=f"{STUDY_FOLDER}/figures",
        report=f"{STUDY_FOLDER}/report.html",
        snakefile=SNAKEFILE,
    output:
        crate=f"{STUDY_FOLDER}/ro-crate-metadata.json",
    log:
        f"{STUDY_FOLDER}/logs/crate.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=digest("reporting.crate"),
    message:
        "Describe the results as an RO-Crate"
    shell:
        'python -m kvformer crate "$(dirname {input.study:q})" --snakefile {input.snakefile:q} > {log:q} 2>&1'
