"""The commit in provenance.json is that of the package's own checkout, however git is set up and whoever owns it."""

import os
import subprocess
from pathlib import Path

import pytest

from kvformer.records.provenance import GitState
from kvformer.training import provenance
from kvformer.training.provenance import git_state

MODULE = "src/kvformer/training/provenance.py"


def git(folder: Path, *arguments: str) -> str:
    """Run git with an identity and nothing else from the tester's settings."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    command = ["git", *identity, "-c", "safe.directory=*", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository that tracks a stand-in for this package's module."""
    folder = tmp_path / "checkout"
    module = folder / MODULE
    module.parent.mkdir(parents=True)
    module.write_text("a = 1\n")
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder


def head(checkout: Path) -> str:
    return git(checkout, "rev-parse", "HEAD").strip()


def test_the_commit_and_the_changes_of_a_checkout(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert git_state(checkout / MODULE) == GitState(commit=head(checkout), dirty=False)
    (checkout / MODULE).write_text("a = 2\n")
    changed = git_state(checkout / MODULE)
    assert changed.dirty and changed.diff_sha256
    (checkout / MODULE).with_name("new.py").touch()
    assert git_state(checkout / MODULE).diff_sha256 not in (None, changed.diff_sha256)
    assert capsys.readouterr().err == "", "where all is well nothing is said"


@pytest.mark.parametrize("ignored", [False, True])
def test_a_repository_that_does_not_track_the_package_does_not_count(
    checkout: Path, ignored: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    unpacked = checkout / "third_party" / "kvformer-2.0" / MODULE
    unpacked.parent.mkdir(parents=True)
    unpacked.write_text("a = 1\n")
    if ignored:
        (checkout / ".gitignore").write_text("third_party\n")
        git(checkout, "add", ".gitignore")
        git(checkout, "commit", "-m", "second")
    assert git_state(unpacked) == GitState()
    (line,) = capsys.readouterr().err.splitlines()
    assert "no commit is recorded" in line and str(unpacked.parent) in line and "does not track it" in line
    git(checkout, "add", "--force", "third_party")
    git(checkout, "commit", "-m", "vendored")
    assert git_state(unpacked).commit == head(checkout), "a repository that tracks a copy of it does"


def test_a_package_behind_a_link_is_looked_up_where_it_is(checkout: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    (other / "linked").symlink_to(checkout / "src")
    module = other / "linked" / "kvformer" / "training" / "provenance.py"
    assert git_state(module.resolve()).commit == head(checkout)
    assert Path(provenance.__file__).resolve() == provenance.SOURCE


HOSTILE = {
    "an external diff": {"diff.external": "false"},
    "a text conversion that fails": {"diff.python.textconv": "false", "core.attributesFile": "{attributes}"},
    "a driver that fails": {"diff.python.command": "false", "core.attributesFile": "{attributes}"},
    "a pager": {"core.pager": "false", "pager.diff": "true", "pager.rev-parse": "true"},
    "a file system monitor that fails": {"core.fsmonitor": "/nonexistent/monitor"},
    "colours and other prefixes": {"color.ui": "always", "diff.mnemonicPrefix": "true", "diff.noprefix": "true"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_settings_of_git_change_nothing(name: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / MODULE).write_text("a = 2\n")
    plain = git_state(checkout / MODULE)
    attributes = checkout.parent / "attributes"
    attributes.write_text("*.py diff=python\n")
    for key, value in HOSTILE[name].items():
        git(checkout, "config", key, value.format(attributes=attributes))
    assert plain.dirty and git_state(checkout / MODULE) == plain


def test_the_environment_of_git_is_not_inherited(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / MODULE).write_text("a = 2\n")
    plain = git_state(checkout / MODULE)
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    for name, value in {
        "GIT_DIR": str(other / ".git"),  # as in a hook of another repository
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(other / "index"),
        "GIT_EXTERNAL_DIFF": "false",
        "GIT_CEILING_DIRECTORIES": str(checkout),
        "GIT_PAGER": "false",
        "LC_ALL": "C.UTF-8",
    }.items():
        monkeypatch.setenv(name, value)
    assert git_state(checkout / MODULE) == plain


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")
def test_a_checkout_of_another_user_has_its_commit(checkout: Path) -> None:
    expected = git_state(checkout / MODULE)
    for path in (checkout, *checkout.rglob("*")):
        os.lchown(path, 12345, 12345)
    refused = subprocess.run(["git", "status"], cwd=checkout, capture_output=True, env={"PATH": os.environ["PATH"]})
    assert b"dubious ownership" in refused.stderr, "git itself refuses"
    assert git_state(checkout / MODULE) == expected != GitState()


def test_a_commit_survives_a_diff_that_fails(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A filter that is not installed, as Git LFS often is not on compute nodes."""
    git(checkout, "config", "filter.lfs.clean", "/nonexistent/git-lfs clean")
    git(checkout, "config", "filter.lfs.required", "true")
    (checkout / ".gitattributes").write_text("*.py filter=lfs\n")
    (checkout / MODULE).write_text("a = 2\n")
    assert git_state(checkout / MODULE) == GitState(commit=head(checkout))
    (line,) = capsys.readouterr().err.splitlines()
    assert f"commit {head(checkout)} is recorded without its uncommitted changes" in line and "not found" in line


def test_a_git_that_does_not_answer_is_told_in_one_line(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in = tmp_path / "bin" / "git"
    stand_in.parent.mkdir()
    monkeypatch.setenv("PATH", f"{stand_in.parent}:/usr/bin:/bin")
    for script, reason in (
        ("#!/bin/sh\nexec sleep 60\n", "no answer within 0.5 seconds"),
        ("#!/bin/sh\necho 'fatal: out of luck' >&2; exit 128\n", "fatal: out of luck"),
        ("#!/bin/sh\nexit 1\n", "exit status 1"),
    ):
        stand_in.write_text(script)
        stand_in.chmod(0o755)
        monkeypatch.setattr(provenance, "GIT_SECONDS", 0.5)
        assert git_state(checkout / MODULE) == GitState()
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("provenance: no commit is recorded") and reason in line
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(checkout / MODULE) == GitState()
    assert capsys.readouterr().err.strip().endswith("git is not installed")


def test_a_folder_without_a_repository_and_one_without_a_commit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = tmp_path / MODULE
    module.parent.mkdir(parents=True)
    module.touch()
    assert git_state(module) == GitState()
    assert "not a git repository" in capsys.readouterr().err
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    assert git_state(module) == GitState()
    assert len(capsys.readouterr().err.splitlines()) == 1
