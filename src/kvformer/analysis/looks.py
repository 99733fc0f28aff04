"""Interim looks: which comparisons a study with adaptive seeds has decided, and which get more seeds."""

from datetime import UTC, datetime
from pathlib import Path

from kvformer.analysis.decisions import open_comparisons
from kvformer.analysis.frames import current_scores
from kvformer.analysis.provenance import need_run_folders
from kvformer.analysis.study import Study, read_study
from kvformer.errors import KvformerError
from kvformer.records.run import RunFolder
from kvformer.records.study import LookRecord, OpenComparison, look_file, looks_taken, read_plan


def take_look(results: Path, look: int) -> LookRecord:
    """Decide after look `look` (from 1) of the study in `results`, and write the look's record.

    Only the runs up to that look count; one that failed is missing. The record is another one each time, even if the
    decisions are the same: Snakemake would not follow a look whose file has not changed.

    Raises:
        KvformerError: the study has no such look, an earlier one has not been taken, or `results` is an exported copy.
    """
    need_run_folders(results)
    plan = read_plan(results)
    if not 1 <= look <= len(plan.looks):
        allowed = f"1 to {len(plan.looks)}" if plan.looks else "none, its seeds are fixed"
        raise KvformerError(f"study '{plan.name}' has no look {look}; allowed: {allowed}")
    earlier = looks_taken(results, plan)[: look - 1]
    if len(earlier) < look - 1:
        number = len(earlier) + 1
        raise KvformerError(f"{look_file(results, number)}: missing or outdated; take look {number} first")
    study = Study(plan.model_copy(update={"runs": plan.asked(earlier)}))
    found = open_comparisons(current_scores(results, study), study, look)
    record = LookRecord(
        look=look,
        seeds=plan.looks[look - 1],
        time=datetime.now(UTC).isoformat(timespec="microseconds"),
        previous=earlier[-1].time if earlier else None,
        open=[OpenComparison(task=task, variant=variant) for task, variant in found],
    )
    record.write(look_file(results, look))
    return record


def failed_runs(results: Path) -> list[str]:
    """The runs that are asked for and did not come to an end, each with what became of it.

    Raises KvformerError where there is no readable `study.json`, or `results` is an exported copy.
    """
    need_run_folders(results)
    outcomes = ((run.path, RunFolder(results / run.path).outcome(run.hash)[0]) for run in read_study(results).runs)
    ended = ("finished", "diverged")
    return [f"{path.removeprefix('runs/')}: {status}" for path, status in outcomes if status not in ended]
