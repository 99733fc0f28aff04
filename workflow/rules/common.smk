"""The study as Python objects, and what all rules use."""

import gc
import os
import re
import shlex
import signal
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import RerunTrigger

# Not workflow.basedir, which is the folder of another Snakefile where this workflow is a module of it.
ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
SOURCE = ROOT / "src"
MODULE = Path(workflow.main_snakefile).resolve() != (ROOT / "Snakefile").resolve()
if not SOURCE.is_dir():
    raise WorkflowError(
        "kvformer's workflow needs its checkout: clone it, and give the module the path of its Snakefile"
    )
sys.path.insert(0, str(SOURCE))

from kvformer.analysis.provenance import find_lock
from kvformer.config.availability import leave_out_missing, preparations, without_skipped
from kvformer.config.gpus import has_gpu, unmet_wishes
from kvformer.config.loading import load_study, read_yaml
from kvformer.config.places import check_path
from kvformer.config.tuning import describe_tuning, tuning_runs
from kvformer.dependencies import digest
from kvformer.environment import settle
from kvformer.errors import KvformerError
from kvformer.records.study import StudyStart, start_file
from kvformer.records.tuning import FOLDER as TUNING
from kvformer.training.archive import count_archived

# SLURM sends the warning before a time limit to all processes of a job, but only the trainer can act on it. If it ended the
# Snakemake around the trainer, SLURM would kill the trainer before its state is saved.
if not workflow.is_main_process:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def plan():
    """The study and the tasks left out because their data are missing. Only the process that plans looks for data."""
    for path in map(Path, [] if MODULE else workflow.configfiles):
        if path.suffix != ".json":
            read_yaml(path)  # rejects a key that is given twice, which Snakemake's own reader accepts
    if workflow.is_main_process:
        return leave_out_missing(config)
    study = load_study(config)
    return without_skipped(config, StudyStart.read(start_file(Path(study.execution.results_folder, study.name))))


try:
    check_path("the folder of the project", ROOT, os.pathsep)  # it goes into PYTHONPATH
    STUDY, SKIPPED = plan()
    RUNS = {run.path: run for run in STUDY.runs()}
    TRIALS = {f"{TUNING}/{run.path}": run for run in tuning_runs(STUDY)}
    MANIFEST = STUDY.manifest(SKIPPED)
    CHANGED, REMARKS = preparations(STUDY) if workflow.is_main_process else ([], [])
except KvformerError as error:
    raise WorkflowError(str(error)) from None

for entry in SKIPPED:
    print(f"left out: {entry.task}, for {entry.reason}", file=sys.stderr)
for line in filter(None, [*REMARKS, describe_tuning(STUDY) if workflow.is_main_process else ""]):
    print(line, file=sys.stderr)
TUNED_TASKS = {run.task for run in TRIALS.values()}

# GPUs are those of this machine, unless the jobs run on others (`--jobs` of a cluster).
if workflow.is_main_process:
    gpu = has_gpu()
    fixed = TRIALS | {path: run for path, run in RUNS.items() if run.task not in TUNED_TASKS}
    if archived := count_archived(STUDY, fixed, gpu):
        print(f"{archived} of {len(fixed)} runs are taken over from {STUDY.execution.archive}", file=sys.stderr)
    for wish in unmet_wishes(STUDY, gpu or workflow.resource_settings.nodes is not None):
        print(f"warning: {wish}", file=sys.stderr)

EXECUTION = STUDY.execution
RESULTS = EXECUTION.results_folder
STUDY_FOLDER = f"{RESULTS}/{STUDY.name}"
PREPARED = f"{RESULTS}/data"
TRACKED = f"{RESULTS}/mlflow/{STUDY.name}.tracked"
RUN_PATH = "runs/{task}/{setting}/{variant}/seed{seed}"
ENVIRONMENT = "../envs/kvformer.yaml"
COST = [f"{STUDY_FOLDER}/cost.csv"] if STUDY.cost else []
TEMPLATES = [os.path.relpath(path) for path in sorted((SOURCE / "kvformer" / "reporting" / "templates").iterdir())]
LOCK = [os.path.relpath(path) for path in [find_lock(Path(STUDY_FOLDER))] if path]

if workflow.modifier.path_modifier.replace_prefix(STUDY_FOLDER) != STUDY_FOLDER:
    raise WorkflowError("kvformer's module takes no prefix; give its config another execution.results_folder")

SNAKEFILE = os.path.relpath(ROOT / "Snakefile")

# Published numbers to compare with: those of the working directory, or else those that come with the workflow.
published = [Path(folder, "config", "published.csv") for folder in (".", ROOT)]
PUBLISHED = [os.path.relpath(path) for path in published if path.is_file()][:1]


class Untracked:
    """A part of a command that may change without a rerun: as parameters, Snakemake compares only plain values."""

    def __init__(self, *words):
        self.words = words

    def __str__(self):
        return shlex.join(self.words)


MEASURING = Untracked("--data", PREPARED, "--device", EXECUTION.device)

# Jobs get files and arguments, the environment that `settle` describes, and these variables:
# - PATH and PYTHONPATH, so that they use this interpreter and this checkout's package, whether or not anything is installed or
#   activated. A rule's conda environment or container, where one is used, comes before both.
# - MLFLOW_TRACKING_URI, because a server's address may hold a password, which must not appear in a command.
if not MODULE:  # the jobs of another workflow keep their environment; kvformer's commands settle theirs by themselves
    settle()
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    PYTHONPATH=os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")])),
)
if EXECUTION.tracking_uri:
    os.environ.update(MLFLOW_TRACKING_URI=EXECUTION.tracking_uri)
    del config["execution"]["tracking_uri"]  # Snakemake writes `config` into the file of a script that it starts

# The plan of thousands of jobs is millions of objects that live to the end: searching them for garbage took a fifth of planning.
gc.set_threshold(200_000)


def compares():
    """Whether to look for what has changed besides the ages of files: in the process that plans, unless it is told not to."""
    return workflow.is_main_process and RerunTrigger.PARAMS in workflow.rerun_triggers


def alternatives(values):
    """A regular expression for exactly these names."""
    return "|".join(sorted(map(re.escape, set(values)))) or "(?!)"


def all_cores(wildcards):
    """All cores that Snakemake may use. On a cluster one: `--cores all` of a job there means the node's, not the job's."""
    return 1 if workflow.remote_exec else workflow.resource_settings.cores or 1


def changed_user_files(wildcards):
    """No input; makes Snakemake prepare a data set again whose files the user has changed. Kept apart from parameters,
    which Snakemake compares only where it ran before: not after `results` was copied or `.snakemake` deleted."""
    if wildcards.dataset in CHANGED:
        workflow.dag.forcefiles.add(f"{PREPARED}/{wildcards.dataset}/manifest.json")
    return []
