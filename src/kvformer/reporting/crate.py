"""`ro-crate-metadata.json`: which runs, configuration and commit every table and figure comes from.

A Workflow Run RO-Crate (https://w3id.org/ro/wfrun/workflow/0.5): the results folder is the crate, the Snakefile its
workflow, and the choice of tuned values, every training run, the collection and the reporting are actions with their
inputs and outputs.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from kvformer.analysis.cost import FILES as COST_FILES
from kvformer.analysis.frames import load_runs, scores
from kvformer.analysis.results import COLLECTED
from kvformer.analysis.study import Study, read_study
from kvformer.files import sha256_file, write_bytes, write_json
from kvformer.records.provenance import Provenance
from kvformer.records.run import Failure, RunFolder
from kvformer.records.study import look_file, looks_taken
from kvformer.records.tuning import FOLDER, choice_file

METADATA = "ro-crate-metadata.json"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
STATUS = {
    "finished": "http://schema.org/CompletedActionStatus",
    "diverged": "http://schema.org/FailedActionStatus",
    "failed": "http://schema.org/FailedActionStatus",
}
FORMATS = {
    ".csv": "text/csv",
    ".gz": "application/gzip",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tex": "application/x-tex",
}
LICENSE = "Not stated: choose one before publishing these results."
TRIALS = (f"{FOLDER}/study.json", f"{FOLDER}/runs.csv")
ANALYSED = ("results.json", "curve_means.csv.gz")
REPORTS = ("tables/*", "figures/*", "report.html")


def write_crate(results: Path, snakefile: Path = Path("Snakefile")) -> Path:
    """Write `results/ro-crate-metadata.json`, and a copy of the workflow's entry; returns the path.

    The same files give the same bytes: no time but those of the runs enters.
    snakefile: the workflow's entry; where there is none, the crate describes the runs without a workflow.

    Raises:
        KvformerError: `study.json` or `runs.csv` is absent or malformed.
    """
    study, runs = read_study(results), scores(load_runs(results))
    # Version 1.1 is the one that the workflow-run profiles are defined on.
    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(TERMS)
    provenance = {path: RunFolder(results / path).provenance() or Provenance() for path in runs["path"]}
    starts, ends = ([time for entry in provenance.values() if (time := getattr(entry, at))] for at in ("start", "end"))
    times = _times(min(starts, default=None), max(ends, default=None))
    crate.name = f"kvformer study {study.name}"
    crate.description = study.manifest.description or f"Attention variants compared: {', '.join(study.variants)}."
    crate.license = LICENSE
    crate.datePublished = max(ends, default="1970-01-01T00:00:00Z")
    workflow = _add_workflow(crate, results, snakefile)
    plan = _add_file(crate, results, "study.json", "The resolved study: every expected run with its configuration hash")
    choice = _add_files(crate, results, [choice_file(results).name])
    tuned = {run.path for run in study.runs if run.tuned}
    trained = [
        _add_training(crate, results, row, provenance[row["path"]], [plan, *(choice if row["path"] in tuned else [])])
        for row in runs.to_dict("records")
    ]
    outputs = _add_reporting(crate, results, study, plan, choice, [entity for entity in trained if entity])
    if workflow:
        crate.add_action(
            workflow,
            "#workflow-run",
            object=plan,
            result=outputs,
            properties={"name": f"Workflow run of study {study.name}", **times},
        )
    crate.root_dataset["mentions"] = crate.get_by_type("CreateAction")
    for identifier, name in list(PROFILES.items())[: None if workflow else 1]:
        properties = {"@type": "CreativeWork", "name": name, "version": identifier.rsplit("/", 1)[-1]}
        crate.root_dataset.append_to("conformsTo", crate.add(ContextEntity(crate, identifier, properties=properties)))
    write_json(results / METADATA, crate.metadata.generate())
    return results / METADATA


def _add_workflow(crate: ROCrate, results: Path, snakefile: Path) -> Entity | None:
    """The workflow's entry: a file of the crate, as the profile asks."""
    if not snakefile.is_file():
        return None
    write_bytes(results / "Snakefile", snakefile.read_bytes())
    workflow = crate.add_workflow(results / "Snakefile", "Snakefile", main=True, lang="snakemake")
    workflow["name"] = "kvformer"
    workflow["encodingFormat"] = "text/plain"
    return workflow


def _add_file(crate: ROCrate, results: Path, path: str, name: str) -> Entity:
    source = results / path
    properties = {"name": name, "sha256": sha256_file(source), "contentSize": str(source.stat().st_size)}
    properties["encodingFormat"] = FORMATS.get(source.suffix, "application/octet-stream")
    return crate.add_file(source, path, properties=properties)


