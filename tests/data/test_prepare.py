"""Preparing: sources in order, idempotent, repaired when damaged, safe in two processes, one clear line on failure."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvformer.data.datasets import DATASETS, Candidate, Dataset
from kvformer.data.prepare import prepare
from kvformer.data.raw import RawFiles
from kvformer.data.sources import Rule, UserFiles
from kvformer.errors import DataError
from kvformer.records.manifest import MANIFEST, ManifestWriter, load_manifest


@dataclass(frozen=True)
class Broken:
    """A source that never works."""

    def __str__(self) -> str:
        return "broken source"

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """Fail."""
        raise DataError("the server is on fire")

    def missing(self, user_folder: Path) -> str | None:
        """None: planning cannot know."""
        return None


def build_numbers(raw: RawFiles, writer: ManifestWriter) -> dict[str, Any]:
    writer.save("numbers", np.arange(1000))
    return {"classes": 10}


def build_and_fail(raw: RawFiles, writer: ManifestWriter) -> dict[str, Any]:
    writer.save("numbers", np.arange(5))
    writer.save("half", np.arange(5))
    raise DataError("file.bin: damaged")


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Add a data set called `sample` to the table: one entry is all it takes."""

    def entry(*candidates: Candidate, name: str = "sample", requires: tuple[str, ...] = ()) -> None:
        monkeypatch.setitem(DATASETS, name, Dataset(name, "Sample", "MIT", candidates, requires))

    return entry


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the sample is prepared."""
    return tmp_path / "results" / "data" / "sample"


def test_sources_are_tried_in_order(
    add: Callable[..., None], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(
        Candidate(UserFiles("sample", "numbers"), build_numbers),
        Candidate(Broken(), build_numbers),
        Candidate(Rule("a rule"), build_and_fail),
        Candidate(Rule("another rule"), build_numbers, label="Sample (stand-in)"),
    )
    manifest = prepare("sample", out, tmp_path / "data")
    assert manifest.record() == {
        "dataset": "sample", "label": "Sample (stand-in)", "source": "another rule", "sha256": manifest.sha256,
    }  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        f"sample: user files: nothing in {tmp_path / 'data' / 'sample'}",
        "sample: broken source: the server is on fire",
        "sample: a rule: file.bin: damaged",
        f"sample: prepared in {out} (Sample (stand-in), another rule)",
    ]
    assert {path.name for path in out.iterdir()} == {MANIFEST, "numbers.npy"}
    assert {path.name for path in out.parent.iterdir()} == {"sample", ".sample.lock"}


def test_when_every_source_fails_one_line_says_why_and_what_to_do(
    add: Callable[..., None], out: Path, tmp_path: Path
) -> None:
    add(Candidate(UserFiles("sample", "the numbers"), build_numbers), Candidate(Broken(), build_numbers))
    with pytest.raises(DataError) as caught:
        prepare("sample", out, tmp_path / "data")
    folder = tmp_path / "data" / "sample"
    assert str(caught.value) == (
        f"sample (Sample) is not available: user files: nothing in {folder}; broken source: the server is on fire. "
        f"To continue, put the numbers into {folder}"
    )
    assert not out.exists()


def test_an_intact_copy_is_kept(add: Callable[..., None], out: Path, tmp_path: Path) -> None:
    add(Candidate(Rule("a rule"), build_numbers))
    prepare("sample", out, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    add(Candidate(Broken(), build_numbers))
    assert prepare("sample", out, tmp_path).source == "a rule"
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize("damage", ["flipped byte", "truncated", "no array", "no manifest", "torn manifest"])
def test_a_damaged_copy_is_repaired(add: Callable[..., None], out: Path, tmp_path: Path, damage: str) -> None:
    add(Candidate(Rule("a rule"), build_numbers))
    prepare("sample", out, tmp_path)
    reference = {path.name: path.read_bytes() for path in out.iterdir()}
    array = bytearray(reference["numbers.npy"])
    array[500] ^= 4
    if damage == "flipped byte":
        (out / "numbers.npy").write_bytes(array)
    elif damage == "truncated":
        (out / "numbers.npy").write_bytes(array[:-8])
    elif damage == "no array":
        (out / "numbers.npy").unlink()
    elif damage == "no manifest":
        (out / MANIFEST).unlink()
    else:
        (out / MANIFEST).write_bytes(reference[MANIFEST][:50])
    prepare("sample", out, tmp_path)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == reference


def test_a_reader_of_the_old_copy_is_not_disturbed(add: Callable[..., None], out: Path, tmp_path: Path) -> None:
    add(Candidate(Rule("a rule"), build_numbers))
    numbers = prepare("sample", out, tmp_path).array("numbers")
    (out / MANIFEST).unlink()
    (out / "left over.npy").touch()
    prepare("sample", out, tmp_path)
    np.testing.assert_array_equal(numbers, np.arange(1000))
    assert not (out / "left over.npy").exists()


def test_what_a_killed_process_left_is_cleared(add: Callable[..., None], out: Path, tmp_path: Path) -> None:
    add(Candidate(Rule("a rule"), build_numbers))
    stale = out.parent / ".sample.partial" / "arrays"
    stale.mkdir(parents=True)
    (stale / "half.npy").touch()
    prepare("sample", out, tmp_path)
    assert {path.name for path in out.parent.iterdir()} == {"sample", ".sample.lock"}
    assert {path.name for path in out.iterdir()} == {MANIFEST, "numbers.npy"}


def test_a_derived_set_prepares_what_it_is_made_from(add: Callable[..., None], out: Path, tmp_path: Path) -> None:
    def double(raw: RawFiles, writer: ManifestWriter) -> dict[str, Any]:
        writer.save("doubled", 2 * raw.prepared["sample"].array("numbers"))
        return {}

    add(Candidate(Rule("a rule"), build_numbers, label="Sample (stand-in)"))
    add(Candidate(Rule("doubling"), double), name="doubled", requires=("sample",))
    manifest = prepare("doubled", out.parent / "doubled", tmp_path)
    assert manifest.source == "doubling; Sample (stand-in): a rule"
    np.testing.assert_array_equal(manifest.array("doubled"), 2 * np.arange(1000))
    assert load_manifest(out, verify=True).dataset == "sample"


def test_an_unwritable_place_gets_one_line(add: Callable[..., None], tmp_path: Path) -> None:
    add(Candidate(Rule("a rule"), build_numbers))
    (tmp_path / "results").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"results/sample: cannot be written"):
        prepare("sample", tmp_path / "results" / "sample", tmp_path)


def test_processes_that_start_together_prepare_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from kvformer.data.prepare import prepare;"
        "print(prepare('human_numbers', Path(sys.argv[1]), Path(sys.argv[2])).sha256)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out" / "human_numbers"), str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert len({lines[-1] for lines in outputs}) == 1
    assert sum("prepared in" in lines[0] and "already" not in lines[0] for lines in outputs) == 1


def test_user_files_end_to_end(image_tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "imagefolder:pets@4"
    manifest = prepare("imagefolder:pets@4", out, image_tree.parent)
    assert manifest.label == "pets (user's images, 4 px)"
    assert manifest.array("train_images").shape == (6, 4, 4, 3)
    (image_tree / "train" / "cat" / "0.png").write_bytes(b"")
    (out / MANIFEST).unlink()
    with pytest.raises(DataError, match=r"is not available: user files: .*train/cat/0.png: cannot be read as an image"):
        prepare("imagefolder:pets@4", out, image_tree.parent)


@dataclass(frozen=True)
class Client:
    """A source whose client runs in the scratch folder, as apt-get and dpkg-deb do."""

    def __str__(self) -> str:
        return "client"

    def obtain(self, user_folder: Path, scratch: Path) -> RawFiles:
        """Write a file from inside the folder."""
        subprocess.run(["sh", "-c", f"echo 1 > '{scratch}/raw'"], cwd=scratch, check=True)
        return RawFiles(scratch, scratch, str(self))

    def missing(self, user_folder: Path) -> str | None:
        """None."""
        return None


def test_clients_work_where_the_folder_is_relative(
    add: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(Candidate(Client(), build_numbers))
    monkeypatch.chdir(tmp_path)
    assert prepare("sample", Path("results/data/sample"), Path("data")).source == "client"
