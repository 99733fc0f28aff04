"""Run folders into MLflow. The files are the source of truth: afterwards MLflow shows what they hold."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from kvformer.errors import DataError
from kvformer.files import sha256_file
from kvformer.records.study import StudyManifest, read_manifest, study_file
from kvformer.tracking.cells import cell_sources, cells_state
from kvformer.tracking.entries import STUDY, Source, cell_name, digest, run_name, run_sources, study_source
from kvformer.tracking.store import Store
from kvformer.tracking.view import study_tags
from kvformer.tracking.writing import Shown, mark_outdated, shown_runs, state_of, write

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUNS = ("done", "failed", "running")
RECORDS = "records"
"""The tag of an experiment with the state of the study's files that it shows, so that nothing can get out of step, and
with the mark of the ingestion that wrote it."""
INCOMPLETE = "incomplete"
"""What stands in place of the state while not everything is shown."""


@dataclass
class Mirror:
    """What this process knows of an experiment. It holds as long as the experiment's tag `records` is `stamp`: whoever
    writes changes the tag first.

    runs: by name. outcomes: of `cells_state`, to which `cells` belong.
    """

    runs: dict[str, list[Shown]]
    stamp: str = ""
    outcomes: str = ""
    cells: list[Source] = field(default_factory=list)


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
        self._mirrors: dict[str, Mirror] = {}

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
        identity, before = experiment.experiment_id, experiment.tags.get(RECORDS, "")
        report.experiments[study.name] = identity
        runs = run_sources(study, manifest)
        report.missing += sum(run.state == "missing" for run in runs)
        report.unfinished += sum(run.state == "running" for run in runs)
        shown = [run for run in runs if run.state in ("done", "failed") or (live and run.state == "running")]
        summary = study_source(study, runs)
        outcomes = cells_state(sha256_file(study_file(study)), runs, shown)
        state = digest("\n".join([outcomes, *(source.signature for source in (*shown, summary))]))
        if before.startswith(state):
            report.unchanged += len(shown)
            return
        mirror = self._mirrors.pop(identity, None)  # gone if this pass is cut off
        if mirror is None or mirror.stamp != before:
            mirror = Mirror(shown_runs(client, identity))
        client.set_experiment_tag(identity, RECORDS, INCOMPLETE)
        _retire(client, mirror, manifest)
        if mirror.outcomes != outcomes:
            mirror.outcomes, mirror.cells = outcomes, cell_sources(study, manifest, runs, shown) if shown else []
        problems = len(report.problems)
        for source in [*mirror.cells, *shown, summary]:  # cells first, because runs are listed under them
            _show(client, identity, source, mirror, report)
        mirror.stamp = f"{state if len(report.problems) == problems else INCOMPLETE} {uuid4().hex}"
        client.set_experiment_tag(identity, RECORDS, mirror.stamp)
        self._mirrors[identity] = mirror


def _show(client: "MlflowClient", experiment_id: str, source: Source, mirror: Mirror, report: TrackReport) -> None:
    """Make the store show one entry, unless it does."""
    known = mirror.runs.get(source.name, [])
    parent = next((cell.run_id for cell in mirror.runs.get(source.parent, ())), "")
    is_run = source.state in RUNS
    if any(run.state == state_of(source.signature, parent) for run in known):
        report.unchanged += is_run
        return
    try:
        written, points = write(client, experiment_id, source, known, parent)
    except (DataError, FileNotFoundError) as error:
        report.problems.append(str(error))
        return
    others = [run for run in known if run.key != written.key]
    mirror.runs[source.name] = [written, *others]
    if is_run:
        report.added += len(others) == len(known)
        report.updated += len(others) < len(known)
        report.points += points


def _retire(client: "MlflowClient", mirror: Mirror, manifest: StudyManifest) -> None:
    """Mark the runs and cells that the study no longer lists; should it list them again, they are brought up to
    date."""
    planned = {key for run in manifest.runs for key in (f"{run_name(run)}@{run.hash}", f"{cell_name(run)}@cell")}
    for name, runs in mirror.runs.items():
        for place, run in enumerate(runs):
            if run.current and name != STUDY and run.key not in planned:
                mark_outdated(client, run.run_id)
                runs[place] = run._replace(current=False, state="")
