"""The configuration: every mistake gets one line that names the key; names and hashes are stable."""

import copy
import itertools
import json
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from runs import tiny_run

from kvformer.config.documentation import generated_files
from kvformer.config.execution import Execution, Resources
from kvformer.config.loading import load_study, single_run
from kvformer.config.run import RunConfig, runs_of
from kvformer.config.study import StudyConfig
from kvformer.errors import ConfigError
from kvformer.files import canonical_json
from kvformer.spec.sections import ModelConfig, TrainingConfig
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS

ROOT = Path(__file__).parents[2]


def study(**keys: Any) -> StudyConfig:
    return load_study({"tasks": {"reverse": {}}, **keys})


def reverse(**section: Any) -> StudyConfig:
    return load_study({"tasks": {"reverse": section}})


def complaint(raw: dict[str, Any], *overrides: str) -> str:
    """The message for a configuration that must be rejected; always one line."""
    with pytest.raises(ConfigError) as caught:
        load_study(raw, overrides)
    message = str(caught.value)
    assert "\n" not in message and message
    return message


def whole(task: str = "reverse") -> dict[str, Any]:
    """A study with every key written out."""
    section = {
        part: {name: value for name, value in fields.items() if value is not None}
        for part, fields in tiny_run(task).model_dump(mode="json").items()
        if part in ("model", "data", "training")
    }
    section |= {
        "protocol": "published",
        "variants": ["qkv"],
        "seeds": [0],
        "grid": {"model.layers": [1, 2]},
        "settings": {"wide": {"model.dim": 64}},
        "tuning": {"grid": {"training.learning_rate": [0.001, 0.01]}, "seeds": [1]},
        "resources": Resources().model_dump(),
    }
    content = StudyConfig(name="s").model_dump(mode="json", exclude={"tasks"})
    execution = {key: value for key, value in content["execution"].items() if value is not None}
    return {**content, "execution": execution, "tasks": {task: section}}


