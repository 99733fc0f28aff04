"""What is said and made when the study ends."""

import subprocess
from contextlib import redirect_stdout, suppress

from kvformer.records.study import read_manifest
from kvformer.tracking.store import without_secrets


def next_steps():
    """Where the results are and how to look at them; nothing if only a part was asked for."""
    if all(job.rule.name != "all" for job in workflow.dag.finished_jobs):
        return ""
    store = without_secrets(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{RESULTS}/mlflow/mlflow.db")
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
