"""`~` and environment variables in paths of the configuration and of every command."""

import os
from pathlib import Path

import pytest

from kvformer.cli import build_parser, main
from kvformer.config.loading import load_study
from kvformer.errors import ConfigError
from kvformer.files import expand


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~", "{}/home"),
        ("~/x", "{}/home/x"),
        ("$SCRATCH/x", "{}/scratch/x"),
        ("${SCRATCH}x/y", "{}/scratchx/y"),
        ("a/~/b", "a/~/b"),
        ("a$/b", "a$/b"),
        ("a b/c", "a b/c"),
        ("~root/x", "/root/x"),
    ],
)
@pytest.mark.parametrize("key", ["results_folder", "data_folder"])
def test_paths_of_the_configuration_are_expanded(tmp_path: Path, key: str, written: str, meant: str) -> None:
    if written.startswith("~root") and os.path.expanduser("~root") != "/root":  # noqa: PTH111
        pytest.skip("root's home is elsewhere")
    study = load_study({"tasks": {"reverse": {}}, "execution": {key: written}})
    assert getattr(study.execution, key) == meant.format(tmp_path)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("$UNSET/x", "the environment variable UNSET is not set"),
        ("x/${UNSET}", "the environment variable UNSET is not set"),
        ("$EMPTY/x", "the environment variable EMPTY is not set"),
        ("~nobody-of-this-name/x", "there is no user nobody-of-this-name"),
    ],
)
def test_what_cannot_be_expanded_is_refused_with_its_key(
    written: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study({"tasks": {"reverse": {}}, "execution": {"results_folder": written}})
    assert str(caught.value) == f"configuration: execution.results_folder: '{written}': {said}"
    assert main(["prepare", "human_numbers", "--user-folder", written]) == 2
    assert capsys.readouterr().err == f"kvformer: error: user-folder: '{written}': {said}\n"


def test_a_name_with_a_dollar_that_exists_is_meant(tmp_path: Path) -> None:
    (tmp_path / "a$UNSET").mkdir()
    assert expand("a$UNSET/x") == "a$UNSET/x"
    (tmp_path / "$SCRATCH").mkdir()  # made by an older version that took the variable for a name
    assert expand("$SCRATCH/x") == f"{tmp_path}/scratch/x"


def test_paths_of_commands_are_expanded(tmp_path: Path) -> None:
    assert main(["prepare", "human_numbers", "--out", "$SCRATCH/data"]) == 0
    assert (tmp_path / "scratch" / "data" / "human_numbers" / "manifest.json").is_file()
    assert (
        main(
            [
                "train",
                "reverse",
                "kv",
                "--out",
                "~/run",
                "--data",
                "$SCRATCH/data",
                "--set",
                "training.steps=2",
                "--set",
                "model.dim=16",
            ]
        )
        == 0
    )
    assert (tmp_path / "home" / "run" / "summary.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "scratch"]


def test_every_path_of_every_command_is_a_path() -> None:
    """Only then is it expanded."""
    actions = [action for command in build_parser()._subparsers._group_actions[0].choices.values()  # type: ignore
               for action in command._actions]  # fmt: skip
    texts = {action.dest for action in actions if action.type is not Path and action.nargs != 0}
    assert not {name for name in texts if name in ("out", "config", "results", "data", "root") or "folder" in name}