def _add_files(crate: ROCrate, results: Path, names: Iterable[str]) -> list[Entity]:
    """Those of these files that are there."""
    return [_add_file(crate, results, name, name) for name in names if (results / name).is_file()]


def _add_training(
    crate: ROCrate, results: Path, row: dict[Any, Any], provenance: Provenance, inputs: list[Entity]
) -> Entity | None:
    """A run folder and the action that made it; None for a run that is missing or stale."""
    if row["status"] not in STATUS:
        return None
    words = f"{row['task']}, {row['setting']}, {row['variant']}, seed {row['seed']}"
    properties = {"name": f"Run: {words}", "identifier": row["config_hash"]}
    folder = crate.add_dataset(results / row["path"], f"{row['path']}/", properties=properties)
    action: dict[str, Any] = {"name": f"Training: {words}", "actionStatus": STATUS[row["status"]]}
    action |= _times(provenance.start, provenance.end)
    if row["status"] != "finished":
        became = Failure(type=row["status"], error="the loss became non-finite")
        failure = RunFolder(results / row["path"]).failure() or became
        action["error"] = f"{failure.type}: {failure.error}"
    crate.add_action(
        _software(crate, provenance),
        f"#training/{row['path'].removeprefix('runs/')}",
        object=[*inputs, *_data(crate, provenance)],
        result=folder,
        properties=action,
    )
    return folder


def _add_reporting(
    crate: ROCrate, results: Path, study: Study, plan: Entity, choice: list[Entity], trained: list[Entity]
) -> list[Entity]:
    """The chosen values, collected and analysed files, tables, figures and report that are there, and the actions that
    made them."""
    trials, collected, costs, analysed = (
        _add_files(crate, results, names) for names in (TRIALS, COLLECTED, COST_FILES, ANALYSED)
    )
    inputs = [*collected, *choice, *costs]
    looks = [look_file(results, record.look).relative_to(results).as_posix() for record in looks_taken(results)]
    decided = [_add_file(crate, results, name, f"Look {look}") for look, name in enumerate(looks, start=1)]
    paths = sorted(path for pattern in REPORTS for path in results.glob(pattern) if path.is_file())
    reports = [_add_file(crate, results, path.relative_to(results).as_posix(), _title(path)) for path in paths]
    software = _software(crate, Provenance())
    for step, name, sources, made in (
        ("choose", "Choice of the tuned values", trials, choice),
        ("look", "Looks: which comparisons get more seeds", [plan, *trained], decided),
        ("collect", "Collection of the runs", [plan, *trained, *decided], collected),
        ("analyse", "Analysis", [plan, *inputs], analysed),
        ("report", "Tables, figures and report", [plan, *(analysed or inputs)], reports),
    ):
        if made:
            words = {"name": f"{name} of study {study.name}"}
            crate.add_action(software, f"#{step}", object=sources, result=made, properties=words)
    return decided + inputs + analysed + reports


def _title(path: Path) -> str:
    kind = {"tables": "Table", "figures": "Figure"}.get(path.parent.name, "Report")
    return f"{kind}: {path.stem.replace('_', ' ')} ({path.suffix[1:]})"


def _software(crate: ROCrate, provenance: Provenance) -> Entity:
    """kvformer at the run's commit; without provenance, kvformer as such."""
    commit, dirty = provenance.git.commit or "", bool(provenance.git.dirty)
    identifier = f"#kvformer{'-' + commit[:12] if commit else ''}{'-dirty' if dirty else ''}"
    if (known := crate.dereference(identifier)) is not None:
        return known
    properties = {"@type": "SoftwareApplication", "name": "kvformer"}
    if version := provenance.packages.get("kvformer"):
        properties["softwareVersion"] = version
    if commit:
        properties["identifier"] = commit
        properties["description"] = f"Commit {commit}{', with uncommitted changes' if dirty else ''}."
    return crate.add(ContextEntity(crate, identifier, properties=properties))


def _data(crate: ROCrate, provenance: Provenance) -> Iterator[Entity]:
    for record in provenance.data:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", record.dataset or "data")
        identifier = f"#data/{name}-{record.sha256[:12]}"
        if (known := crate.dereference(identifier)) is not None:
            yield known
            continue
        properties = {"@type": "CreativeWork", "name": record.label or name, "sha256": record.sha256}
        properties["description"] = f"Source: {record.source or 'not recorded'}."
        yield crate.add(ContextEntity(crate, identifier, properties=properties))


def _times(start: str | None, end: str | None) -> dict[str, str]:
    return {name: time for name, time in (("startTime", start), ("endTime", end)) if time}
