from snakemake.utils import min_version

min_version("9.19")

# A study is one file: a file given by --configfile replaces the default one instead of being laid over it.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


rule all:
    input:
        report=f"{STUDY_FOLDER}/report.html",
        tables=f"{STUDY_FOLDER}/tables",
        figures=f"{STUDY_FOLDER}/figures",
        tracked=TRACKED,


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"


onsuccess:
    print(next_steps())


onerror:
    print(partial_report())
