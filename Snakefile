from snakemake.utils import min_version

min_version("9.19")

# A study is one file: a file given by --configfile replaces the default one instead of being laid over it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


# Used with --sdm apptainer only; built from the Dockerfile, see docs/cluster.md.
container: "kvformer.sif"


include: "workflow/rules/common.smk"


# On a cluster these stay where Snakemake runs: they take seconds, need the internet, or must write to MLflow alone.
localrules:
    all,
    study,
    code,
    prepare,
    track,


# The runs are asked for by themselves: after a failure there are tables of the other runs, which must not count as the whole.
rule all:
    input:
        runs=[f"{STUDY_FOLDER}/{path}/summary.json" for path in RUNS],
        report=f"{STUDY_FOLDER}/report.html",
        tables=f"{STUDY_FOLDER}/tables",
        figures=f"{STUDY_FOLDER}/figures",
        crate=f"{STUDY_FOLDER}/ro-crate-metadata.json",
        tracked=TRACKED,
    message:
        "The study is complete"


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/profile.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"


onsuccess:
    print(next_steps())


onerror:
    print(partial_report())
