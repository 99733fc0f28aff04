"""What is checked before the first job, and what is said where another study is running."""

import snakemake.exceptions
import psutil

from kvformer.analysis.provenance import locked_versions
from kvformer.config.places import check_places, check_writable
from kvformer.tracking.address import check_address, unreachable


class FolderInUse(snakemake.exceptions.LockException):
    """Snakemake's own message advises to unlock, which would let two studies write the same files."""

    def __init__(self):
        WorkflowError.__init__(self, folder_in_use())


snakemake.exceptions.LockException = FolderInUse

if workflow.is_main_process:
    try:
        check_places(RESULTS, STUDY.name, {**RUNS, **TRIALS})
        check_address(Path(RESULTS))
    except KvformerError as error:
        raise WorkflowError(str(error)) from None


def folder_in_use():
    """Who uses this folder, and what to do."""
    others = ", ".join(f"pid {number}" for number in running_here())
    if others:
        return (
            f"Another study is running here ({others}) and needs the same files. Wait until it has ended, or use another "
            "folder with --directory."
        )
    return (
        "Another study is running here, on another machine or by another user, and needs the same files; or one was killed. "
        "Wait until it has ended, or use another folder with --directory. Once you are sure that none is running: make unlock"
    )


def running_here():
    """Other Snakemake processes of this machine that work in this folder, without those that they started."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = {}
    for process in psutil.process_iter(["pid", "ppid", "cwd", "cmdline"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == os.getcwd() and any("snakemake" in Path(word).parts for word in words[:4]):
            found[process.info["pid"]] = process.info["ppid"]
    return sorted(number for number, parent in found.items() if parent not in found and number not in ours)


def written():
    """The folders of the results that this start writes to. Prepared data may be somebody else's, and a job of one run goes
    on without an archive."""
    folders = [STUDY_FOLDER, f"{STUDY_FOLDER}/logs", f"{RESULTS}/mlflow"]
    if any(job.rule.name == "prepare" for job in workflow.dag.needrun_jobs()):
        folders += [PREPARED, f"{RESULTS}/logs"]
    return folders + ([EXECUTION.archive] if EXECUTION.runs_per_job > 1 else [])


def check_start():
    """Refuse what would stop the study after its runs are trained; warn of a tracking server that gives no answer."""
    try:
        check_writable(map(Path, written()))
        for path in LOCK:
            list(locked_versions(Path(path)))
        if PUBLISHED:
            from kvformer.analysis.published import load_published  # pandas: too slow for planning

            load_published(Path(PUBLISHED[0]))
    except KvformerError as error:
        raise WorkflowError(str(error)) from None
    if problem := unreachable(os.environ.get("MLFLOW_TRACKING_URI")):
        print(f"warning: {problem}; the runs are trained, and `kvformer track` copies them later", file=sys.stderr)
