"""Passwords and tokens of a tracking server are used but never written to a file."""

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkout import ROOT, Project

SECRET = "sesame-4711"


def test_a_password_is_in_no_log_record_or_report(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server cannot be reached, so that tracking, Snakemake and the report after a failure all print something."""
    project = Project(tmp_path / "copy")
    shutil.copytree(finished.folder, project.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    study = project.folder / "study.yaml"
    execution = f"execution: {{tracking_uri: 'http://user:{SECRET}@127.0.0.1:1/?token={SECRET}'}}\n"
    study.write_text((project.folder / "config" / "smoke.yaml").read_text(encoding="utf-8") + execution)
    result = project.snakemake("--cores", "2", "--retries", "0", "--forcerun", "track", "--configfile", study.name)

    assert result.returncode != 0
    assert "MLflow at http://127.0.0.1:1" in result.stdout, "the address without its secrets"
    assert "report.html shows what is finished" in result.stdout
    study.unlink()
    files = [path for path in project.folder.rglob("*") if path.is_file()]
    assert project.folder / "results" / "smoke" / "report.html" in files
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"http://user:{SECRET}@host:5000/?token={SECRET}", "http://host:5000/"),
        (f"postgresql://host/runs?user=me&password={SECRET}", "postgresql://host/runs"),
    ],
)
def test_the_last_message_names_no_secret(address: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    finished = SimpleNamespace(rule=SimpleNamespace(name="all"))
    rules = {
        "Path": Path, "os": os, "re": re, "RESULTS": "results", "STUDY_FOLDER": "results/mine",
        "STUDY": SimpleNamespace(name="mine"), "tuning_warnings": str,
        "workflow": SimpleNamespace(dag=SimpleNamespace(finished_jobs=[finished])),
    }  # fmt: skip
    exec((ROOT / "workflow" / "rules" / "end.smk").read_text(encoding="utf-8"), rules)
    rules["read_manifest"] = lambda folder: SimpleNamespace(runs=[])
    text = rules["next_steps"]()
    assert f"MLflow   {shown}" in text and SECRET not in text
