"""Tuning before comparing: the trials of each variant, and the choice that the reported runs of tuned tasks wait for.

A study without tuning has none of these rules. The choice is a checkpoint: only once it is made are the configurations of
the reported runs known. It reaches them as a file whose age is ignored, and each run folder says at which values it was
trained, so that a choice that is made again with the same result retrains nothing, and a changed one the runs that it concerns.
"""

import errno
import functools

from kvformer.records.study import StudyManifest
from kvformer.records.tuning import TuningChoice, choice_file

CHOICE = [str(choice_file(Path(STUDY_FOLDER)))] if TRIALS else []
TRIAL_PATH = f"{TUNING}/{RUN_PATH}"
TRIAL_STUDY = f"{STUDY_FOLDER}/{TUNING}/study.json"
OUTCOME = "outcome.txt"
TRIAL_RETRIES = 2

# A trial that failed has an outcome, so that it blocks nothing. The next start of the study tries it again.
FAILED_TRIALS = set()
if workflow.is_main_process:
    for path in TRIALS:
        folder = Path(STUDY_FOLDER, path)
        if (folder / OUTCOME).exists() and not (folder / "summary.json").exists():
            FAILED_TRIALS.add(path)


def chosen_values(wildcards=None):
    """The file of the choices; nothing where nothing is tuned."""
    return [ancient(checkpoints.choose.get().output.choice)] if TRIALS else []


def tuned_runs():
    """The runs at the chosen values, and their records, by path.

    Raises FileNotFoundError while nothing is chosen, or for other values than can be used now: Snakemake then asks again
    after the checkpoint.
    """
    try:
        return runs_at_choice(os.stat(CHOICE[0]).st_mtime_ns)
    except (KvformerError, ValueError):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), CHOICE[0]) from None


@functools.lru_cache(1)
def runs_at_choice(time):
    """The runs at the choices in the file as it was at that time."""
    found = at_chosen(RUNS.values(), TuningChoice.load(Path(CHOICE[0])))
    return {run.path: (run, entry) for run, entry in found}


def tuned_manifest():
    """The study as data, at the chosen values."""
    if not TRIALS:
        return MANIFEST
    return MANIFEST.model_copy(update={"runs": [tuned_runs()[run.path][1] for run in MANIFEST.runs]})


def tuning_warnings():
    """What `kvformer choose` warned of, one line each; empty if there is nothing."""
    log = Path(STUDY_FOLDER, "logs", "choose.log")
    if not TRIALS or not log.exists():
        return ""
    lines = log.read_text(encoding="utf-8").splitlines()
    return "".join(f"\n{line}" for line in lines if line.startswith("warning:"))


if TRIALS:
    TRIAL_MANIFEST = tuning_manifest(STUDY)

    def trial_of(wildcards):
        """The trial that a job's wildcards name."""
        return TRIALS[TRIAL_PATH.format(**wildcards)]

    def trial_input(wildcards):
        """The data of the trial. One that failed before this start of the study is forced to run again."""
        path = TRIAL_PATH.format(**wildcards)
        if path in FAILED_TRIALS:
            workflow.dag.forcefiles.add(f"{STUDY_FOLDER}/{path}/{OUTCOME}")
        return data_of(TRIALS[path])

    rule tune:
        input:
            trial_input,
        output:
            outcome=f"{STUDY_FOLDER}/{TRIAL_PATH}/{OUTCOME}",
        log:
            f"{STUDY_FOLDER}/logs/{TRIAL_PATH}.log",
        benchmark:
            f"{STUDY_FOLDER}/benchmarks/{TRIAL_PATH}.jsonl"
        wildcard_constraints:
            task=alternatives(run.task for run in TRIALS.values()),
            setting=alternatives(run.setting for run in TRIALS.values()),
            variant=alternatives(run.variant for run in TRIALS.values()),
            seed=r"\d+",
        # Before all reported runs: those of tuned tasks wait for them.
        priority: lambda wildcards: -0.5 / (1 + task_resources(wildcards).runtime)
        retries: TRIAL_RETRIES
        conda:
            ENVIRONMENT
        threads: lambda wildcards: trial_of(wildcards).threads
        resources:
            mem_mb=run_mem_mb,
            runtime=run_runtime,
            gpu=run_gpu,
            left=lambda wildcards, attempt: TRIAL_RETRIES + 1 - attempt,
        params:
            run=lambda wildcards: trial_of(wildcards).to_json(),
            variant=lambda wildcards: canonical_json(VARIANTS[wildcards.variant].definition),
            code=lambda wildcards: code_digest(MODULES[wildcards.task]),
            how=lambda wildcards: Untracked(*options_of(TRIAL_PATH.format(**wildcards), wildcards)),
        message:
            "Try {wildcards.setting} for {wildcards.variant} on {wildcards.task}, seed {wildcards.seed}"
        shell:
            'exec python -m kvformer train --run {params.run:q} --out "$(dirname {output.outcome:q})" {params.how}'
            " --outcome {output.outcome:q} --attempts-left {resources.left} > {log:q} 2>&1"

    def trials_differ(wildcards):
        """No input; writes the trials down again where the file has others, also if Snakemake's records are lost."""
        path, text = Path(TRIAL_STUDY), canonical_json(TRIAL_MANIFEST.model_dump(mode="json"))
        if workflow.is_main_process and path.exists():
            found = StudyManifest.read(path)
            if found is None or canonical_json(found.model_dump(mode="json")) != text:
                workflow.dag.forcefiles.add(TRIAL_STUDY)
        return []

    rule tuning_study:
        input:
            trials_differ,
        output:
            study=TRIAL_STUDY,
        log:
            f"{STUDY_FOLDER}/logs/tuning_study.log",
        priority: 100
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            study=canonical_json(TRIAL_MANIFEST.model_dump(mode="json")),
        message:
            "Write down the trials"
        script:
            "../scripts/study.py"

    rule collect_tuning:
        input:
            study=TRIAL_STUDY,
            outcomes=[f"{STUDY_FOLDER}/{path}/{OUTCOME}" for path in TRIALS],
        output:
            runs=f"{STUDY_FOLDER}/{TUNING}/runs.csv",
            curves=f"{STUDY_FOLDER}/{TUNING}/curves.csv.gz",
        log:
            f"{STUDY_FOLDER}/logs/collect_tuning.log",
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            code=digest("analysis.collect"),
        message:
            "Collect the trials into one table"
        shell:
            'python -m kvformer collect "$(dirname {input.study:q})" > {log:q} 2>&1'

    checkpoint choose:
        input:
            study=TRIAL_STUDY,
            runs=f"{STUDY_FOLDER}/{TUNING}/runs.csv",
        output:
            choice=CHOICE[0],
        log:
            f"{STUDY_FOLDER}/logs/choose.log",
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            code=digest("analysis.tuning"),
        message:
            "Choose the values of each variant"
        shell:
            'python -m kvformer choose "$(dirname {output.choice:q})" > {log:q} 2>&1'
