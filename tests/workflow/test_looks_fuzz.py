"""Edits, losses, failures and kills in any order: a study with looks ends as one that was never disturbed."""

import json
import os
import shutil
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from adaptive import STUDY, TARGETS, Adaptive, adaptive_project, kill

ROUNDS = int(os.environ.get("KVFORMER_FUZZ_ROUNDS", "3"))
LOOKS = ([2, 3, 4], [2, 4], [3, 4, 6], [2, 3, 4, 6])


def disturb(project: Adaptive, study: dict[str, Any], random: Random) -> None:
    """One thing that people and machines do."""
    task = random.choice(["reverse", "copy"])
    summaries = sorted(project.results.glob("runs/*/*/*/*/summary.json"))
    looks = sorted(project.results.glob("looks/look*.json"))
    match random.randrange(8):
        case 0:
            study["tasks"][task]["training"]["learning_rate"] = random.choice([0.001, 0.002, 0.003])
        case 1:
            project.decide_by(random.randrange(9))
        case 2:
            for path in random.sample(summaries, min(2, len(summaries))):
                path.unlink()
        case 3:
            for path in looks[-1:] if random.random() < 0.5 else looks[:1]:
                path.unlink()
        case 4:
            study["seeds"] = {"looks": random.choice(LOOKS)}
        case 5:
            study["equivalence_margin"] = {"accuracy": random.choice([0.01, 0.02])}
        case 6:
            project.tell(**{f"{task}_{random.choice(['qkv', 'kv', 'k'])}_{random.randrange(3)}": "fail"})
        case 7:
            study["execution"]["runs_per_job"] = random.choice([1, 3, 8])


def start_and_kill(project: Adaptive, seconds: float, *study: str) -> None:
    """Start the study and kill it after some seconds."""
    process = project.start("--cores", "2", *study, "--", *TARGETS)
    time.sleep(seconds)
    kill(process)
    assert project.snakemake("--unlock", *study).returncode == 0


@pytest.mark.ci
def test_whatever_happens_it_ends_as_an_undisturbed_study(tmp_path: Path) -> None:
    random, study = Random(int(os.environ.get("KVFORMER_FUZZ_SEED", "0"))), json.loads(json.dumps(STUDY))
    project = adaptive_project(tmp_path / "a folder")
    for number in range(ROUNDS):
        if random.random() < 0.2:  # alone: Snakemake notices an edit only where it knows what was there before
            shutil.rmtree(project.folder / ".snakemake", ignore_errors=True)
        else:
            for _ in range(random.randint(1, 3)):
                disturb(project, study, random)
        chosen = project.study(study)
        if random.random() < 0.6:
            start_and_kill(project, random.uniform(1, 12), *chosen)
        result = project.run("--retries", "0", *chosen)
        assert result.returncode == 0 or project.told.exists(), result.stdout
        project.told.unlink(missing_ok=True)
        result = project.run("--retries", "0", *chosen)
        assert result.returncode == 0, result.stdout
        assert project.planned(*chosen) == {}, number
        assert project.rows() == project.undisturbed(study, tmp_path / f"clean{number}"), number
