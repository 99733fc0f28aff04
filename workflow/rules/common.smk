"""The study as Python objects, and the helpers of the rules."""

import gc
import os
import re
import shlex
import signal
import subprocess
import sys
from bisect import bisect
from contextlib import redirect_stdout, suppress
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
from kvformer.config.tuning import at_chosen, describe_tuning, tuning_manifest, tuning_of, tuning_runs
from kvformer.dependencies import CONFIGURATION, code_digest, digest
from kvformer.environment import settle
from kvformer.errors import KvformerError
from kvformer.files import canonical_json, sha256_bytes
from kvformer.records.run import RunFolder
from kvformer.records.study import read_manifest
from kvformer.records.tuning import FOLDER as TUNING
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import MODULES
from kvformer.training.archive import count_archived
from kvformer.training.canary import STARTED
from kvformer.training.identity import outdated
from kvformer.training.provenance import utc_now

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
    return without_skipped(config, Path(study.execution.results_folder, study.name, "study.json"))


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
FIRST_SEEDS = {}
for path, run in {**RUNS, **TRIALS}.items():
    FIRST_SEEDS.setdefault(path.rpartition("/")[0], path)
RUN_PATH = "runs/{task}/{setting}/{variant}/seed{seed}"
ENVIRONMENT = "../envs/kvformer.yaml"
COST = [f"{STUDY_FOLDER}/cost.csv"] if STUDY.cost else []
TEMPLATES = [os.path.relpath(path) for path in sorted((SOURCE / "kvformer" / "reporting" / "templates").iterdir())]
LOCK = [os.path.relpath(path) for path in [find_lock(Path(STUDY_FOLDER))] if path]

if workflow.modifier.path_modifier.replace_prefix(STUDY_FOLDER) != STUDY_FOLDER:
    raise WorkflowError("kvformer's module takes no prefix; give its config another execution.results_folder")

# Published numbers to compare with: those of the working directory, or else those that come with the workflow.
published = [Path(folder, "config", "published.csv") for folder in (".", ROOT)]
SNAKEFILE = os.path.relpath(ROOT / "Snakefile")
PUBLISHED = [os.path.relpath(path) for path in published if path.is_file()][:1]


class Untracked:
    """A part of a command that may change without a rerun: as parameters, Snakemake compares only plain values."""

    def __init__(self, *words):
        self.words = words

    def __str__(self):
        return shlex.join(self.words)


MEASURING = Untracked("--data", PREPARED, "--device", EXECUTION.device)
TRAINING = [
    *MEASURING.words,
    *("--checkpoint-seconds", str(EXECUTION.checkpoint_seconds)),
    *(["--keep-weights"] if EXECUTION.keep_weights else []),
    *([f"--compile={EXECUTION.compile}"] if EXECUTION.compile else []),
    *([] if EXECUTION.cuda_graphs else ["--no-cuda-graphs"]),
    *("--archive", str(EXECUTION.archive)),
    *([] if EXECUTION.reuse else ["--no-reuse"]),
]

# Jobs get files and arguments, the environment that `settle` describes, and these variables:
# - PATH and PYTHONPATH, so that they use this interpreter and this checkout's package, whether or not anything is installed or
#   activated. A rule's conda environment or container, where one is used, comes before both.
# - KVFORMER_STUDY_STARTED, so that only failures since then keep the other seeds of a cell from being started.
# - MLFLOW_TRACKING_URI, because a server's address may hold a password, which must not appear in a command.
if not MODULE:  # the jobs of another workflow keep their environment; kvformer's commands settle theirs by themselves
    settle()
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    PYTHONPATH=os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")])),
)
if workflow.is_main_process:
    os.environ.pop(STARTED, None)
os.environ.setdefault(STARTED, utc_now())
if EXECUTION.tracking_uri:
    os.environ.update(MLFLOW_TRACKING_URI=EXECUTION.tracking_uri)
    del config["execution"]["tracking_uri"]  # Snakemake writes `config` into the file of a script that it starts

# The command of a training job. It is the same text for all of them, so that Snakemake sees no change where others share a job.
# exec: a signal of the scheduler reaches the trainer itself, which then saves its state.
TRAIN = "exec python -m kvformer {params.command} > {log:q} 2>&1"

# The plan of thousands of jobs is millions of objects that live to the end: searching them for garbage took a fifth of planning.
gc.set_threshold(200_000)


def alternatives(values):
    """A regular expression for exactly these names."""
    return "|".join(sorted(map(re.escape, set(values)))) or "(?!)"


def run_of(wildcards):
    """The run that a training job's wildcards name, at the untuned values of its setting."""
    return RUNS[RUN_PATH.format(**wildcards)]


def manifest_json(wildcards):
    """The study as one line of JSON: the content of its study.json."""
    return canonical_json(tuned_manifest().model_dump(mode="json"))


def cost_digest(wildcards):
    """A digest of what the costs depend on: settings, variants, baseline, tuned models and code."""
    definitions = {variant.name: VARIANTS[variant.name].definition for variant in MANIFEST.variants}
    settings = [setting.model_dump(mode="json") for setting in MANIFEST.settings]
    code = digest("training.cost", without=CONFIGURATION)
    parts = [settings, definitions, MANIFEST.baseline, code]
    if tuned := {run.path: run.tuned for run in tuned_manifest().runs if run.tuned}:
        parts.append(tuned)
    return sha256_bytes(canonical_json(parts).encode())


def data_of(run):
    """Manifests of the prepared data sets that a run reads."""
    return [f"{PREPARED}/{dataset}/manifest.json" for dataset in run.datasets]


