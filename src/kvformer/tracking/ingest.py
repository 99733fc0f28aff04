"""Run folders into MLflow. The files are the source of truth: afterwards MLflow shows what they hold."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kvformer.errors import DataError
from kvformer.records.study import read_manifest
from kvformer.tracking.entries import Source, digest, run_sources, study_note, study_source
from kvformer.tracking.store import Store
from kvformer.tracking.writing import write

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

FEW = 10  # up to this many runs are looked up one by one, more by listing their task: MLflow lists 200 runs per second


@dataclass
class TrackReport:
    """What an ingestion did. `problems` has one line for every run folder that could not be understood."""

    store: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    points: int = 0
    unfinished: int = 0
    missing: int = 0
    problems: list[str] = field(default_factory=list)

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
        self._written: dict[tuple[str, int | None], dict[str, str]] = {}  # signatures by name, for each experiment

    def track(self, studies: Iterable[Path], live: bool) -> TrackReport:
        """Bring the store up to date, with runs in progress if `live`. Raises KvformerError as `tracking.track`."""
        report = TrackReport(self.store.shown)
        with self.store.writer() as client:
            for study in studies:
                self._track_study(client, study, live, report)
        return report

    def _track_study(self, client: "MlflowClient", study: Path, live: bool, report: TrackReport) -> None:
        manifest = read_manifest(study)
        experiment = self.store.experiment(client, study.absolute().name, study_note(manifest))
        runs = run_sources(study, manifest)
        report.missing += sum(run.state == "missing" for run in runs)
        report.unfinished += sum(run.state == "running" for run in runs)
        shown = ("done", "failed", "running") if live else ("done", "failed")
        groups: dict[str, list[Source]] = {}
        for source in [*runs, study_source(study, runs)]:
            if source.state in (*shown, "study"):
                groups.setdefault(source.group, []).append(source)
        # The store itself remembers, by group, the state that it is complete for: nothing can get out of step with it.
        before = dict(pair.split(":") for pair in experiment.tags.get("records", "").split())
        now = {}
        for group, sources in groups.items():
            state = digest("\n".join(f"{source.name} {source.signature}" for source in sources))
            if before.get(group) == state:
                report.unchanged += sum(source.state != "study" for source in sources)
            elif not self._write_group(client, experiment, sources, report):
                continue
            now[group] = state
        if now != before:
            text = " ".join(f"{group}:{state}" for group, state in now.items())
            client.set_experiment_tag(experiment.experiment_id, "records", text)

    def _write_group(
        self, client: "MlflowClient", experiment: "Experiment", sources: list[Source], report: TrackReport
    ) -> bool:
        """Bring the entries of one group up to date; returns whether all of their files could be understood."""
        written = self._written.setdefault((experiment.experiment_id, experiment.creation_time), {})
        fresh = [source for source in sources if written.get(source.name) != source.signature]
        report.unchanged += len(sources) - len(fresh)
        known = _known(client, experiment, fresh)
        problems = len(report.problems)
        for source in fresh:
            try:
                outcome, points = write(client, experiment.experiment_id, source, known.get(source.name, []))
            except (DataError, FileNotFoundError) as error:
                report.problems.append(str(error))
                continue
            written[source.name] = source.signature
            if source.state != "study":
                setattr(report, outcome, getattr(report, outcome) + 1)
                report.points += points
        return len(report.problems) == problems


def _known(client: "MlflowClient", experiment: "Experiment", sources: list[Source]) -> dict[str, list["Run"]]:
    """Runs of these sources of one group in the store, by name, whatever their configuration was."""
    patterns = [f"{source.name}@%" for source in sources]
    if len(sources) > FEW:
        patterns = [f"{sources[0].group}/%"]
    known: dict[str, list[Run]] = {}
    for pattern in patterns:
        token: str | None = None
        while token != "":
            page = client.search_runs(
                [experiment.experiment_id], f"tags.run_key LIKE '{pattern}'", max_results=1000, page_token=token
            )
            for run in page:
                known.setdefault(run.data.tags["run_key"].split("@")[0], []).append(run)
            token = page.token or ""
    return known
