"""The study as Python objects, and the helpers of the rules."""

import gc
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Jobs use this checkout's package and this interpreter, whether or not anything is installed or activated.
# A rule's conda environment or container, where one is used, comes before both.
SOURCE = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE))
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    PYTHONPATH=os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")])),
)

from kvformer.dependencies import CONFIGURATION, source_files, training_sources
from kvformer.errors import KvformerError
from kvformer.files import canonical_json, sha256_bytes
from kvformer.config.loading import load_study, read_yaml
from kvformer.config.availability import leave_out_missing, without_skipped
from kvformer.analysis.provenance import find_lock
from kvformer.tasks import MODULES
from kvformer.spec.variants import VARIANTS

# A scheduler's warning is for the trainer, but SLURM sends it to all processes of a job. Were the Snakemake around the trainer to
# die of it, SLURM would kill the trainer before its state is saved.
if not workflow.is_main_process:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def plan():
    """The configuration, its study, and the tasks left out for want of data. Only the process that plans looks for data."""
    for path in map(Path, workflow.configfiles):
        if path.suffix != ".json":
            read_yaml(path)  # Snakemake's own reader lets a key be given twice
    study = load_study(config)
    if not workflow.is_main_process:
        return without_skipped(config, Path(study.execution.results_folder, study.name, "study.json"))
    return leave_out_missing(config, Path(study.execution.results_folder, "data"), Path(study.execution.data_folder))


try:
    RAW, STUDY, SKIPPED = plan()
    RUNS = {run.path: run for run in STUDY.runs()}
    CONTENT = STUDY.content() | {"skipped": SKIPPED}
except KvformerError as error:
    raise WorkflowError(str(error)) from None

for entry in SKIPPED:
    print(f"left out: {entry['task']}, for {entry['reason']}", file=sys.stderr)

RESULTS = STUDY.execution.results_folder
STUDY_FOLDER = f"{RESULTS}/{STUDY.name}"
PREPARED = f"{RESULTS}/data"
TRACKED = f"{RESULTS}/mlflow/{STUDY.name}.tracked"
RUN_PATH = "runs/{task}/{setting}/{variant}/seed{seed}"
ENVIRONMENT = "../envs/kvformer.yaml"
PROFILED = {variant["name"]: VARIANTS[variant["name"]].definition for variant in CONTENT["variants"]}
PROFILE = [f"{STUDY_FOLDER}/profile.csv"] if STUDY.profile else []
PUBLISHED = [path for path in ["config/published.csv"] if Path(path).is_file()]
TEMPLATE = os.path.relpath(SOURCE / "kvformer" / "reporting" / "templates" / "report.html.j2")
LOCK = [os.path.relpath(path) for path in [find_lock(Path(STUDY_FOLDER))] if path]

# The plan of thousands of jobs is millions of objects that stay: looking through them for garbage took a fifth of planning.
gc.set_threshold(200_000)

# What never changes a result travels to the jobs by the environment, so that a change of it reruns nothing.
os.environ.update(
    KVFORMER_DEVICE=STUDY.execution.device,
    KVFORMER_COMPILE=STUDY.execution.compile or "",
    KVFORMER_DATA_FOLDER=STUDY.execution.data_folder,
    KVFORMER_PREPARED=PREPARED,
    KVFORMER_KEEP_WEIGHTS="yes" if STUDY.execution.keep_weights else "",
    KVFORMER_CHECKPOINT_SECONDS=str(STUDY.execution.checkpoint_seconds),
    KVFORMER_STUDY=canonical_json(RAW),
    KVFORMER_SKIPPED=canonical_json(SKIPPED),
    KVFORMER_TRACKING_URI=STUDY.execution.tracking_uri or "",
)


def alternatives(values):
    """A regular expression for exactly these names."""
    return "|".join(sorted(map(re.escape, set(values)))) or "(?!)"


def package_code(*modules, without=()):
    """Source files of modules of the package and of all that they import, relative to the working directory."""
    return [os.path.relpath(path) for path in source_files(*modules, without=without)]


def code_of_module(wildcards):
    """Source files that influence the training of the tasks of a module."""
    return [os.path.relpath(path) for path in training_sources(wildcards.module)]


def run_of(wildcards):
    """The run that a training job's wildcards name."""
    return RUNS[RUN_PATH.format(**wildcards)]


def run_json(wildcards):
    """The run as one line of JSON: all that its result depends on, but for its variant's definition."""
    return run_of(wildcards).to_json()


def variant_definition(wildcards):
    """The variant's definition, so that a change of it reruns its trainings and no others."""
    return canonical_json(VARIANTS[wildcards.variant].definition)


def run_code(wildcards):
    """Checksums of the source files that the run's result depends on."""
    return f"{RESULTS}/code/{MODULES[wildcards.task]}.cksum"


def run_data(wildcards):
    """Manifests of the prepared data sets that the run reads."""
    return [f"{PREPARED}/{dataset}/manifest.json" for dataset in run_of(wildcards).datasets]


def run_threads(wildcards):
    """Threads of the run; they are part of the result and come from its configuration alone."""
    return run_of(wildcards).threads


def all_cores(wildcards):
    """The cores that this machine was given; on a cluster, where nobody says how many a node has, one.

    Snakemake starts a cluster's job with `--cores all`, which is more than the job was planned with.
    """
    return 1 if workflow.remote_exec else workflow.resource_settings.cores or 1


def task_resources(wildcards):
    """What the configuration says that one job of the task needs."""
    return STUDY.sections()[wildcards.task].resources


def run_mem_mb(wildcards, attempt):
    """Memory of the run; a retry asks for more, for it may have run out."""
    return task_resources(wildcards).mem_mb * attempt


def run_runtime(wildcards):
    """Time limit of the run in minutes; a retry goes on where the run was stopped."""
    return task_resources(wildcards).runtime


def run_priority(wildcards):
    """Long trainings start first, so that at the end no core waits for one; all of them after what prepares them (0)."""
    return -1 / (1 + task_resources(wildcards).runtime)


def run_gpu(wildcards):
    """GPUs of the run."""
    return task_resources(wildcards).gpu


def next_steps():
    """What has been made and what to do with it; nothing where only a part was asked for."""
    if not Path(TRACKED).exists():
        return ""
    store = (
        STUDY.execution.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{RESULTS}/mlflow/mlflow.db"
    )
    store = re.sub("//[^/@]*@", "//", store)  # a server's password is not for the screen
    look = f"open {store}" if store.startswith("http") else f"run `mlflow ui --backend-store-uri {store}`"
    return f"""
Study '{STUDY.name}' is complete: {len(RUNS)} runs.
  tables   {STUDY_FOLDER}/tables
  figures  {STUDY_FOLDER}/figures
  report   {STUDY_FOLDER}/report.html
  runs     {STUDY_FOLDER}/runs.csv
  MLflow   {store}
To look at the runs in MLflow, run `kvformer ui`, or {look}"""


def partial_report():
    """After a failure: report the runs that there are, with the failed and missing ones shown, and say so."""
    if not Path(STUDY_FOLDER, "study.json").exists():
        return "The study stopped before its first run."
    log = Path(STUDY_FOLDER, "logs", "partial.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        for step in ("collect", "analyse", "tables", "figures", "report"):
            command = [sys.executable, "-m", "kvformer", step, STUDY_FOLDER]
            if subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT).returncode:
                return f"The study is incomplete, and no report could be made of what there is: see {log}."
    return (
        f"The study is incomplete. {STUDY_FOLDER}/report.html shows what there is, and which runs failed or are missing.\n"
        "Start the same command again to go on: finished runs are kept and interrupted ones resume."
    )
