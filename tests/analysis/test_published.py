"""Published numbers: every one has its origin, and is compared only with what measures the same."""

from pathlib import Path

import pandas as pd
import pytest
from fake_study import TASKS

from kvformer.analysis.frames import load_runs
from kvformer.analysis.published import DIFFERENCE, compare_published, load_published
from kvformer.analysis.study import Study, read_study
from kvformer.errors import KvformerError
from kvformer.spec.sections import ModelConfig, TrainingConfig
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS as KNOWN_TASKS

FILE = Path(__file__).parents[2] / "config" / "published.csv"


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return load_published(FILE)


@pytest.fixture(scope="module")
def study(collected: Path) -> Study:
    return read_study(collected)


@pytest.fixture(scope="module")
def runs(collected: Path) -> pd.DataFrame:
    return load_runs(collected)


def one_row(published: pd.DataFrame, **changes: object) -> pd.DataFrame:
    row = {
        "study": "borji2023",
        "task": "copy",
        "variant": "kv",
        "compare_with": "test/accuracy",
        "conditions": "",
        "mean": 0.9,
    }
    return pd.DataFrame([{**dict.fromkeys(published.columns, ""), "std": float("nan"), "n": 1.0, **row, **changes}])


def test_every_number_has_origin_and_status(published: pd.DataFrame) -> None:
    assert len(published) == 537
    assert (published["origin"] != "").all() and (published["status"] != "").all() and published["mean"].notna().all()


def test_what_can_be_compared_names_tasks_variants_and_keys_that_exist(published: pd.DataFrame) -> None:
    compared = published[published["compare_with"] != ""]
    assert set(compared["task"]) <= {*KNOWN_TASKS, "tiny_imagenet"}
    assert set(compared["variant"]) <= set(VARIANTS)
    for task, conditions in compared[["task", "conditions"]].drop_duplicates().itertuples(index=False):
        for key in (part.split("=")[0] for part in conditions.split()):
            section, _, name = key.partition(".")
            sections = {"data": KNOWN_TASKS[task].data_config, "model": ModelConfig, "training": TrainingConfig}
            assert key == "protocol" or name in sections[section].model_fields, (task, key)


def test_the_anchor_values(published: pd.DataFrame) -> None:
    numbers = published[(published["task"] == "numbers") & (published["metric"] == "val_accuracy")]
    of_t16 = numbers[numbers["conditions"] == "data.context=16 training.learning_rate=0.001"].set_index("variant")[
        "mean"
    ]
    assert of_t16.round(3).to_dict() == {"qkv": 0.725, "kv": 0.687, "kv_pos": 0.722}
    characters = published[(published["metric"] == "val_loss") & published["conditions"].str.contains("model.dim=192")]
    assert characters.set_index("variant")["mean"].round(3).to_dict() == {"qkv": 1.514, "kv": 1.548, "kv_pos": 1.521}
    bleu = published[
        (published["compare_with"] == "test/bleu") & published["conditions"].str.contains("dim=64 model.heads=4")
    ]
    assert bleu.set_index("variant")["mean"].round(1).to_dict() == {"qkv": 37.9, "kv": 35.8, "kv_pos": 34.6}


def changed(study: Study, **training: object) -> Study:
    """The study with every setting of `copy` at the published values, but for those given of the section training."""
    departures = {f"training.{key}": 2 for key in training}
    settings = [
        entry.model_copy(update={"departures": departures, "training": {**(entry.training or {}), **training}})
        for entry in study.manifest.settings
    ]
    return Study(study.manifest.model_copy(update={"settings": settings}))


def test_deviation_is_in_half_widths_of_our_interval(runs: pd.DataFrame, study: Study, published: pd.DataFrame) -> None:
    row = one_row(published, conditions="model.dim=64|128 model.layers=2")
    found = compare_published(runs, changed(study), row).iloc[0]
    assert found["n_ours"] == 12 and found["settings"] == "dim64, dim128" and found["differs"] == ""
    assert found["difference"] == found["ours"] - 0.9
    assert found["deviation"] == pytest.approx((found["ours"] - 0.9) / ((found["high"] - found["low"]) / 2))
    assert found["high"] <= 1, "an accuracy"


