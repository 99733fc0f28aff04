"""The key `scaling` of a study: what planning records, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from kvformer.config.availability import leave_out_missing
from kvformer.config.loading import load_study, single_run
from kvformer.errors import ConfigError
from kvformer.spec.formulas import block_parameters, parameters
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import VARIANTS

SIZES = {f"s{dim}": {"model.dim": dim, "training.steps": dim} for dim in (12, 24, 36)}
SIZES["s12_long"] = {"model.dim": 12, "training.steps": 36}


def study(characters: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    characters = {"settings": SIZES, **(characters or {})}
    tasks = {"characters": characters, "sort": {}}
    return {"protocol": "corrected", "scaling": "characters", "cost": True, "tasks": tasks, **keys}


def test_the_manifest_names_the_task_only_where_there_is_one() -> None:
    assert load_study(study()).manifest().model_dump(mode="json")["scaling"] == "characters"
    assert "scaling" not in load_study(study(scaling=None)).manifest().model_dump(mode="json")


def test_one_run_of_such_a_study_can_be_trained_alone(tmp_path: Any) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("scaling: characters\ntasks: {characters: {}}\n")
    assert single_run("characters", "kv", 0, base=path)[0].variant == "kv"


def test_a_study_whose_scaling_task_has_no_data_goes_on_without_the_law(tmp_path: Path) -> None:
    raw = study({"data": {"dataset": "text:none"}}, on_missing="skip", execution={"data_folder": str(tmp_path)})
    left, skipped = leave_out_missing(raw)
    assert [entry.task for entry in skipped] == ["characters"] and left.manifest(skipped).scaling is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scaling": "numbers"}, r"scaling: is 'numbers', which is not a task of this study; allowed: characters"),
        ({"scaling": "sort"}, r"scaling: sort is judged by accuracy, the law is one of a loss; allowed: characters"),
        ({"scaling": 3}, r"scaling: "),
        ({"cost": False}, r"scaling: needs what a step of each model costs; add cost: true"),
        ({"seeds": {"looks": [3, 5]}}, r"scaling: needs the same seeds for all variants"),
        ({"variants": ["qkv"]}, r"scaling: compares variants with qkv, but characters has qkv"),
        (
            {"characters": {"settings": {}, "grid": {"model.dim": [12, 24]}}},
            r"needs 3 sizes and 3 numbers of tokens or more, and a size with two of them; the 2 different settings of "
            r"tasks.characters have 2 and 1$",
        ),
        (
            {"characters": {"settings": {name: SIZES[name] for name in list(SIZES)[:3]}}},
            r"a size with two of them; the 3 different settings of tasks.characters have 3 and 3$",
        ),
        (
            {"characters": {"settings": {"a": {"training.epochs": 1.0}}}},
            r"scaling: the tokens of a run are counted from its steps; give tasks.characters.training.steps",
        ),
    ],
)
def test_what_no_law_can_be_fitted_to_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_study(study(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", ["qkv", "mqa", "kv_rot", "kv_pos"])
def test_block_parameters_are_those_that_do_not_depend_on_the_vocabulary(variant: str) -> None:
    model, shape = ModelConfig(dim=32, final_norm=True, positions="learned"), Shape(length=20, inputs=7, outputs=9)
    outside = 7 * 32 + 20 * 32 + 9 * 33
    counted = parameters("gpt", VARIANTS[variant], model, shape)
    assert block_parameters("gpt", VARIANTS[variant], model, shape) == counted - outside


def test_block_parameters_of_both_sides_are_counted() -> None:
    model, shape = ModelConfig(dim=32, final_norm=True), Shape(length=20, inputs=7, outputs=9, target_inputs=11)
    counted = parameters("seq2seq", VARIANTS["kv"], model, shape)
    assert block_parameters("seq2seq", VARIANTS["kv"], model, shape) == counted - (7 + 11) * 32 - 9 * 33