def needed_by(runs):
    """The data of runs of one setting and, where their values are tuned, the file of the choices. Makes Snakemake train those
    runs again that were trained with another configuration, variant or code, which each run folder says: parameters belong
    to a job, and which runs a job has may change."""
    files = data_of(runs[0]) + (chosen_values() if runs[0].task in TUNED_TASKS else [])
    for run in runs if workflow.is_main_process and RerunTrigger.PARAMS in workflow.rerun_triggers else []:
        with suppress(FileNotFoundError):  # no values are chosen that can be used; once they are, this is asked again
            if outdated(resolved(run), RunFolder(Path(STUDY_FOLDER, run.path))):
                workflow.dag.forcefiles.add(f"{STUDY_FOLDER}/{run.path}/summary.json")
    return files


def run_input(wildcards):
    """What the run needs."""
    return needed_by([run_of(wildcards)])


def changed_user_files(wildcards):
    """No input; makes Snakemake prepare a data set again whose files the user has changed. Kept apart from parameters,
    which Snakemake compares only where it ran before: not after `results` was copied or `.snakemake` deleted."""
    if wildcards.dataset in CHANGED:
        workflow.dag.forcefiles.add(f"{PREPARED}/{wildcards.dataset}/manifest.json")
    return []


def resolved(run):
    """The run with all values that its result depends on. Raises FileNotFoundError as `tuned_runs`."""
    return tuned_runs()[run.path][0] if run.task in TUNED_TASKS else run


def run_command(wildcards):
    """The command that trains the run."""
    path = RUN_PATH.format(**wildcards)
    given = ["--run", resolved(RUNS[path]).to_json(), "--out", f"{STUDY_FOLDER}/{path}"]
    return Untracked("train", *given, *options_of(path, wildcards))


def options_of(path, wildcards):
    """How the run in the folder `path` of the study's folder is trained, without what its result depends on."""
    first = FIRST_SEEDS[path.rpartition("/")[0]]
    canary = [] if first == path else ["--first-seed", f"{STUDY_FOLDER}/{first}"]
    return [*TRAINING, *canary, *gpu_option(wildcards)]


def gpu_option(wildcards):
    """The part of a command that says how many GPUs the job asks for."""
    gpus = task_resources(wildcards).gpu
    return ["--gpus", str(gpus)] if gpus else []


def run_threads(wildcards):
    """Threads of the run; they are part of the result and come from its configuration alone."""
    return run_of(wildcards).threads


def all_cores(wildcards):
    """All cores that Snakemake may use. On a cluster one: `--cores all` of a job there means the node's, not the job's."""
    return 1 if workflow.remote_exec else workflow.resource_settings.cores or 1


def task_resources(wildcards):
    """What the configuration says that one job of the task needs."""
    return STUDY.sections()[wildcards.task].resources


def run_mem_mb(wildcards, attempt):
    """Memory of the run; a retry asks for more, because memory may have been the problem."""
    return task_resources(wildcards).mem_mb * attempt


def run_runtime(wildcards):
    """Time limit of the run in minutes; a retry continues where the run was stopped."""
    return task_resources(wildcards).runtime


def run_priority(wildcards, run=None):
    """The first seed of each cell starts first, to find mistakes early; then long runs, so that no core waits for one at
    the end. All of them start after what prepares them (0). Seeds of a later look come after those of all earlier ones.
    """
    path = run.path if run else RUN_PATH.format(**wildcards)
    first, look = FIRST_SEEDS[path.rpartition("/")[0]] == path, bisect(STUDY.looks, RUNS[path].seed)
    return -1 / (1 + task_resources(wildcards).runtime) - (0 if first else 1) - 2 * look


def run_gpu(wildcards):
    """GPUs of the run."""
    return task_resources(wildcards).gpu


def next_steps():
    """Where the results are and how to look at them; nothing if only a part was asked for."""
    if not Path(TRACKED).exists():
        return ""
    store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{RESULTS}/mlflow/mlflow.db"
    store = re.sub("//[^/@]*@", "//", store)  # without a server's password
    look = f"open {store}" if store.startswith("http") else f"run `mlflow ui --backend-store-uri {store}`"
    return f"""{tuning_warnings()}
Study '{STUDY.name}' is complete: {len(read_manifest(Path(STUDY_FOLDER)).runs)} runs.
  tables   {STUDY_FOLDER}/tables
  figures  {STUDY_FOLDER}/figures
  report   {STUDY_FOLDER}/report.html
  runs     {STUDY_FOLDER}/runs.csv
  MLflow   {store}
To look at the runs in MLflow, run `kvformer ui`, or {look}"""


def partial_report():
    """After a failure: make the report of the runs that are finished, which lists the others, and say so."""
    if not Path(STUDY_FOLDER, "study.json").exists():
        return "The study stopped before its first run, or during its tuning."
    log = Path(STUDY_FOLDER, "logs", "partial.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        if EXECUTION.runs_per_job > 1:
            with redirect_stdout(stream), suppress(KvformerError):
                restore_finished()
        for step in ("collect", "analyse", "tables", "figures", "report"):
            command = [sys.executable, "-m", "kvformer", step, STUDY_FOLDER]
            if subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT).returncode:
                return f"The study is incomplete, and its report could not be made: see {log}."
    return (
        f"The study is incomplete. {STUDY_FOLDER}/report.html shows what is finished, and which runs failed or are missing.\n"
        "Start the same command again to continue: finished runs are kept and interrupted ones resume."
    )
