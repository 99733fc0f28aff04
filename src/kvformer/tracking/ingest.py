"""Run folders into MLflow. The files are the source of truth: afterwards MLflow shows what they hold."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kvformer.errors import DataError
from kvformer.files import sha256_file
from kvformer.records.study import StudyManifest, read_manifest, study_file
from kvformer.tracking.cells import CELLS, cell_sources, cells_state
from kvformer.tracking.entries import Source, cell_name, digest, run_name, run_sources, study_source
from kvformer.tracking.ownership import WRITTEN, changed_tags
from kvformer.tracking.store import Store
from kvformer.tracking.view import study_tags
from kvformer.tracking.writing import write

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

FEW = 10  # up to this many runs are looked up one by one, more by listing their task: MLflow lists 200 runs per second


RUNS = ("done", "failed", "running")


@dataclass
class Memory:
    """What this process knows of one experiment: what was written, by name, and the ids of cells, by name."""

    written: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    cells: dict[str, str] = field(default_factory=dict)

    def state(self, source: Source) -> tuple[str, str | None]:
        """What an entry is known to show: its files, and the cell that it is listed under."""
        return source.signature, self.cells.get(source.parent)


@dataclass
class TrackReport:
    """What an ingestion did. problems: one line for every run folder that could not be understood. experiments: the ids
    of MLflow's experiments, by study."""

    store: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    points: int = 0
    unfinished: int = 0
    missing: int = 0
    problems: list[str] = field(default_factory=list)
    experiments: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = [f"{self.added} runs added", f"{self.updated} updated", f"{self.unchanged} unchanged"]
        counts += [f"{self.points:,} new points"]
        counts += [f"{self.unfinished} in progress"] if self.unfinished else []
        counts += [f"{self.missing} not started"] if self.missing else []
        return "\n".join([f"{self.store}: {', '.join(counts)}", *self.problems])