def test_conditions_choose_the_setting(runs: pd.DataFrame, study: Study, published: pd.DataFrame) -> None:
    found = compare_published(runs, changed(study), one_row(published, conditions="model.dim=64")).iloc[0]
    assert (found["settings"], found["n_ours"], found["differs"]) == ("dim64", 6, "")
    for elsewhere in ("model.dim=32", "protocol=corrected", "model.layers=4", "training.learning_rate=1e-4"):
        assert compare_published(runs, study, one_row(published, conditions=elsewhere)).empty
    assert len(compare_published(runs, study, one_row(published, conditions="protocol=published model.dim=64"))) == 1


@pytest.mark.parametrize(
    ("conditions", "training", "words"),
    [
        ("", {}, "the published grid is not known"),
        ("model.dim=64|128|256", {}, "2 of 3 settings of the grid"),
        ("model.dim=64|128 model.layers=2|4", {}, "2 of 4 settings of the grid"),
        ("data.length=64|128", {}, "length 16 (64 or 128)"),
        ("model.dim=64", {"epochs": 1.0}, "epochs 1 (2)"),
        ("model.dim=64", {"record_every": 5}, ""),
        ("model.dim=64", {"evaluations": 5, "select": "last"}, "select last (2)"),
        ("model.dim=64 model.heads=4", {}, "heads not recorded here (4)"),
    ],
)
def test_only_the_same_setting_has_a_deviation(
    runs: pd.DataFrame, study: Study, published: pd.DataFrame, conditions: str, training: dict[str, object], words: str
) -> None:
    found = compare_published(runs, changed(study, **training), one_row(published, conditions=conditions)).iloc[0]
    assert found["differs"] == words
    assert pd.isna(found["deviation"]) == bool(words)


def test_other_studies_are_never_taken_for_the_same(runs: pd.DataFrame, study: Study, published: pd.DataFrame) -> None:
    row = one_row(published, study="kayyam2026", conditions="model.dim=64")
    assert compare_published(runs, changed(study), row).iloc[0]["differs"] == "the rest of its setting is not known"


def test_a_study_that_does_not_list_its_settings_is_never_taken_for_the_same(
    runs: pd.DataFrame, study: Study, published: pd.DataFrame
) -> None:
    old = Study(study.manifest.model_copy(update={"settings": []}))
    row = one_row(published, conditions="model.dim=64 model.layers=2")
    assert compare_published(runs, old, row).iloc[0]["differs"] == "layers not recorded here (2)"


def test_differences_are_compared_with_differences(runs: pd.DataFrame, study: Study, published: pd.DataFrame) -> None:
    measured = {"compare_with": f"{DIFFERENCE}test/accuracy", "metric": "difference_vs_qkv"}
    row = one_row(published, task="reverse", mean=-0.05, **measured)
    assert compare_published(runs, study, row).iloc[0]["ours"] == pytest.approx(-0.0389, abs=1e-3)
    other = Study(study.manifest.model_copy(update={"baseline": "kv_pos"}))
    assert compare_published(runs, other, row).empty  # a difference to another variant


def test_only_tasks_variants_and_metrics_of_the_study_appear(
    runs: pd.DataFrame, study: Study, published: pd.DataFrame
) -> None:
    found = compare_published(runs, study, published)
    assert set(found["task"]) == {task.name for task in TASKS}
    assert set(found["variant"]) == {"qkv", "kv", "kv_pos"}
    assert (found["compare_with"] != "").all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "published.csv: not readable as CSV"),
        ("study,mean\nx,1\ny,2,3\n", "published.csv: not readable as CSV"),
        ("study,mean\nx,1\n", "has no column family, "),
        (None, "must hold numbers"),
    ],
)
def test_a_malformed_table_is_one_clear_line(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "published.csv"
    path.write_text(text if text is not None else FILE.read_text().replace("0.6978", "about 0.7"))
    with pytest.raises(KvformerError, match=words):
        load_published(path)
