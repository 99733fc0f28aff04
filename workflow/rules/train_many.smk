# Several runs of one setting per job (execution.runs_per_job): one rule per share of variants and seeds. Whether a run must be
# trained again is decided as for single jobs, so that changing runs_per_job runs nothing.
from kvformer.config.batches import batches
from kvformer.config.run import runs_of, runs_to_json
from kvformer.training.archive import Archive, planned_identity, prepared_digests


class Jobs:
    """What the rule of a batch says about its jobs; each method takes the wildcards of one."""

    def __init__(self, batch):
        self.batch = batch

    def files(self, name):
        """Patterns of one file of each run."""
        return [
            f"{STUDY_FOLDER}/runs/{{task}}/{{setting}}/{variant}/seed{seed}/{name}"
            for variant, seed in self.batch.members
        ]

    def paths(self, wildcards):
        return [RUN_PATH.format(**wildcards, variant=variant, seed=seed) for variant, seed in self.batch.members]

    def data(self, wildcards):
        return needed_by(self.paths(wildcards))

    def command(self, wildcards):
        paths = self.paths(wildcards)
        first = RUNS[FIRST_SEEDS[paths[0].rpartition("/")[0]]].seed
        given = ["--runs", runs_to_json([resolved(path) for path in paths]), "--out", STUDY_FOLDER]
        return Untracked("train-many", *given, "--first-seed", str(first), *how(wildcards))

    def threads(self, wildcards):
        return RUNS[self.paths(wildcards)[0]].threads

    def runtime(self, wildcards):
        """That of its runs together, at most a day; a job that is stopped there continues, as a single run does."""
        one = task_resources(wildcards).runtime
        return max(one, min(one * len(self.batch.members), 24 * 60))

    def priority(self, wildcards):
        return max(map(run_priority, self.paths(wildcards)))


def keep_finished():
    """Archive what is finished among the runs of jobs that will be started: Snakemake deletes all outputs of a job before it
    starts, and the job takes them over again. With looks, these are also jobs that are not planned yet."""
    jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name.startswith("train_many_")]
    kept = {path for job in jobs for path in finished(job.output.summary)}
    for share in SHARES if STUDY.looks else []:
        for at in MANIFEST.settings:
            paths = Jobs(share).paths({"task": at.task, "setting": at.setting})
            found = finished(summaries(paths))
            if at.task in share.tasks and len(found) < len(paths):
                kept.update(found)
    try:
        for path in kept:
            Archive(EXECUTION.archive).keep(path.parent)
    except OSError as error:
        raise WorkflowError(
            f"{EXECUTION.archive}: finished runs could not be archived ({error}); their jobs would delete them"
        ) from None


def finished(summaries):
    """Those of these files that exist and are not of a run that was given up."""
    return [path for path in map(Path, summaries) if path.exists() and path.stat().st_size]


def restore_finished():
    """Bring finished runs back that Snakemake deleted because another run of their job failed."""
    data = prepared_digests(EXECUTION.prepared, STUDY.datasets())
    since = "" if EXECUTION.reuse else STARTED
    for run in runs_of(read_manifest(Path(STUDY_FOLDER))):
        for device in () if Path(STUDY_FOLDER, run.path, "summary.json").exists() else ("cpu", "cuda"):
            identity = planned_identity(run, data, device, EXECUTION.compile)
            if identity is not None:
                Archive(EXECUTION.archive).take_over(
                    run, identity, Path(STUDY_FOLDER, run.path), EXECUTION.keep_weights, since
                )


SHARES = [*batches([*RUNS.values()], EXECUTION.runs_per_job, STUDY.looks)]

for number, share in enumerate(SHARES, start=1):
    jobs = Jobs(share)

    rule:
        name:
            f"train_many_{number}"
        input:
            jobs.data,
        output:
            config=jobs.files("config.json"),
            metrics=jobs.files("metrics.jsonl"),
            summary=jobs.files("summary.json"),
            provenance=jobs.files("provenance.json"),
            attention=jobs.files("attention.npz"),
        log:
            f"{STUDY_FOLDER}/logs/runs/{{task}}/{{setting}}/job{number}.log",
        benchmark:
            f"{STUDY_FOLDER}/benchmarks/runs/{{task}}/{{setting}}/job{number}.jsonl"
        wildcard_constraints:
            task=alternatives(share.tasks),
            setting=alternatives(run.setting for run in RUNS.values() if run.task in share.tasks),
        priority: jobs.priority
        conda:
            ENVIRONMENT
        threads: jobs.threads
        resources:
            mem_mb=run_mem_mb,
            runtime=jobs.runtime,
            gpu=run_gpu,
            attempts_left=run_attempts_left,
        params:
            command=jobs.command,
        message:
            f"Train {len(share.members)} runs of {{wildcards.task}} ({{wildcards.setting}})"
        shell:
            TRAIN

    share_entries(f"train_many_{number}")
