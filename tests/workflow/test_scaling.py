"""A study of scaling in the workflow: from its file to the page."""

import random
from typing import Any

import pytest
from checkout import Project, copy_project

from kvformer.analysis.results import Results

STUDY: dict[str, Any] = {
    "name": "sizes",
    "protocol": "corrected",
    "variants": ["qkv", "kv"],
    "seeds": 3,
    "cost": True,
    "scaling": "characters",
    "tasks": {
        "characters": {
            "data": {"dataset": "text:diary", "context": 8},
            "model": {"layers": 1, "heads": 2, "positions": "rope"},
            "training": {"batch_size": 4, "schedule": "wsd", "evaluations": 1, "learning_rate": 1e-2},
            "settings": {
                f"d{dim}_{steps}": {"model.dim": dim, "training.steps": steps}
                for dim, steps in ((8, 5), (8, 20), (16, 5), (32, 10), (64, 10))
            },
        }
    },
    "execution": {"device": "cpu", "runs_per_job": 10},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the study has run."""
    project = copy_project(tmp_path_factory.mktemp("sizes"))
    text = "".join(random.Random(0).choice(["to be ", "or not "]) for _ in range(400))
    (project.folder / "data" / "diary").mkdir(parents=True)
    (project.folder / "data" / "diary" / "diary.txt").write_text(text)
    result = project.snakemake("--cores", "2", *project.study(STUDY))
    assert result.returncode == 0, result.stdout[-5000:]
    return project


def test_the_law_is_in_results_tables_figure_and_page(project: Project) -> None:
    folder = project.folder / "results" / "sizes"
    found = Results.read(folder)
    assert len(found.scaling) == 10 and (found.scaling["n"] == 3).all()
    assert found.scaling[["compute", "fitted", "predicted"]].notna().all(axis=None)
    assert set(found.scaling.loc[found.scaling["held_out"], "setting"]) == {"d64_10"}
    assert list(found.scaling_law["quantity"]) == ["E", "A", "alpha", "B", "beta"]
    kv = found.scaling_variants.set_index("variant").loc["kv"]
    assert kv["trend"] in ("grows", "shrinks", "neither") and kv["worth_low"] < kv["worth"] < kv["worth_high"]
    assert {f"scaling{end}.csv" for end in ("", "_law", "_variants")} <= {path.name for path in folder.glob("tables/*")}
    assert (folder / "figures" / "scaling-characters.png").is_file()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert (
        '<section aria-labelledby="scaling">' in page and "compute" in page and "figures/scaling-characters.svg" in page
    )


def test_nothing_is_left_to_do(project: Project) -> None:
    assert project.plan(*project.study(STUDY)) == {}
