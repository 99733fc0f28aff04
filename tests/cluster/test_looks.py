"""A study with looks on a real SLURM: runs are jobs, looks are taken where Snakemake runs, a failed run stops none."""

import json
from pathlib import Path

import pytest
from adaptive import SECTION, STUDY, TARGETS, with_stand_ins
from checkout import Project
from studies import PROFILE

pytestmark = pytest.mark.cluster


def test_it_ends_with_all_runs_but_the_one_that_failed(project: Project, tmp_path: Path) -> None:
    adaptive = with_stand_ins(project)
    study = {**STUDY, "variants": ["qkv", "k"], "tasks": {"copy": {**SECTION, "resources": {"mem_mb": 500}}}}
    adaptive.tell(copy_k_1="fail")
    result = adaptive.snakemake(*PROFILE, "--retries", "1", *adaptive.study(study), "--", *TARGETS, timeout=900)
    assert result.returncode != 0
    assert "copy/default/k/seed1: failed" in result.stdout
    rows = adaptive.rows()
    assert [(row["variant"], row["seed"]) for row in rows if row["status"] != "finished"] == [("k", "1")]
    looks = sorted((adaptive.results / "looks").glob("look*.json"))
    assert looks and (len(looks) == 3 or not json.loads(looks[-1].read_text(encoding="utf-8"))["open"])
    submitted = {path.name for path in (project.folder / ".snakemake" / "slurm_logs").iterdir()}
    assert "rule_train" in submitted and not {"rule_look", "rule_ended"} & submitted, "those with errors are kept"
