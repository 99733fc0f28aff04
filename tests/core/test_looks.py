"""Which runs a study with looks asks for, and which records of looks count."""

from pathlib import Path

import pytest

from kvformer.config.loading import load_study
from kvformer.records.study import LookRecord, OpenComparison, look_file, looks_taken, read_manifest, study_file

STUDY = {"variants": ["qkv", "kv", "k"], "seeds": {"looks": [2, 3, 5]}, "tasks": {"reverse": {}, "sort": {}}}
LOOK1 = LookRecord(look=1, seeds=2, time="a", open=[OpenComparison(task="sort", variant="kv")])
LOOK2 = LookRecord(look=2, seeds=3, time="b", previous="a", open=[OpenComparison(task="sort", variant="kv")])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    load_study(STUDY).manifest().write(study_file(tmp_path))
    return tmp_path


def seeds(results: Path) -> dict[tuple[str, str], int]:
    """The number of runs that are asked for, by task and variant."""
    runs = [(run.task, run.variant) for run in read_manifest(results).runs]
    return {cell: runs.count(cell) for cell in runs}


def test_an_open_comparison_and_its_baseline_get_the_seeds_of_the_next_look(results: Path) -> None:
    first = {(task, variant): 2 for task in ("reverse", "sort") for variant in ("qkv", "kv", "k")}
    assert seeds(results) == first
    LOOK1.write(look_file(results, 1))
    assert seeds(results) == {**first, ("sort", "kv"): 3, ("sort", "qkv"): 3}
    LOOK2.write(look_file(results, 2))
    assert seeds(results) == {**first, ("sort", "kv"): 5, ("sort", "qkv"): 5}
    LookRecord(look=3, seeds=5, time="c", previous="b", open=LOOK2.open).write(look_file(results, 3))
    assert seeds(results) == {**first, ("sort", "kv"): 5, ("sort", "qkv"): 5}, "the last look asks for nothing"
    assert [record.look for record in looks_taken(results)] == [1, 2, 3]


def test_what_is_left_over_from_an_earlier_state_does_not_count(results: Path) -> None:
    LOOK1.model_copy(update={"time": "later"}).write(look_file(results, 1))
    LOOK2.write(look_file(results, 2))
    assert [record.time for record in looks_taken(results)] == ["later"]
    LOOK1.model_copy(update={"seeds": 4}).write(look_file(results, 1))
    assert looks_taken(results) == []
    look_file(results, 1).write_text("{", encoding="utf-8")
    assert looks_taken(results) == []


def test_fixed_seeds_ask_for_all_runs(tmp_path: Path) -> None:
    load_study({**STUDY, "seeds": [4, 9]}).manifest().write(study_file(tmp_path))
    LOOK1.write(look_file(tmp_path, 1))
    assert len(read_manifest(tmp_path).runs) == 12
    assert looks_taken(tmp_path) == []