def places(raw: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all keys; free names (settings, margins) left out."""
    if not isinstance(raw, dict) or path[-1:] in (("settings",), ("equivalence_margin",)):
        return []
    return [(*path, key) for key in raw] + [p for key, value in raw.items() for p in places(value, (*path, key))]


WHOLE = {task: whole(task) for task in ("reverse", "mnist", "characters", "translation_en_de", "anomaly")}
PLACES = [(task, place) for task, raw in WHOLE.items() for place in places(raw)]


def renamed(raw: dict[str, Any], place: tuple[str, ...], name: str) -> dict[str, Any]:
    changed = copy.deepcopy(raw)
    target = changed
    for key in place[:-1]:
        target = target[key]
    target[name] = target.pop(place[-1])
    return changed


def replaced(raw: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(raw)
    target = changed
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return changed


def test_the_whole_configuration_is_valid() -> None:
    for raw in WHOLE.values():
        assert len(load_study(raw).runs()) == 2


@pytest.mark.parametrize(
    ("task", "place"), PLACES, ids=lambda value: value if isinstance(value, str) else ".".join(value)
)
def test_every_misspelt_key_is_named(task: str, place: tuple[str, ...]) -> None:
    name = place[-1]
    for typo in (f"{name}s", name[:-1], name.upper(), f" {name}"):
        message = complaint(renamed(WHOLE[task], place, typo))
        assert typo.strip() in message, message
        assert any(words in message for words in ("unknown key", "there is no", "is not in the grid")), message


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.sampled_from(PLACES), st.data())
def test_any_single_typo_is_named(where: tuple[str, tuple[str, ...]], data: st.DataObject) -> None:
    """One character of one key changed, dropped, doubled or swapped with the next."""
    task, place = where
    name = place[-1]
    index = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from(string.ascii_lowercase + "_"))
    typo = data.draw(
        st.sampled_from(
            [
                name[:index] + letter + name[index + 1 :],
                name[:index] + name[index + 1 :],
                name[: index + 1] + name[index:],
                name[:index] + name[index : index + 2][::-1] + name[index + 2 :],
            ]
        )
    )
    siblings: Any = WHOLE[task]
    for key in place[:-1]:
        siblings = siblings[key]
    known = TASKS if place[:-1] == ("tasks",) else siblings
    assume(typo not in known and typo)
    message = complaint(renamed(WHOLE[task], place, typo))
    assert typo in message and any(w in message for w in ("unknown key", "there is no", "is not in the grid"))


WRONG = [None, True, 5, -3, 2.5, "word", [], [1, "a", None], {}, {"a": 1}, float("nan"), float("inf"), "1e-3", b"x"]


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(WRONG))
def test_any_value_is_accepted_or_rejected_in_one_line(where: tuple[str, tuple[str, ...]], value: Any) -> None:
    """Never a traceback; what is accepted has runs that can be written down and read back."""
    task, place = where
    raw = replaced(WHOLE[task], place, value)
    try:
        accepted = load_study(raw)
    except ConfigError as error:
        message = str(error)
        assert "\n" not in message and len(message) < 2000
        assert place[-1] in message or place[-1].partition(".")[2] in message or "list at least one task" in message, (
            message
        )
        return
    for run in accepted.runs():
        assert RunConfig.from_json(run.to_json()) == run


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"model": {"dim": 30, "heads": 4}}, ["tasks.reverse.model", "dim is 30", "heads is 4"]),
        ({"model": {"dim": 15, "heads": 3}}, ["dim must be even"]),
        ({"model": {"heads": True}}, ["tasks.reverse.model.heads", "integer", "True"]),
        ({"model": {"heads": "4"}}, ["tasks.reverse.model.heads", "'4'"]),
        ({"model": {"final_norm": 1}}, ["tasks.reverse.model.final_norm", "boolean", "1"]),
        ({"model": {"mlp_ratio": True}}, ["tasks.reverse.model.mlp_ratio", "number", "True"]),
        ({"model": {"mlp_ratio": 0.001}}, ["mlp_ratio"]),
        ({"model": {"position_channels": 2}}, ["position_channels", "greater than 2"]),
        ({"model": {"activation": "swish"}}, ["activation", "'relu', 'gelu' or 'swiglu'", "'swish'"]),
        ({"model": {"mlp_dropout": 1.0}}, ["mlp_dropout", "less than 1", "1.0"]),
        ({"model": [1]}, ["tasks.reverse.model", "mapping", "[1]"]),
        ({"training": {"steps": 3, "epochs": 1}}, ["exactly one of epochs and steps", "1.0", "3"]),
        ({"training": {"steps": None}}, ["exactly one of epochs and steps"]),
        ({"training": {"learning_rate": 0}}, ["learning_rate", "greater than 0"]),
        ({"training": {"learning_rate": float("nan")}}, ["learning_rate", "finite"]),
        ({"training": {"betas": [0.9]}}, ["betas"]),
        ({"data": {"length": 1}}, ["data.length", "greater than 1"]),
        ({"data": {"symbols": 257}}, ["data.symbols", "256"]),
        ({"grid": {"model.dim": [64, 63]}}, ["tasks.reverse.grid", "dim is 63"]),
        ({"grid": {"model.dim": []}}, ["tasks.reverse.grid.model.dim", "at least 1"]),
        ({"grid": {"model.dim": [None]}}, ["grid.model.dim.0", "None"]),
        ({"grid": {"dim": [64]}}, ["there is no key 'dim'", "model.dim"]),
        ({"grid": {"model.dim": [64, 64]}}, ["tasks.reverse.grid", "'dim64'", "twice"]),
        ({"grid": {"model.dim": [64]}, "settings": {"a": {"model.dim": 32}}}, ["settings.a", "'model.dim'"]),
        ({"settings": {"a/b": {}}}, ["settings", "'a/b'"]),
        ({"settings": {"": {"model.dim": 32}}}, ["settings", "''"]),
        ({"settings": {"a": {"model.dmi": 3}}}, ["tasks.reverse.settings.a: there is no key 'model.dmi'"]),
        (
            {"settings": {"a": {"model.dim": 32}}, "grid": {"model.dmi": [3]}},
            ["tasks.reverse.settings.a or grid: there is no key 'model.dmi'"],
        ),
        ({"nuisance": ["model.dim"]}, ["tasks.reverse.nuisance", "'tuning' replaces it", "tuning: {grid: {"]),
        ({"protocol": "printed"}, ["tasks.reverse.protocol", "'published', 'corrected' or 'successor'", "'printed'"]),
        ({"protocol": ["published"]}, ["tasks.reverse.protocol"]),
        ({"variants": ["kvv"]}, ["tasks.reverse.variants", "'kvv'", "kv_pos"]),
        ({"variants": []}, ["tasks.reverse.variants"]),
        ({"variants": ["kv", "kv"]}, ["tasks.reverse.variants", "twice"]),
        ({"variants": ["cla2"]}, ["cla2", "only decoders"]),
        ({"variants": ["gqa4"]}, ["gqa4", "heads", "4"]),
        ({"seeds": []}, ["tasks.reverse.seeds"]),
        ({"seeds": 0}, ["tasks.reverse.seeds", "1"]),
        ({"seeds": [-1]}, ["tasks.reverse.seeds.0", "-1"]),
        ({"seeds": [1, 1]}, ["tasks.reverse.seeds", "twice"]),
        ({"resources": {"gpus": 1}}, ["tasks.reverse.resources.gpus", "did you mean 'gpu'?"]),
    ],
)
def test_impossible_sections(section: dict[str, Any], words: list[str]) -> None:
    message = complaint({"tasks": {"reverse": section}})
    assert all(word in message for word in words), message


def looks(weights: list[float] | None, **tasks: Any) -> dict[str, Any]:
    return {"tasks": {"reverse": {}, **tasks}, "seeds": {"looks": [8, 12], "weights": weights}}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, ["list at least one task", "reverse"]),
        ({"tasks": {"reverse": None}}, ["list at least one task"]),
        ({"tasks": ["reverse"]}, ["tasks", "mapping"]),
        ({"tasks": {"revers": {}}}, ["tasks.revers", "did you mean 'reverse'?"]),
        ({"tasks": {1: {}}}, ["tasks.1"]),
        ({"tasks": {"reverse": {}}, "variants": ["qvk"]}, ["variants", "'qvk'", "qkv"]),
        ({"tasks": {"reverse": {}}, "baseline": "qvk"}, ["baseline", "'qvk'"]),
        ({"tasks": {"reverse": {}}, "seeds": True}, ["seeds", "a mapping of keys", "True"]),
        ({"tasks": {"reverse": {}}, "seeds": {"looks": [8, 8, 20]}}, ["seeds.looks", "must increase", "[8, 8, 20]"]),
        ({"tasks": {"reverse": {}}, "seeds": {"looks": [8]}}, ["seeds.looks", "at least 2", "1"]),
        ({"tasks": {"reverse": {}}, "seeds": {"looks": [1, 8]}}, ["seeds.looks.0", "equal to 2", "1"]),
        ({"tasks": {"reverse": {}}, "seeds": {"looks": [8, 10_001]}}, ["seeds.looks.1", "10000", "10001"]),
        ({"tasks": {"reverse": {}}, "seeds": {"looks": [8, 12], "weight": [1]}}, ["seeds.weight", "'weights'"]),
        (looks([0.2, 0.7]), ["seeds.weights", "must add up to 1", "0.9"]),
        (looks([0.2, 0.3, 0.5]), ["seeds.weights", "as many as there are looks, 2", "3"]),
        (looks([1.5, -0.5]), ["seeds.weights", "1.5"]),
        (looks([0.5, float("nan")]), ["seeds.weights.1", "finite"]),
        (looks(None, reverse={"seeds": 3}), ["tasks.reverse.seeds", "over all tasks", "leave this key out"]),
        (looks(None, reverse={"seeds": {"looks": [2, 3]}}), ["tasks.reverse.seeds", "integer", "list"]),
        (looks(None, reverse={"variants": ["kv"]}), ["tasks.reverse", "the baseline qkv is missing", "kv"]),
        (looks(None, reverse={"variants": ["qkv"]}), ["seeds.looks", "nothing is compared", "qkv"]),
        ({"tasks": {"reverse": {}}, "name": "a/b"}, ["name", "'a/b'"]),
        ({"tasks": {"reverse": {}}, "name": "../up"}, ["name"]),
        ({"tasks": {"reverse": {}}, "name": "data"}, ["name", "results/data is reserved", "mlflow"]),
        ({"tasks": {"reverse": {}}, "profile": True}, ["profile: unknown key; it is called 'cost' now"]),
        ({"tasks": {"reverse": {}}, "name": 5}, ["name", "string"]),
        ({"tasks": {"reverse": {}}, "execution": {"device": "gpu"}}, ["execution.device", "'gpu'", "'cuda'"]),
        ({"tasks": {"reverse": {}}, "equivalence_margin": {"accuracy": 0}}, ["equivalence_margin.accuracy"]),
        ({"tasks": {"reverse": {}}, "equivalence_margin": {"acuracy": 1}}, ["'acuracy'", "accuracy, bleu, loss"]),
        ({"tasks": {"mnist": {"data": {"patch": 5}}}}, ["tasks.mnist", "patch", "28", "5"]),
        ({"tasks": {"mnist": {"data": {"dataset": "mnits"}}}}, ["tasks.mnist.data.dataset", "'mnits'", "mnist"]),
        ({"tasks": {"mnist": {"data": {"dataset": "arrays:my set"}}}}, ["'arrays:my set'", "in FOLDER"]),
        ({"tasks": {"swap": {"data": {"length": 7}}}}, ["tasks.swap", "even", "7"]),
        ({"tasks": {"recall": {"data": {"length": 10}}}}, ["tasks.recall", "multiple of 4"]),
        ({"tasks": {"swap": {"grid": {"data.length": [8, 7]}}}}, ["tasks.swap", "even", "7"]),
        ({"tasks": {"a\nb": {}}}, ["unknown key"]),
    ],
)
def test_impossible_studies(raw: dict[str, Any], words: list[str]) -> None:
    message = complaint(raw)
    assert all(word in message for word in words), message


def test_looks_have_the_runs_of_the_last_one_and_weights_that_grow_with_the_seeds() -> None:
    adaptive = study(seeds={"looks": [8, 12, 20]})
    assert adaptive.runs() == study(seeds=20).runs()
    manifest = adaptive.manifest()
    assert (manifest.looks, manifest.weights) == ([8, 12, 20], [0.2, 0.3, 0.5])
    assert study(seeds={"looks": [2, 3], "weights": [0.1, 0.9]}).manifest().weights == [0.1, 0.9]
    assert (study().manifest().looks, study().manifest().weights) == ([], [])


def test_one_run_of_a_study_with_looks_can_be_chosen(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("{seeds: {looks: [2, 3]}, tasks: {reverse: {}}}", encoding="utf-8")
    run, _ = single_run("reverse", "kv", 7, file)
    assert (run.variant, run.seed) == ("kv", 7)


def test_a_set_of_the_users_own_may_have_any_size() -> None:
    load_study({"tasks": {"mnist": {"data": {"dataset": "imagefolder:mine", "patch": 7}}}})
    load_study({"tasks": {"mnist": {"data": {"dataset": "imagefolder:mine@28", "patch": 7}}}})
    assert "patch" in complaint({"tasks": {"mnist": {"data": {"dataset": "imagefolder:mine@32", "patch": 7}}}})


def test_every_task_has_a_valid_published_and_corrected_setting() -> None:
    for task, protocol in itertools.product(TASKS, ("published", "corrected")):
        loaded = load_study({"protocol": protocol, "tasks": {task: {}}})
        runs = loaded.runs()
        assert [run.variant for run in runs] == [v for v in ("qkv", "kv", "kv_pos") for _ in range(3)]
        assert {run.protocol for run in runs} == {protocol}
        for run in runs:
            assert RunConfig.from_json(run.to_json()) == run


def test_protocols_change_what_they_say() -> None:
    both = {"published": "test", "corrected": "holdout"}
    for protocol, validation in both.items():
        (run,) = load_study({"tasks": {"mnist": {"protocol": protocol, "variants": ["kv"], "seeds": 1}}}).runs()
        assert run.data.validation == validation
        assert run.model.scale == ("model" if protocol == "published" else "head")
    (run,) = load_study(
        {"protocol": "corrected", "tasks": {"mnist": {"data": {"validation": "test"}, "variants": ["kv"], "seeds": 1}}}
    ).runs()
    assert run.data.validation == "test", "what is written in the file takes precedence"


sections = st.fixed_dictionaries(
    {"dim": st.sampled_from([16, 32, 96]), "heads": st.sampled_from([1, 2, 8])},
    optional={
        "layers": st.integers(1, 9),
        "mlp_ratio": st.floats(0.1, 8),
        "norm": st.sampled_from(["pre", "post"]),
        "final_norm": st.booleans(),
        "position_channels": st.integers(3, 60),
        "attention_dropout": st.floats(0, 1, exclude_max=True),
    },
)
training_sections = st.fixed_dictionaries(
    {"steps": st.integers(1, 10**7)},
    optional={
        "learning_rate": st.floats(1e-12, 1e3),
        "betas": st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)).map(list),
        "clip_norm": st.none() | st.floats(1e-3, 1e3),
        "schedule": st.sampled_from(["constant", "cosine", "warmup_cosine", "one_cycle", "inverse_sqrt", "wsd"]),
        "threads": st.integers(1, 64),
    },
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(sections, training_sections, st.integers(0, 2**40), st.sampled_from(sorted(set(TASKS) - {"translation_de_en"})))
def test_runs_survive_json_and_yaml(model: Any, training: Any, seed: int, task: str) -> None:
    raw = {"variants": ["kv_pos"], "tasks": {task: {"model": model, "training": training, "seeds": [seed]}}}
    (run,) = load_study(raw).runs()
    again = RunConfig.from_json(run.to_json())
    assert again == run and again.hash == run.hash and again.to_json() == run.to_json()
    (from_yaml,) = load_study(yaml.safe_load(yaml.safe_dump(raw))).runs()
    assert from_yaml.hash == run.hash
    assert (type(again.data), again.model, again.training) == (type(run.data), run.model, run.training)


def test_a_hash_covers_what_changes_the_result_and_nothing_else() -> None:
    def hashes(**keys: Any) -> set[str]:
        return {run.hash for run in study(**keys).runs()}

    base = hashes()
    assert len(base) == 9
    same = [
        {"name": "other", "description": "words"},
        {"execution": {"device": "cuda", "tracking_uri": "http://x", "keep_weights": True}},
        {"execution": {"checkpoint_seconds": 1.0, "data_folder": "d", "results_folder": "r"}},
        {"equivalence_margin": {"accuracy": 0.5}},
        {"baseline": "kv", "on_missing": "skip"},
        {"tasks": {"reverse": {"resources": {"mem_mb": 9, "runtime": 9, "gpu": 3}}}},
        {"tasks": {"reverse": {"settings": {"named": {}}}}},
        {"tasks": {"reverse": {"grid": {"model.dim": [64]}}}},
        {"tasks": {"reverse": {}, "sort": None}},
    ]
    for keys in same:
        assert hashes(**keys) == base, keys
    assert hashes(seeds=5) > base and hashes(variants=["qkv", "kv", "kv_pos", "k"]) > base
    for part, values in {
        "model": {"dim": 32, "norm": "pre", "init": "default", "cross_query": "own"},
        "training": {"steps": 9, "learning_rate": 0.002, "threads": 2, "precision": "bf16", "record_every": 3},
        "data": {"length": 8, "test_examples": 5},
    }.items():
        for key, value in values.items():
            assert not hashes(tasks={"reverse": {part: {key: value}}}) & base, key
    assert not hashes(protocol="corrected") & base


def test_known_hashes_stay_what_they_are() -> None:
    """A change of these numbers retrains everything and orphans every stored result: make it on purpose."""
    run, _ = single_run("reverse", "kv", 0)
    content = run.model_dump(mode="json", exclude={"setting", "overrides"})
    assert "hash" not in content and list(content) == [
        "task",
        "variant",
        "seed",
        "protocol",
        "model",
        "data",
        "training",
    ]
    text = canonical_json(content)
    assert "execution" not in text and "resources" not in text and "time" not in text
    assert run.hash == RunConfig.from_json(run.to_json()).hash


def test_settings_have_short_stable_names() -> None:
    raw = {
        "variants": ["kv"],
        "seeds": 1,
        "grid": {"training.learning_rate": ["1e-3", 0.00001, 1], "data.length": [8, 16], "model.final_norm": [True]},
        "settings": {"small": {"model.dim": 32}, "large": {"model.dim": 64}},
    }
    runs = reverse(**raw).runs()
    names = [run.setting for run in runs]
    assert names[:4] == [
        "small-length8-final_normTrue-learning_rate0.001",
        "small-length8-final_normTrue-learning_rate1e_05",
        "small-length8-final_normTrue-learning_rate1",
        "small-length16-final_normTrue-learning_rate0.001",
    ]
    assert len(set(names)) == len(names) == 12
    assert runs[0].overrides == {
        "model.dim": 32, "data.length": 8, "model.final_norm": True, "training.learning_rate": 0.001,
    }  # fmt: skip
    assert runs[0].model.dim == 32 and runs[0].data.length == 8 and runs[0].training.learning_rate == 0.001
    assert runs[0].path == "runs/reverse/small-length8-final_normTrue-learning_rate0.001/kv/seed0"
    shuffled = dict(reversed(list(raw["grid"].items())))
    assert [run.setting for run in reverse(**{**raw, "grid": shuffled}).runs()] == names


def test_close_values_keep_different_names() -> None:
    runs = reverse(grid={"training.learning_rate": [0.12345678, 0.12345679]}, seeds=1, variants=["kv"]).runs()
    assert [run.setting for run in runs] == ["learning_rate0.12345678", "learning_rate0.12345679"]


def test_steps_and_epochs_give_way_to_each_other() -> None:
    for key, other in (("steps", "epochs"), ("epochs", "steps")):
        (run,) = reverse(training={key: 7}, seeds=1, variants=["kv"]).runs()
        assert getattr(run.training, key) == 7 and getattr(run.training, other) is None
        runs = reverse(grid={f"training.{key}": [3, 4]}, seeds=1, variants=["kv"]).runs()
        assert [getattr(run.training, key) for run in runs] == [3, 4]
        run, _ = single_run("reverse", "kv", 0, overrides=[f"training.{other}=9", f"training.{key}=5"])
        assert getattr(run.training, key) == 5 and getattr(run.training, other) is None
        pair = [f"training.{key}=5", f"training.{other}=null"]
        for overrides in (pair, pair[::-1]):
            run, _ = single_run("reverse", "kv", 0, overrides=overrides)
            assert getattr(run.training, key) == 5 and getattr(run.training, other) is None


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", ["is not YAML"]),
        ("- a\n- b", ["must hold a mapping of keys, not list"]),
        ("just words", ["must hold a mapping"]),
        ("tasks: [reverse]", ["tasks"]),
        ("tasks: {reverse: 3}", ["tasks"]),
        ("tasks: {reverse: {modle: {}}}", ["tasks.reverse.modle", "did you mean 'model'?"]),
        ("tasks: {reverse: !!python/object/apply:os.system [ls]}", ["is not YAML"]),
        ("\x00", ["is not YAML"]),
        ("name: 2026-02-30", ["is not YAML", "day"]),
        ("a: &a [*a]", ["is not YAML", "an alias is inside itself"]),
        ("2026-02-28: 3", ["Keys should be strings"]),
        ("name: !!bool maybe", ["is not YAML", "does not fit its tag"]),
        ("name: !!int ''", ["is not YAML", "does not fit its tag"]),
        ("tasks: {sort: {seeds: 1}, sort: {seeds: 2}}", ["is not YAML", "'sort' is given twice"]),
        ("variants: [nope]\ntasks: {reverse: {}}", ["variants", "'nope'"]),
    ],
)
def test_files_with_mistakes_are_named(text: str, words: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, text)
    for load in (lambda: load_study(path), lambda: single_run("reverse", "kv", 0, base=path)):
        with pytest.raises(ConfigError) as caught:
            load()
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and "\n" not in message
        assert all(word in message for word in words), message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_study(path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_study(binary)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.dim", "takes key=value"),
        ("=5", "takes key=value"),
        ("model.dim=[1", "is not a YAML value"),
        ("model.dim=&a [*a]", "is not a YAML value"),
        ("model.dim=!!timestamp x", "is not a YAML value"),
        ("training={steps: 1, steps: 2}", "is not a YAML value"),
        ("tasks.reverse.variants=[qkv]", "--set: leaves no run of reverse with kv and seed 0"),
        ("tasks.reverse.seeds=[4]", "--set: leaves no run of reverse with kv and seed 0"),
        ("model=5", "tasks.reverse.model: must be a mapping"),
        ("model.dmi=5", "did you mean 'dim'?"),
        ("a.b=5", "a: unknown key"),
        ("tasks=5", "tasks: must be a mapping"),
        ("tasks.reverse=5", "tasks.reverse: must be a mapping"),
        ("tasks.reverse.grid=5", "tasks.reverse.grid: must be a mapping"),
        ("tasks.reverse.tuning=5", "tasks.reverse.tuning: must be a mapping"),
        ("tasks.reverse.settings=[5]", "tasks.reverse.settings"),
        ("training.learning_rate=inf", "learning_rate"),
        ("training.learning_rate=fast", "learning_rate"),
        ("execution.device=gpu", "execution.device"),
    ],
)
def test_overrides_with_mistakes(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        single_run("reverse", "kv", 0, overrides=[override, "model.heads=4"])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["model", "dim", "training", "steps", "tasks", "reverse", "grid", "x", ""]), max_size=4),
    st.text(max_size=8),
)
def test_any_override_is_accepted_or_rejected_in_one_line(parts: list[str], value: str) -> None:
    try:
        single_run("reverse", "kv", 0, overrides=[f"{'.'.join(parts)}={value}", "model.heads=2"])
    except ConfigError as error:
        assert "\n" not in str(error)


def test_overrides_take_any_key_and_win_over_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: mine\nprotocol: corrected\nexecution: {device: cuda}\n"
        "tasks: {reverse: {training: {epochs: 2}, grid: {model.dim: [32, 64]}, tuning: {grid: {model.heads: [2]}}},\n"
        "        sort: {settings: {small: {model.dim: 32}, large: {model.dim: 64}}}}\n",
    )
    run, loaded = single_run(
        "reverse", "kv", 3, base=path,
        overrides=["model.dim=48", "training.steps=7", "training.learning_rate=1e-4", "execution.device=cpu",
        "name=1a"],
    )  # fmt: skip
    assert (run.model.dim, run.training.steps, run.training.epochs) == (48, 7, None)
    assert (run.training.learning_rate, run.seed, run.setting) == (1e-4, 3, "default")
    assert (loaded.execution.device, loaded.name, run.protocol) == ("cpu", "1a", "corrected")
    run, _ = single_run("sort", "kv", 0, base=path, overrides=["model.dim=48"], setting="small")
    assert run.model.dim == 48
    with pytest.raises(ConfigError, match=r"2 settings, choose one with --setting: dim32, dim64"):
        single_run("reverse", "kv", 0, base=path)
    with pytest.raises(ConfigError, match="no setting 'dim8' of reverse; allowed: dim32, dim64"):
        single_run("reverse", "kv", 0, base=path, setting="dim8")
    assert single_run("reverse", "kv", 0, base=path, setting="dim64")[0].model.dim == 64


def test_a_single_run_is_the_run_that_was_asked_for() -> None:
    """Not one of another task, variant or seed that an override adds."""
    overrides = ["tasks.sort.data.length=8", "tasks.reverse.variants=[kv, qkv]", "tasks.reverse.seeds=3"]
    run, _ = single_run("reverse", "kv", 1, overrides=overrides)
    assert (run.task, run.variant, run.seed) == ("reverse", "kv", 1)


def test_a_single_run_is_the_run_of_the_study(tmp_path: Path) -> None:
    """Trained by hand or by the workflow, a run has one hash."""
    path = write(tmp_path, "tasks: {reverse: {model: {dim: 32}, grid: {data.length: [4, 8]}}}\nseeds: 2\n")
    for run in load_study(path).runs():
        alone, _ = single_run(run.task, run.variant, run.seed, base=path, setting=run.setting)
        assert alone == run and alone.hash == run.hash


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match=r"there is no task 'revers'; allowed: "):
        single_run("revers", "kv", 0)
    with pytest.raises(ConfigError, match="there is no variant 'kvv'; allowed: "):
        single_run("reverse", "kvv", 0)
    with pytest.raises(ConfigError, match=r"seeds.0: must be greater than or equal to 0, not -1"):
        single_run("reverse", "kv", -1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "nope"}, "task: there is no task 'nope'"),
        ({"variant": "nope"}, "variant: there is no variant 'nope'"),
        ({"variant": "gqa4"}, "needs model.heads"),
        ({"variant": "cla2"}, "only decoders"),
        ({"task": "numbers", "variant": "mlkv", "data": {}}, "model.layers to be at least 3, not 1"),
        ({"seed": "0"}, "seed: must be a valid integer"),
        ({"data": {"lenght": 4}}, "data.lenght: unknown key"),
        ({"data": [4]}, "data: must be a mapping"),
        ({"extra": 1}, "extra: unknown key"),
    ],
)
def test_a_run_in_json_is_checked_too(change: dict[str, Any], message: str) -> None:
    content = {**json.loads(tiny_run("reverse").to_json()), **change}
    with pytest.raises(ConfigError, match=r"^--run: ") as caught:
        RunConfig.from_json(json.dumps(content))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "{}", "\x00", '{"task": {}}'])
def test_what_is_not_a_run(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--run: ") as caught:
        RunConfig.from_json(text)
    assert "\n" not in str(caught.value)


def test_sections_are_frozen() -> None:
    for section in (ModelConfig(), TrainingConfig(steps=1), Execution(), Resources()):
        name = next(iter(type(section).model_fields))
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, name, getattr(section, name))


def test_every_key_is_described() -> None:
    sections = [ModelConfig, TrainingConfig, Execution, Resources, *{task.data_config for task in TASKS.values()}]
    for section in sections:
        for name, field in section.model_fields.items():
            assert field.description and field.description.endswith((".", ")")), name


def test_a_baseline_that_is_not_run_in_any_task_is_rejected() -> None:
    study = load_study({"variants": ["kv", "kv_pos"], "tasks": {"copy": {}}})
    with pytest.raises(ConfigError, match="baseline: is qkv, which is not run in any task; allowed: kv, kv_pos"):
        study.manifest()


def test_a_manifest_that_is_not_complete_is_one_clear_line() -> None:
    manifest = load_study({"name": "s", "seeds": 1, "tasks": {"copy": {}}}).manifest()
    with pytest.raises(ConfigError, match=r"^study 's': the setting of .*copy.* is missing$"):
        runs_of(manifest.model_copy(update={"settings": []}))
    entry = manifest.settings[0].model_copy(update={"protocol": "printed"})
    words = r"^study 's': protocol: must be 'published', 'corrected' or 'successor', not 'printed'$"
    with pytest.raises(ConfigError, match=words):
        runs_of(manifest.model_copy(update={"settings": [entry]}))


def test_margins_not_given_keep_their_defaults() -> None:
    study = load_study({"equivalence_margin": {"accuracy": 0.02}, "tasks": {"copy": {}}})
    assert study.equivalence_margin == {"accuracy": 0.02, "loss": 0.02, "bleu": 1.0}


def test_the_content_of_study_json() -> None:
    content = (
        load_study(
            {
                "name": "s",
                "baseline": "kv",
                "variants": ["kv_pos", "kv"],
                "tasks": {"copy": {"grid": {"training.learning_rate": [0.1, 0.01]}}},
                "seeds": 2,
            }
        )
        .manifest()
        .model_dump(mode="json")
    )
    assert [variant["name"] for variant in content["variants"]] == ["kv_pos", "kv"], "in the order of the study"
    assert content["tasks"][0]["chance"] == 0.1
    assert len(content["runs"]) == 8
    assert [entry["setting"] for entry in content["settings"]] == ["learning_rate0.1", "learning_rate0.01"]
    assert content["settings"][0]["departures"] == {"training.learning_rate": 0.001}
    assert content["settings"][0]["training"]["learning_rate"] == 0.1
    assert {tuple(sorted(run)) for run in content["runs"]} == {
        ("hash", "overrides", "path", "seed", "setting", "task", "variant")
    }
    assert json.loads(json.dumps(content)) == content


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_the_studies_in_config_are_valid(path: Path) -> None:
    loaded = load_study(path)
    assert runs_of(loaded.manifest()) == loaded.runs(), "study.json holds all that its runs are"
    hashes = [run.hash for run in loaded.runs()]
    assert len(set(hashes)) == len(hashes) > 0
    assert loaded.name == {"config": "default", "reference": "core"}.get(path.stem, path.stem)
    assert all(variant in VARIANTS for variant in loaded.variants)


def test_the_tables_of_keys_name_the_values_that_a_key_can_have() -> None:
    tables = generated_files(ROOT)[ROOT / "config" / "README.md"]
    for key, values in {"model.norm": "`pre`, `post`", "training.select": "`last`, `best`", "model.dim": ""}.items():
        assert f"| `tasks.<task>.{key}` | {values} |" in tables


def test_generated_files_are_up_to_date() -> None:
    for path, content in generated_files(ROOT).items():
        assert path.read_text(encoding="utf-8") == content, f"{path.name}: run `kvformer schema --write`"


def test_the_schema_accepts_what_the_models_accept() -> None:
    """Editors check study files by the generated schema; it must not contradict the code."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in (ROOT / "config").glob("*.yaml"):
        assert not list(validator.iter_errors(yaml.safe_load(path.read_text(encoding="utf-8")))), path.name
    for raw in WHOLE.values():
        assert not list(validator.iter_errors(raw))
    assert list(validator.iter_errors({"tasks": {"reverse": {"modle": {}}}}))
    assert list(validator.iter_errors({"tasks": {"reverse": {"model": {"dim": "x"}}}}))
