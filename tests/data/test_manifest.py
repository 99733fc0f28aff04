"""Prepared sets: what is written is read back, and damage is reported in one line that names the file."""

import json
from pathlib import Path

import numpy as np
import pytest

from kvformer.errors import DataError
from kvformer.records.manifest import MANIFEST, ManifestWriter, load_manifest


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared set with an array, an array filled in place, and a text."""
    folder = tmp_path / "sample"
    folder.mkdir()
    writer = ManifestWriter(folder)
    writer.save("tokens", np.arange(1000, dtype=np.uint8))
    writer.create("images", (4, 2, 2), np.float32)[:] = 0.5
    writer.save_lines("words", ["eins", "zwei drei", "vïer"])
    writer.finish("sample", "A sample", "npm sample 1.0", "MIT", {"classes": 3})
    return folder


def test_what_is_written_is_read_back(prepared: Path) -> None:
    manifest = load_manifest(prepared, verify=True)
    tokens = manifest.array("tokens")
    assert isinstance(tokens, np.memmap)
    np.testing.assert_array_equal(tokens, np.arange(1000, dtype=np.uint8))
    assert (manifest.array("images") == 0.5).all()
    assert manifest.lines("words") == ["eins", "zwei drei", "vïer"]
    assert manifest.facts == {"classes": 3}
    assert (manifest.dataset, manifest.license) == ("sample", "MIT")
    assert manifest.files["tokens"].shape == [1000]
    assert manifest.files["tokens"].dtype == "uint8"
    assert manifest.record() == {
        "dataset": "sample", "label": "A sample", "source": "npm sample 1.0", "sha256": manifest.sha256,
    }  # fmt: skip


def test_arrays_cannot_be_written_to(prepared: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        load_manifest(prepared).array("tokens")[0] = 1


def test_the_same_content_gives_the_same_bytes(prepared: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    writer = ManifestWriter(again)
    writer.save_lines("words", ["eins", "zwei drei", "vïer"])
    writer.create("images", (4, 2, 2), np.float32)[:] = 0.5
    writer.save("tokens", np.arange(1000, dtype=np.uint8))
    writer.finish("sample", "A sample", "npm sample 1.0", "MIT", {"classes": 3})
    for path in prepared.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_unknown_array_names_those_there_are(prepared: Path) -> None:
    manifest = load_manifest(prepared)
    with pytest.raises(DataError, match=r"no 'labels' in data set sample; it has images, tokens"):
        manifest.array("labels")
    with pytest.raises(DataError, match=r"no 'tokens' in data set sample; it has words"):
        manifest.lines("tokens")


def test_missing_set_says_how_to_prepare_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mnist/manifest.json: missing; .*kvformer prepare mnist"):
        load_manifest(tmp_path / "mnist")


def test_missing_file(prepared: Path) -> None:
    (prepared / "tokens.npy").unlink()
    with pytest.raises(DataError, match=r"tokens.npy: missing"):
        load_manifest(prepared)


def test_truncated_file_is_seen_without_verifying(prepared: Path) -> None:
    path = prepared / "tokens.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"tokens.npy: 1127 bytes instead of 1128"):
        load_manifest(prepared)


@pytest.mark.parametrize("position", [-1, 200, 500])
def test_one_flipped_byte_is_seen_when_verifying(prepared: Path, position: int) -> None:
    path = prepared / "tokens.npy"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    load_manifest(prepared)
    with pytest.raises(DataError, match=r"tokens.npy: its SHA-256 is not the one in manifest.json"):
        load_manifest(prepared, verify=True)


def test_altered_facts_are_seen(prepared: Path) -> None:
    path = prepared / MANIFEST
    path.write_text(path.read_text().replace('"classes": 3', '"classes": 4'))
    with pytest.raises(DataError, match=r"manifest.json: its sha256 does not fit"):
        load_manifest(prepared)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"dataset": "x"}', json.dumps({"files": 3, "facts": {}})])
def test_a_file_that_is_not_a_manifest(prepared: Path, content: str) -> None:
    (prepared / MANIFEST).write_text(content)
    with pytest.raises(DataError, match=r"manifest.json: .*; prepare the data set again$") as caught:
        load_manifest(prepared)
    assert "\n" not in str(caught.value)


def test_unknown_and_missing_keys_are_named(prepared: Path) -> None:
    content = json.loads((prepared / MANIFEST).read_text())
    for changed, key in (
        ({**content, "extra": 1}, "extra"),
        ({**content, "files": {"tokens": {}}}, "files.tokens.file"),
    ):
        (prepared / MANIFEST).write_text(json.dumps(changed))
        with pytest.raises(DataError, match=rf"manifest.json: {key}: .*; prepare the data set again$"):
            load_manifest(prepared)
