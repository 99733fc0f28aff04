"""Training jobs on a real SLURM: told to stop, sent back to the queue, and cancelled, all in one study."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkout import Project
from runs import results
from studies import PROFILE, Jobs, slurm, small_study, undisturbed

from kvformer.files import read_json

pytestmark = pytest.mark.cluster
RUN = "runs/reverse/default/{}/seed0"


def warn(jobs: Jobs, variant: str) -> None:
    """What SLURM does before the time limit."""
    job = jobs.training(variant)
    assert slurm("squeue", "--noheader", f"--jobs={job}", "--format=%m %l %C").split() == ["1500M", "10:00", "1"]
    slurm("scancel", "--signal=USR1", job)


def requeue(jobs: Jobs, variant: str) -> None:
    """What a preemption or the failure of a node does."""
    job = jobs.training(variant)
    slurm("scontrol", "requeue", job)
    jobs.wait(lambda: jobs.state(job) == "PENDING", "the job is in the queue again")
    slurm("scontrol", "update", f"jobid={job}", "StartTime=now")  # SLURM would wait two minutes


def cancel(jobs: Jobs, variant: str) -> None:
    """What a user does, to the retry as well."""
    job = jobs.training(variant)
    slurm("scancel", job)
    slurm("scancel", jobs.training(variant, other_than=job))


def test_nothing_is_lost_by_a_warning_or_a_requeue_and_a_cancelled_job_fails_alone(
    project: Project, tmp_path: Path
) -> None:
    events = {"qkv": warn, "kv": requeue, "k": cancel}
    study = small_study(list(events))
    process = project.start("results/cluster/runs.csv", *PROFILE, "--retries", "1", *project.study(study))
    try:
        with ThreadPoolExecutor() as pool:
            done = [pool.submit(event, Jobs(project, process), variant) for variant, event in events.items()]
            whole = undisturbed(small_study(["qkv", "kv"]), tmp_path / "here")
            for future in done:
                future.result()
        process.wait(900)
    finally:
        process.kill()
        output = project.output()

    folder = project.folder / "results" / "cluster"
    assert {path: results(folder / path) for path in whole} == whole, output
    attempts = {path: read_json(folder / path / "provenance.json")["attempts"] for path in whole}
    assert attempts == dict.fromkeys(whole, 2), "both continued where they were stopped"
    assert process.returncode != 0
    assert "report.html shows what is finished, and which runs failed or are missing" in output
    rows = [line for line in (folder / "runs.csv").read_text().splitlines() if ",k,0," in line]
    assert len(rows) == 1 and ",missing," in rows[0]
    report = re.sub(r"<[^>]*>", " ", (folder / "report.html").read_text())
    assert "reverse / default / k / seed 0 missing" in " ".join(report.split())
