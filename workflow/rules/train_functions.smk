"""What training jobs ask for: reported runs, and the trials of tuning. Both are named by their folders in the study's."""

import functools
from bisect import bisect
from contextlib import suppress

from kvformer.records.run import RunFolder
from kvformer.training.identity import outdated
from kvformer.training.provenance import utc_now

# The command of a training job. It is the same text for all of them, so that Snakemake sees no change where others share a job.
# exec: a signal of the scheduler reaches the trainer itself, which then saves its state.
TRAIN = "exec python -m kvformer {params.command} --attempts-left {resources.attempts_left} > {log:q} 2>&1"

ALL = {**RUNS, **TRIALS}
FIRST_SEEDS = {}
for path in ALL:
    FIRST_SEEDS.setdefault(path.rpartition("/")[0], path)

# Runs that failed on their last attempt when the study was started before. Now they are tried again.
GIVEN_UP = {path for path in ALL if workflow.is_main_process and RunFolder(Path(STUDY_FOLDER, path)).given_up}

# Jobs that run on other machines read when the study was started, how often a job is tried, and which tasks are left out.
START = start_file(Path(STUDY_FOLDER))
STARTED = utc_now()
if not workflow.is_main_process and (start := StudyStart.read(START)):
    STARTED = start.time


@functools.cache
def study_start():
    """The record of this start. The main process writes it down before the first job; as a module, which has no `onstart`,
    before the first one that trains."""
    if not workflow.is_main_process:
        return StudyStart.load(START)
    start = StudyStart(time=STARTED, attempts=workflow.execution_settings.retries + 1, skipped=SKIPPED)
    if not workflow.dryrun:
        start.write(START)
    return start


def trial_attempts_left(wildcards, attempt):
    """How often a trial is tried after this attempt. After the last one nothing waits for it any more."""
    return max(study_start().attempts - attempt, 0)


def run_attempts_left(wildcards, attempt):
    """The same for a run. With fixed seeds it is never 0: what asks for a run waits until it is finished."""
    return max(study_start().attempts - attempt, 0 if STUDY.looks else 1)


def summaries(paths):
    """The files that say how these runs ended."""
    return [f"{STUDY_FOLDER}/{path}/summary.json" for path in paths]


def run_path(wildcards):
    """The run that a job's wildcards name."""
    return RUN_PATH.format(**wildcards)


def trial_path(wildcards):
    """The trial that a job's wildcards name."""
    return TRIAL_PATH.format(**wildcards)


def resolved(path):
    """The run with all values that its result depends on. Raises FileNotFoundError as `tuned_runs`."""
    return tuned_runs()[path][0] if path in RUNS and RUNS[path].task in TUNED_TASKS else ALL[path]


def needed_by(paths):
    """The data of runs of one setting and, where their values are tuned, the file of the choices. Makes Snakemake train
    those runs again that must be."""
    if workflow.is_main_process:
        workflow.dag.forcefiles.update(summaries(filter(trained_again, paths)))
    run = ALL[paths[0]]
    data = [f"{PREPARED}/{dataset}/manifest.json" for dataset in run.datasets]
    return data + (chosen_values() if paths[0] in RUNS and run.task in TUNED_TASKS else [])


def trained_again(path):
    """Whether the run was given up, or was trained with another configuration, variant or code, which its folder says:
    parameters belong to a job, and which runs a job has may change."""
    if path in GIVEN_UP:
        return True
    with suppress(FileNotFoundError):  # no values are chosen that can be used; once they are, this is asked again
        return compares() and outdated(resolved(path), RunFolder(Path(STUDY_FOLDER, path)))
    return False


def run_command(path, wildcards):
    """The command that trains a run."""
    first = FIRST_SEEDS[path.rpartition("/")[0]]
    given = ["--run", resolved(path).to_json(), "--out", f"{STUDY_FOLDER}/{path}"]
    canary = [] if first == path else ["--first-seed", f"{STUDY_FOLDER}/{first}"]
    return Untracked("train", *given, *canary, *how(wildcards))


def how(wildcards):
    """How runs are trained: the part of a command that their results do not depend on."""
    gpus = task_resources(wildcards).gpu
    return [
        *MEASURING.words,
        *("--checkpoint-seconds", str(EXECUTION.checkpoint_seconds)),
        *(["--keep-weights"] if EXECUTION.keep_weights else []),
        *([f"--compile={EXECUTION.compile}"] if EXECUTION.compile else []),
        *([] if EXECUTION.cuda_graphs else ["--no-cuda-graphs"]),
        *("--archive", str(EXECUTION.archive)),
        *([] if EXECUTION.reuse else ["--no-reuse"]),
        *("--study-started", STARTED),
        *(["--gpus", str(gpus)] if gpus else []),
    ]


def share_entries(name):
    """Give a rule a profile's entries for `train`, which are meant for all training jobs. Its own entries come first."""
    train, name = map(workflow.modifier.modify_rulename, ("train", name))
    entries = workflow.resource_settings.overwrite_resources
    if workflow.is_rule(name):  # a workflow of which this one is a module may leave it out
        for resource, value in {**entries.get(train, {}), **entries.get(name, {})}.items():
            workflow.get_rule(name).resources[resource] = value


def task_resources(wildcards):
    """What the configuration says that one job of the task needs."""
    return STUDY.sections()[wildcards.task].resources


def run_mem_mb(wildcards, attempt):
    """Memory of the run; a retry asks for more, because memory may have been the problem."""
    return task_resources(wildcards).mem_mb * attempt


def run_runtime(wildcards):
    """Time limit of the run in minutes; a retry continues where the run was stopped."""
    return task_resources(wildcards).runtime


def run_gpu(wildcards):
    """GPUs of the run."""
    return task_resources(wildcards).gpu


def run_priority(path):
    """The first seed of each cell starts first, to find mistakes early; then long runs, so that no core waits for one at
    the end. All of them start after what prepares them (0). Seeds of a later look come after those of all earlier ones.
    """
    run, first = RUNS[path], FIRST_SEEDS[path.rpartition("/")[0]] == path
    runtime = STUDY.sections()[run.task].resources.runtime
    return -1 / (1 + runtime) - (0 if first else 1) - 2 * bisect(STUDY.looks, run.seed)
