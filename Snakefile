from snakemake.utils import min_version

min_version("9.19")

# A study is one file: a file given by --configfile replaces the default one instead of changing it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


# Used with --sdm apptainer only; built from the Dockerfile, see docs/cluster.md.
container: "kvformer.sif"


include: "workflow/rules/common.smk"
include: "workflow/rules/start.smk"
include: "workflow/rules/end.smk"
include: "workflow/rules/study_functions.smk"
include: "workflow/rules/train_functions.smk"
include: "workflow/rules/tuning_functions.smk"
include: "workflow/rules/tuning.smk"
include: "workflow/rules/looks_functions.smk"
include: "workflow/rules/looks.smk"


# The runs are listed as well: after a failure there is a report of the finished runs, which must not count as complete.
rule all:
    input:
        trials=summaries(TRIALS),
        choice=CHOICE,
        runs=ASKED,
        ended=ENDED,
        report=f"{STUDY_FOLDER}/report.html",
        tables=f"{STUDY_FOLDER}/tables",
        figures=f"{STUDY_FOLDER}/figures",
        crate=f"{STUDY_FOLDER}/ro-crate-metadata.json",
        tracked=TRACKED,
    localrule: True
    message:
        "The study is complete"


# On a cluster, rules with `localrule` stay where Snakemake runs: they take seconds, need the internet, or must be the only
# writer to MLflow.
include: "workflow/rules/data.smk"
include: f"workflow/rules/{'train' if EXECUTION.runs_per_job == 1 else 'train_many'}.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/cost.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"


onstart:
    check_start()
    study_start()  # written down for jobs on other machines
    if EXECUTION.runs_per_job > 1:
        keep_finished()


onsuccess:
    print(next_steps())


onerror:
    print(partial_report())
