"""The table of data sets: complete, cheap to import, and honest about what is available."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kvformer.config.availability import leave_out_missing, without_skipped
from kvformer.data import sources
from kvformer.data.cifar import CIFAR10, CIFAR100
from kvformer.data.datasets import DATASETS, available, find_dataset
from kvformer.data.digits import FILES
from kvformer.data.sources import Download, UserFiles
from kvformer.errors import DataError
from kvformer.files import write_json
from kvformer.records.manifest import ManifestWriter
from kvformer.records.study import StudyStart


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address answers."""
    monkeypatch.setattr(sources, "_unreachable", lambda url: f"{url}: no network")


def downloads(name: str) -> tuple[str, ...]:
    return next(c.source.urls for c in DATASETS[name].candidates if isinstance(c.source, Download))


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys, kvformer.data.datasets, kvformer.data.prepare;"
        "print([m for m in ('torch', 'torchvision', 'PIL', 'sacremoses', 'pandas', 'mlflow') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_entries_are_consistent() -> None:
    labels = [label for entry in DATASETS.values() for label in {c.label or entry.label for c in entry.candidates}]
    assert len(set(labels)) == len(labels), "two sets must not share a label"
    for name, entry in DATASETS.items():
        assert entry.name == name
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert entry.candidates
        assert entry.license
        assert all(required in DATASETS for required in entry.requires)
        for candidate in entry.candidates:
            if isinstance(candidate.source, UserFiles):
                assert candidate.source.folder == name
            if isinstance(candidate.source, Download):
                assert all(url.startswith("https://") for url in candidate.source.urls)


def test_addresses_and_digests_are_those_of_torchvision() -> None:
    from torchvision import datasets as torchvision_datasets
    from torchvision.models import ResNet34_Weights

    mnist = torchvision_datasets.MNIST
    assert downloads("mnist") == tuple(f"{mnist.mirrors[0]}{name}" for name, _ in mnist.resources)
    assert [f"{name}.gz" for name in FILES] == [name for name, _ in torchvision_datasets.FashionMNIST.resources]
    for name, digests, theirs in (
        ("cifar10", CIFAR10, torchvision_datasets.CIFAR10),
        ("cifar100", CIFAR100, torchvision_datasets.CIFAR100),
    ):
        assert downloads(name) == (theirs.url,)
        assert digests["train"] == dict(theirs.train_list)
        assert digests["test"] == dict(theirs.test_list)
        assert digests["meta"] == {theirs.meta["filename"]: theirs.meta["md5"]}
    assert downloads("cifar100_resnet34") == (ResNet34_Weights.IMAGENET1K_V1.url,)


def test_sets_of_the_users_own() -> None:
    entry = find_dataset("imagefolder:tiny-imagenet@64")
    assert entry.label == "tiny-imagenet (user's images, 64 px)"
    assert entry.where_to_put(Path("data")) == (
        "put train/<class>/ and val/<class>/ or test/<class>/, or one zip of them, into data/tiny-imagenet"
    )
    build = entry.candidates[0].build
    assert isinstance(build, partial)
    assert build.keywords == {"size": 64}
    for name in ("imagefolder:pets", "arrays:mine", "parallel:europarl", "text:diary"):
        assert find_dataset(name).name == name


@pytest.mark.parametrize(
    "name",
    ["minst", "imagefolder:", "imagefolder:../secrets", "imagefolder:a/b", "imagefolder:x@0", "text:x@64", "zip:x", ""],
)
def test_an_unknown_name_gets_one_line(name: str) -> None:
    with pytest.raises(DataError, match=r"is unknown; there are mnist, .*imagefolder:FOLDER") as caught:
        find_dataset(name)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("offline")
def test_a_missing_set_is_reported_while_planning(tmp_path: Path) -> None:
    out, data = tmp_path / "results" / "cifar10", tmp_path / "data"
    message = available("cifar10", out, data)
    assert message is not None
    assert "cifar10 (CIFAR-10): user files: nothing in" in message
    assert f"put cifar-10-python.tar.gz (or its unpacked batches) into {data / 'cifar10'}" in message
    (data / "cifar10").mkdir(parents=True)
    (data / "cifar10" / "cifar-10-python.tar.gz").touch()
    assert available("cifar10", out, data) is None


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("on_missing", ["fail", "skip"])
def test_a_study_without_any_data_says_what_is_missing(on_missing: str, tmp_path: Path) -> None:
    """Not that no task is listed, where all are left out."""
    tasks = {"characters": {"data": {"dataset": "text:none"}}}
    raw = {"on_missing": on_missing, "tasks": tasks, "execution": {"data_folder": str(tmp_path)}}
    with pytest.raises(DataError, match=r"data are missing: text:none .*`on_missing: skip` leaves out all tasks"):
        leave_out_missing(raw)


@pytest.mark.parametrize(
    ("record", "left"),
    [
        ({"skipped": [{"task": task, "reason": "none"} for task in ("copy", "mt")]}, ["sort"]),  # mt: not a task of it
        ({}, ["sort", "copy"]),  # older files have no such key
        (None, ["sort", "copy"]),
    ],
)
def test_a_job_leaves_out_what_its_study_left_out(
    record: dict[str, Any] | None, left: list[str], tmp_path: Path
) -> None:
    if record is not None:
        write_json(tmp_path / "start.json", {"time": "2026-01-01T00:00:00Z", "attempts": 3, **record})
    start = StudyStart.read(tmp_path / "start.json")
    study, skipped = without_skipped({"tasks": {"sort": {}, "copy": {}}}, start)
    assert list(study.settings) == left and len(left) + len(skipped) == 2


def test_a_prepared_set_is_available(tmp_path: Path) -> None:
    out = tmp_path / "multi30k"
    assert "multi30k (Multi30k)" in (available("multi30k", out, tmp_path / "data") or "")
    out.mkdir()
    ManifestWriter(out).finish("multi30k", "Multi30k", "test", "none", {})
    assert available("multi30k", out, tmp_path / "data") is None


@pytest.mark.usefixtures("offline")
def test_a_derived_set_needs_what_it_is_made_from(tmp_path: Path) -> None:
    (tmp_path / "data" / "cifar100_resnet34").mkdir(parents=True)
    (tmp_path / "data" / "cifar100_resnet34" / "resnet34-b627a593.pth").touch()
    message = available("cifar100_resnet34", tmp_path / "cifar100_resnet34", tmp_path / "data")
    assert (message or "").startswith("cifar100_resnet34 is made from cifar100 (CIFAR-100): ")


@pytest.mark.usefixtures("offline")
def test_generated_sets_are_always_available(tmp_path: Path) -> None:
    assert available("human_numbers", tmp_path / "human_numbers", tmp_path) is None


def test_an_address_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def refuse(url: str, method: str = "GET") -> None:
        asked.append((method, url))
        raise DataError("no network")

    monkeypatch.setattr(sources, "_open", refuse)
    sources._unreachable.cache_clear()
    for _ in range(3):
        assert available("cifar10", tmp_path / "cifar10", tmp_path) is not None
    sources._unreachable.cache_clear()
    assert asked == [("HEAD", downloads("cifar10")[0])]
