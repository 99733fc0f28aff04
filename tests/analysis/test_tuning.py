"""What the trials choose: by validation alone, from complete trials; a best value at an edge is named."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kvformer.analysis.collect import RUN_COLUMNS
from kvformer.analysis.tuning import choose, tuning_table
from kvformer.cli import main
from kvformer.config.loading import load_study
from kvformer.config.tuning import tuning_manifest
from kvformer.errors import KvformerError
from kvformer.records.study import study_file
from kvformer.records.tuning import TunedCell, choice_file

RATE = "training.learning_rate"
RATES = [3e-4, 1e-3, 3e-3]
Values = dict[tuple[str, float, int], Any]
"""By variant, learning rate and seed: the validation accuracy; a word is the status of a run that is lost."""


def write_trials(results: Path, values: Values, metric: str = "validation/accuracy", **grid: Any) -> Path:
    """The collected trials of a study of sorting, as the workflow leaves them in the folder `tuning`."""
    content = {"variants": ["qkv", "kv"], "tasks": {"sort": {}}}
    study = load_study({"name": "s", "tuning": {"grid": {RATE: RATES, **grid}, "seeds": 2}, **content})
    manifest = tuning_manifest(study)
    manifest.write(study_file(results / "tuning"))
    rows = []
    for run in manifest.runs:
        value = values.get((run.variant, run.overrides[RATE], run.seed - 9000), 0.5)
        labels = {"task": "sort", "setting": run.setting, "variant": run.variant, "seed": run.seed}
        labels |= {"status": value if isinstance(value, str) else "finished"}
        number = "" if isinstance(value, str) else value
        rows.append(
            {**labels, "metric": "test/accuracy", "value": number and 1 - number, "goal": "max", "primary": True}
        )
        if number != "":
            rows.append({**labels, "metric": metric, "value": value, "goal": "max", "primary": False})
            rows.append({**labels, "metric": "validation/loss", "value": run.overrides[RATE], "primary": False})
    pd.DataFrame(rows, columns=RUN_COLUMNS).to_csv(results / "tuning" / "runs.csv", index=False)
    return results


def cells(results: Path) -> dict[str, TunedCell]:
    return {cell.variant: cell for cell in choose(results).cells}


def chosen(results: Path) -> dict[str, float | None]:
    return {variant: cell.chosen.get(RATE) for variant, cell in cells(results).items()}


def test_the_best_mean_on_the_validation_split_is_chosen_for_each_variant(tmp_path: Path) -> None:
    """The test split says the opposite in these made-up numbers."""
    values: Values = {("qkv", 1e-3, 0): 0.7, ("qkv", 1e-3, 1): 0.6, ("qkv", 3e-4, 0): 0.74, ("kv", 3e-3, 1): 0.9}
    found = cells(write_trials(tmp_path, values))
    assert chosen(tmp_path) == {"qkv": 1e-3, "kv": 3e-3}
    assert [trial.mean for trial in found["qkv"].trials] == pytest.approx([0.62, 0.65, 0.5])
    assert {(trial.runs, trial.expected) for cell in found.values() for trial in cell.trials} == {(2, 2)}
    assert found["qkv"].edges == [] and found["kv"].edges == ["learning rate at its highest"]


def test_a_value_with_a_lost_run_is_chosen_only_where_no_other_is_complete(tmp_path: Path) -> None:
    lost: Values = {("kv", 1e-3, 0): 0.99, ("kv", 1e-3, 1): "diverged", ("kv", 3e-4, 0): 0.6}
    assert chosen(write_trials(tmp_path, lost))["kv"] == 3e-4
    lost |= {("kv", rate, 1): "failed" for rate in RATES}
    assert chosen(write_trials(tmp_path, lost))["kv"] == 1e-3


def test_without_a_finished_run_the_untuned_value_stays_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost: Values = {("kv", rate, seed): "failed" for rate in RATES for seed in (0, 1)}
    write_trials(tmp_path, lost | {("qkv", 3e-4, 0): "diverged", ("qkv", 1e-3, 0): 0.6})
    assert main(["choose", str(tmp_path)]) == 0
    assert cells(tmp_path)["kv"].chosen == {}
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [
        "warning: On Sort, 1 of 6 tuning runs of qkv did not finish; values whose runs all finished were preferred.",
        "warning: On Sort, no tuning run of kv finished: it was trained at the untuned values, and its verdict there "
        "is provisional.",
    ]
    rows = tuning_table(tmp_path)
    assert not any(row["chosen"] for row in rows if row["variant"] == "kv")


def test_among_equal_values_the_least_loss_is_chosen(tmp_path: Path) -> None:
    assert chosen(write_trials(tmp_path, {("kv", rate, seed): 1.0 for rate in RATES for seed in (0, 1)}))["kv"] == 3e-4


def test_the_loss_chooses_where_the_quantity_is_not_validated(tmp_path: Path) -> None:
    found = cells(write_trials(tmp_path, {("kv", 3e-3, 0): 1.0}, metric="validation/success"))
    assert (found["kv"].metric, found["kv"].goal, found["kv"].chosen[RATE]) == ("validation/loss", "min", 3e-4)


def test_the_same_trials_give_the_same_bytes(tmp_path: Path) -> None:
    write_trials(tmp_path, {("kv", 1e-3, 1): 1 / 3})
    choose(tmp_path).write(choice_file(tmp_path))
    first = choice_file(tmp_path).read_bytes()
    choose(tmp_path).write(choice_file(tmp_path))
    assert choice_file(tmp_path).read_bytes() == first


def test_several_keys_are_chosen_together_and_edges_are_those_of_numbers(tmp_path: Path) -> None:
    write_trials(tmp_path, {("kv", 1e-3, 0): 0.9}, **{"training.optimizer": ["adam", "adamw"]})
    found = cells(tmp_path)["kv"]
    assert found.chosen == {RATE: 1e-3, "training.optimizer": "adam"} and found.edges == []
    assert len(found.trials) == 6


def test_trials_that_were_not_collected_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["choose", str(tmp_path)]) == 2
    assert "tuning/study.json: no such file" in capsys.readouterr().err


def test_trials_that_were_planned_after_the_last_collection_are_one_line(tmp_path: Path) -> None:
    folder = write_trials(tmp_path, {}) / "tuning"
    runs = pd.read_csv(folder / "runs.csv", dtype=str, keep_default_na=False)
    for part in (runs[runs["task"] != "sort"], runs[runs["seed"] != "9001"]):
        part.to_csv(folder / "runs.csv", index=False)
        with pytest.raises(
            KvformerError, match=r"runs\.csv: has no row of runs/sort/.*seed900[01]; run `kvformer coll"
        ):
            choose(tmp_path)
