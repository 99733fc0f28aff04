"""Names and places of results that some file system, tool or address cannot hold are refused in one line."""

import os
from pathlib import Path
from typing import Any

import pytest

from kvformer.config.loading import load_study
from kvformer.config.places import check_path, check_places, check_writable
from kvformer.errors import ConfigError

RUN = "runs/reverse/default/kv/seed0"


def complaint(results: object, name: str = "small", runs: tuple[str, ...] = (RUN,)) -> str:
    with pytest.raises(ConfigError) as caught:
        check_places(str(results), name, runs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["a{b}", "a}", "a?b", 'a"b', "a\nb", "a\tb", "a\x7fb", "a\u2028b", os.fsdecode(b"a\xffb")]
)
def test_a_path_that_would_lead_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    text = complaint(tmp_path / name / "results")
    assert "execution.results_folder" in text and "choose a folder without it" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["a b", "#", "%41", "$HOME", "'", "\\", "*", "[a]", "&;|", "~", "ü", "a\u200db", "日本"]
)
def test_other_characters_are_allowed(name: str, tmp_path: Path) -> None:
    check_places(str(tmp_path / name), "small", [RUN])


def test_a_place_may_have_further_characters_that_are_not_allowed() -> None:
    check_path("the folder", Path("/a"), ":")
    with pytest.raises(ConfigError, match="the folder: '/a:b' holds ':'; choose a folder without it"):
        check_path("the folder", Path("/a:b"), ":")


def test_the_working_directory_counts_for_results_that_are_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'a"b').mkdir()
    monkeypatch.chdir(tmp_path / 'a"b')
    assert "the working directory" in complaint(tmp_path / "results")


def test_an_empty_path_is_not_the_root_folder() -> None:
    assert "is empty" in complaint("") and "is empty" in complaint(" ")


def test_names_and_paths_that_are_too_long_are_refused(tmp_path: Path) -> None:
    check_places(str(tmp_path), "n" * 200, [RUN])
    assert "'nnnn" in (text := complaint(tmp_path, "n" * 250)) and "250 characters" in text and "231" in text
    assert "250 characters" in complaint(tmp_path, runs=(RUN, f"runs/reverse/{'s' * 250}/kv/seed0"))
    assert "more than 255 bytes" in complaint(tmp_path / ("ü" * 150))
    assert "2048" in complaint(tmp_path.joinpath(*["d" * 200] * 10))


@pytest.mark.parametrize("make", ["file", "link to nothing", "loop"])
def test_what_is_in_the_way_of_a_folder_is_named(make: str, tmp_path: Path) -> None:
    taken = tmp_path / "results"
    for folder in (taken, taken / "small", taken / "mlflow"):
        folder.parent.mkdir(exist_ok=True)
        folder.touch() if make == "file" else folder.symlink_to(folder.name if make == "loop" else "nothing")
        assert f"{folder} is not a folder" in complaint(taken)
        folder.unlink()
    check_places(str(taken), "small", [RUN])


def test_another_study_that_differs_in_case_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Small").mkdir()
    assert "Small differ only in case" in complaint(tmp_path)
    check_places(str(tmp_path), "Small", [RUN])


def test_a_folder_that_may_be_written_is_accepted_and_another_one_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "not" / "there", tmp_path / "archive"]
    folders[1].mkdir()
    check_writable(folders)
    monkeypatch.setattr(os, "access", lambda path, mode: path == tmp_path)
    with pytest.raises(ConfigError, match=rf"^execution.results_folder: {folders[1]} cannot be written by this user$"):
        check_writable(folders)


@pytest.mark.parametrize(
    "name", ["Default", "DEFAULT", "Data", "MLflow", "compare", "con", "NUL.txt", "lpt1", "a.", ".", "..", "-a"]
)
def test_names_that_others_reserve_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name") as caught:
        load_study({"name": name, "tasks": {"reverse": {}}})
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["default", "defaults", "constant", "a.b", "data2", "com10"])
def test_other_names_are_allowed(name: str) -> None:
    assert load_study({"name": name, "tasks": {"reverse": {}}}).name == name


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"settings": {"aux": {"model.dim": 32}}}, ["tasks.reverse.settings", "Windows", "'aux'"]),
        ({"settings": {"..": {"model.dim": 32}}}, ["tasks.reverse.settings", "'..'"]),
        ({"settings": {"a": {"model.dim": 32}, "A": {"model.dim": 64}}}, ["'a' and 'A' differ only in case"]),
    ],
)
def test_names_of_settings_follow_the_same_rules(section: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study({"tasks": {"reverse": section}})
    assert all(word in str(caught.value) for word in words), caught.value