class Ingestion:
    """Keeps one store in step with study folders; a later pass of the same object reads changed runs only."""

    def __init__(self, results: Path, uri: str | None) -> None:
        self.store = Store(results, uri)
        self._memories: dict[tuple[str, int | None], Memory] = {}

    def track(self, studies: Iterable[Path], live: bool) -> TrackReport:
        """Bring the store up to date, with runs in progress if `live`. Raises KvformerError as `tracking.track`."""
        report = TrackReport(self.store.shown)
        with self.store.writer() as client:
            for study in studies:
                self._track_study(client, study, live, report)
        return report

    def _track_study(self, client: "MlflowClient", study: Path, live: bool, report: TrackReport) -> None:
        manifest = read_manifest(study)
        experiment = self.store.experiment(client, study.absolute().name, study_tags(manifest))
        report.experiments[study.name] = experiment.experiment_id
        runs = run_sources(study, manifest)
        report.missing += sum(run.state == "missing" for run in runs)
        report.unfinished += sum(run.state == "running" for run in runs)
        shown = [run for run in runs if run.state in ("done", "failed") or (live and run.state == "running")]
        # The store itself remembers, by group, the state that it is complete for: nothing can get out of step with it.
        before = dict(pair.split(":") for pair in experiment.tags.get("records", "").split())
        plan = sha256_file(study_file(study))
        now = {"@plan": plan, CELLS: cells_state(plan, runs, shown)}
        if before.get("@plan") != now["@plan"]:
            self._retire(client, experiment, manifest)
        groups: dict[str, list[Source]] = {}
        if shown and before.get(CELLS) != now[CELLS]:
            groups[CELLS] = cell_sources(study, manifest, runs, shown)  # first, because runs are listed under them
        for source in [*shown, study_source(study, runs)]:
            groups.setdefault(source.group, []).append(source)
        for group, sources in groups.items():
            # Another plan can replace the cells that the runs of a group are listed under.
            planned = [run.name for run in runs if run.group == group]
            looks = [f"{source.name} {source.signature}" for source in sources]
            state = now.get(group) or digest("\n".join([*planned, *looks]))
            if before.get(group) == state:
                report.unchanged += _count(sources)
            elif not self._write_group(client, experiment, sources, report):
                state = ""
            now[group] = state
        if now != before:
            text = " ".join(f"{group}:{state}" for group, state in now.items())
            client.set_experiment_tag(experiment.experiment_id, "records", text)

    def _write_group(
        self, client: "MlflowClient", experiment: "Experiment", sources: list[Source], report: TrackReport
    ) -> bool:
        """Bring the entries of one group up to date; returns whether all of their files could be understood."""
        memory = self._memory(experiment)
        unknown = {source.parent for source in sources} - {"", *memory.cells}
        for name, found in _known(client, experiment, CELLS, sorted(unknown)).items():
            memory.cells[name] = found[0].info.run_id
        fresh = [source for source in sources if memory.written.get(source.name) != memory.state(source)]
        report.unchanged += _count(sources) - _count(fresh)
        known = _known(client, experiment, sources[0].group, [source.name for source in fresh])
        problems = len(report.problems)
        for source in fresh:
            try:
                parent = memory.cells.get(source.parent)
                outcome, points, run_id = write(
                    client, experiment.experiment_id, source, known.get(source.name, []), parent
                )
            except (DataError, FileNotFoundError) as error:
                report.problems.append(str(error))
                continue
            memory.written[source.name] = memory.state(source)
            if source.state == "cell":
                memory.cells[source.name] = run_id
            elif source.state in RUNS:
                setattr(report, outcome, getattr(report, outcome) + 1)
                report.points += points
        return len(report.problems) == problems

    def _retire(self, client: "MlflowClient", experiment: "Experiment", manifest: StudyManifest) -> None:
        """Mark the runs and cells that the study no longer lists; should it list them again, they are brought up to
        date."""
        from mlflow.entities import RunTag

        planned = {key for run in manifest.runs for key in (f"{run_name(run)}@{run.hash}", f"{cell_name(run)}@cell")}
        for run in list(_search(client, experiment, "tags.current = 'true' AND tags.kind != 'study'")):
            tags = run.data.tags
            if tags["run_key"] not in planned:
                changes = changed_tags(tags, {"current": "false", "records": ""})
                if WRITTEN not in tags:  # of an older version; its other tags must not look like a person's
                    changes.pop(WRITTEN)
                client.log_batch(run.info.run_id, tags=[RunTag(key, value or "") for key, value in changes.items()])
                self._memory(experiment).written.pop(tags["run_key"].split("@")[0], None)

    def _memory(self, experiment: "Experiment") -> "Memory":
        return self._memories.setdefault((experiment.experiment_id, experiment.creation_time), Memory())


def _count(sources: list[Source]) -> int:
    """The runs of the study among sources; cells and the study itself do not count."""
    return sum(source.state in RUNS for source in sources)


def _known(client: "MlflowClient", experiment: "Experiment", group: str, names: list[str]) -> dict[str, list["Run"]]:
    """Runs of these names of one group in the store, by name, whatever their configuration was."""
    patterns = [f"{name}@%" for name in names]
    if len(names) > FEW:
        patterns = ["%@cell" if group == CELLS else f"{group}/%"]
    known: dict[str, list[Run]] = {}
    for pattern in patterns:
        quote = '"' if "'" in pattern else "'"
        for run in _search(client, experiment, f"tags.run_key LIKE {quote}{pattern}{quote}"):
            known.setdefault(run.data.tags["run_key"].split("@")[0], []).append(run)
    return known


def _search(client: "MlflowClient", experiment: "Experiment", condition: str) -> "Iterator[Run]":
    """All runs of an experiment that meet a condition."""
    token: str | None = None
    while token != "":
        page = client.search_runs([experiment.experiment_id], condition, max_results=1000, page_token=token)
        yield from page
        token = page.token or ""
