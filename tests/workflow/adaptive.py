"""A study with looks. Trainer and rule are stand-ins that take no time: decisions follow from the runs' values."""

import csv
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from checkout import Project, copy_project

SECTION = {
    "data": {"length": 8, "train_examples": 500, "validation_examples": 100, "test_examples": 100},
    "model": {"dim": 16, "layers": 1, "heads": 2},
    "training": {"steps": 5, "batch_size": 50, "evaluations": 1},
}
STUDY: dict[str, Any] = {
    "name": "adaptive",
    "seeds": {"looks": [2, 3, 4]},
    "variants": ["qkv", "kv", "k"],
    "tasks": {"reverse": SECTION, "copy": SECTION},
    "execution": {"device": "cpu"},
}
CELLS = 6
FOLDER = "results/adaptive"
TARGETS = (f"{FOLDER}/runs.csv", f"{FOLDER}/looks/ended")

TRAINER = '''
"""Stands in for training: the value of a run follows from its configuration. `told.json` says which runs fail."""

import hashlib
import json
import os
import signal
from pathlib import Path

from kvformer.records.metrics import MetricPoint
from kvformer.records.provenance import Provenance
from kvformer.records.run import Failure, Primary, RunConfiguration, RunFolder, Summary
from kvformer.training.identity import identity_of
from kvformer.training.provenance import utc_now


def train_run(run, out, data_folder, **options):
    folder = RunFolder(out)
    with folder.locked():
        for file in (folder.failure_file, folder.summary_file):
            file.unlink(missing_ok=True)
        told = Path("told.json")
        word = json.loads(told.read_text()).get(run.path) if told.exists() else None
        if word == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "fail":
            Failure(type="RuntimeError", error="told to fail", time=utc_now()).write(folder.failure_file)
            raise RuntimeError("told to fail")
        value = int(hashlib.sha256(run.hash.encode()).hexdigest()[:8], 16) / 16**8
        RunConfiguration(**run.model_dump(mode="json"), hash=run.hash).write(folder.config_file)
        folder.metrics_file.write_text(MetricPoint("train/loss", 5, 1 - value, 1.0, 1.0, 1).line())
        folder.attention_file.write_bytes(b"none")
        identity = identity_of(run, [], "cpu", None)
        Provenance(identity=identity, device="cpu", start=utc_now(), end=utc_now()).write(folder.provenance_file)
        summary = Summary(
            status="finished", task=run.task, family="synthetic", setting=run.setting, variant=run.variant,
            seed=run.seed, protocol=run.protocol, config_hash=run.hash, seconds={"total": 1.0}, steps=5,
            metrics={"test/accuracy": value}, primary=Primary(metric="test/accuracy", goal="max"),
        )
        summary.write(folder.summary_file)
        folder.clear_progress()
    folder.remove_progress()
    return summary
'''

RULE = '''

def open_comparisons(scores, study, look):
    """Stands in for the rule: about a third of the open comparisons are decided at each look, by their values."""
    import hashlib

    version, found = 1, []
    for task, variant in scores[["task", "variant"]].drop_duplicates().itertuples(index=False):
        pair = scores[(scores["task"] == task) & scores["variant"].isin([variant, study.baseline])]
        pair = pair.sort_values(["variant", "seed"])
        for number, seeds in enumerate(study.manifest.looks[:look], start=1):
            values = pair.loc[pair["seed"] < seeds, "value"].tolist()
            digest = hashlib.sha256(f"{version} {number} {task} {variant} {values}".encode()).digest()
            if variant == study.baseline or digest[0] % 3 == 0:
                break
        else:
            found.append((task, variant))
    return found
'''

UNDISTURBED = """
import sys
from pathlib import Path
from kvformer.analysis.collect import collect
from kvformer.analysis.looks import take_look
from kvformer.config.loading import load_study
from kvformer.records.study import read_manifest, study_file
from kvformer.training.run import train_run

study, out = load_study(Path(sys.argv[1])), Path(sys.argv[2])
runs = {run.path: run for run in study.runs()}
study.manifest().write(study_file(out))
for look in range(1, len(study.looks) + 1):
    for entry in read_manifest(out).runs:
        if not (out / entry.path / "summary.json").exists():
            train_run(runs[entry.path], out / entry.path, out)
    if not take_look(out, look).open:
        break
collect(out)
"""


class Adaptive(Project):
    """A project with the stand-ins, and what its study has left in its folder."""

    @property
    def results(self) -> Path:
        """The study's folder."""
        return self.folder / FOLDER

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text in a file of the package."""
        path = self.folder / "src" / "kvformer" / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    def decide_by(self, version: int) -> None:
        """Change the rule: another version decides other comparisons."""
        path = self.folder / "src" / "kvformer" / "analysis" / "decisions.py"
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"version, found = \d+", f"version, found = {version}", text), encoding="utf-8")

    @property
    def told(self) -> Path:
        """Which runs fail."""
        return self.folder / "told.json"

    def tell(self, **words: str) -> None:
        """Let runs fail ("fail") or be killed ("kill"): names are task, variant and seed, joined by `_`."""
        paths = {"runs/{}/default/{}/seed{}".format(*name.split("_")): word for name, word in words.items()}
        self.told.write_text(json.dumps(paths), encoding="utf-8")

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the study until its runs are collected."""
        return self.snakemake("--cores", "2", *arguments, "--", *TARGETS)

    def planned(self, *arguments: str) -> dict[str, int]:
        """What a dry run plans until the runs are collected."""
        return self.plan(*arguments, "--", *TARGETS)

    def open(self, look: int) -> set[tuple[str, str]]:
        """The comparisons that were open after a look, as task and variant."""
        record = json.loads((self.results / "looks" / f"look{look}.json").read_text(encoding="utf-8"))
        return {(entry["task"], entry["variant"]) for entry in record["open"]}

    def rows(self, results: Path | None = None) -> list[dict[str, str]]:
        """The content of runs.csv."""
        with ((results or self.results) / "runs.csv").open(encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def undisturbed(self, study: dict[str, Any], folder: Path) -> list[dict[str, str]]:
        """runs.csv of the same study, without Snakemake and without anything that was there before."""
        file = folder / "study.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(study), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src")}
        command = [sys.executable, "-c", UNDISTURBED, str(file), str(folder / "results")]
        subprocess.run(command, check=True, env=environment, cwd=folder)
        return self.rows(folder / "results")


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill Snakemake and everything that it has started."""
    with suppress(psutil.NoSuchProcess):
        for running in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                running.kill()
    process.wait()


def asked_next(still_open: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The cells that get the seeds of the next look."""
    return still_open | {(task, "qkv") for task, _ in still_open}


def adaptive_project(folder: Path) -> Adaptive:
    """A fresh copy of the project with the stand-ins."""
    return with_stand_ins(copy_project(folder))


def with_stand_ins(project: Project) -> Adaptive:
    """Put the stand-ins into a copy of the project."""
    package = project.folder / "src" / "kvformer"
    (package / "training" / "run.py").write_text(TRAINER, encoding="utf-8")
    with (package / "analysis" / "decisions.py").open("a", encoding="utf-8") as stream:
        stream.write(RULE)
    return Adaptive(project.folder)
