"""Each run on a machine with several GPUs has one of its own, and a warning says where an asked-for GPU is missing."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runs import environment, tiny_run

from kvformer.cli import main
from kvformer.config import gpus as gpus_module
from kvformer.config.gpus import has_gpu, unmet_wishes
from kvformer.config.loading import load_study
from kvformer.training.gpus import claim, own_device

CLAIM = """
import sys
from pathlib import Path
from kvformer.training.gpus import claim

with claim(["first", "second"], Path(sys.argv[1])) as index:
    print(index, flush=True)
    sys.stdin.read()
"""


@contextmanager
def claimed(folder: Path) -> Iterator[int]:
    """The GPU that another process claims until the block ends."""
    line = [sys.executable, "-c", CLAIM, str(folder)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.communicate()


def test_each_run_has_a_gpu_of_its_own_and_the_rest_share_evenly(tmp_path: Path) -> None:
    """Two stand-ins for GPUs. More places than GPUs (`gpu=4` in the profile) mean that runs share them."""
    with claimed(tmp_path) as a, claimed(tmp_path) as b, claimed(tmp_path) as c:
        assert [a, b, c] == [0, 1, 0]
        with claimed(tmp_path) as d:
            assert d == 1
    with claimed(tmp_path) as a:
        with claimed(tmp_path) as b:
            assert [a, b] == [0, 1]
        with claim(["first", "second"], tmp_path) as again:
            assert again == 1, "the one that is free again"


def test_a_run_uses_the_gpu_that_it_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    used: list[int] = []
    stand_ins: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_properties": lambda index: SimpleNamespace(uuid=["first", "second"][index]),
        "get_device_name": lambda index: "stand-in",
        "set_device": used.append,
    }
    for name, function in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setattr("kvformer.training.gpus.tempfile.gettempdir", lambda: str(tmp_path))
    with own_device("cpu") as device:
        assert device == torch.device("cpu")
    with own_device("auto") as device:
        assert device == torch.device("cuda", 0)
    (folder,) = tmp_path.iterdir()
    with claimed(folder), own_device("auto") as device:
        assert device == torch.device("cuda", 1) and used == [0, 1]
    assert "GPU 1 of 2: stand-in" in capsys.readouterr().out
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with own_device("cuda") as device:
        assert device == torch.device("cuda"), "one GPU is not claimed"


@pytest.mark.parametrize(
    ("device", "gpu", "here", "said"),
    [
        ("auto", 1, False, ["tasks.copy.resources.gpu: 1, but there is no GPU here: the runs train on the CPU"]),
        ("cpu", 1, True, ["tasks.copy.resources.gpu: 1, but execution.device is cpu: the runs train on the CPU"]),
        ("cuda", 0, False, ["execution.device: cuda, but there is no GPU here: its runs will fail"]),
        ("auto", 2, True, ["tasks.copy.resources.gpu: 2, but a run uses one GPU: the others idle"]),
        ("auto", 1, True, []),
        ("cuda", 0, True, []),
        ("auto", 0, False, []),
        ("cpu", 0, False, []),
    ],
)
def test_a_wish_for_a_gpu_that_is_not_met_is_one_line(device: str, gpu: int, here: bool, said: list[str]) -> None:
    study = load_study({"tasks": {"copy": {"resources": {"gpu": gpu}}}, "execution": {"device": device}})
    assert unmet_wishes(study, here) == said


def test_planning_warns_of_a_missing_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kvformer.config.gpus.has_gpu", lambda: False)
    path = tmp_path / "study.yaml"
    path.write_text("tasks: {copy: {resources: {gpu: 1}}}")
    assert main(["plan", str(path)]) == 0
    assert capsys.readouterr().err == (
        "warning: tasks.copy.resources.gpu: 1, but there is no GPU here: the runs train on the CPU\n"
    )


@pytest.mark.parametrize("wish", [0, 1])
def test_the_log_of_a_run_warns_of_a_missing_gpu(
    wish: int, tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = tiny_run("copy")
    arguments = ["--run", run.to_json(), "--out", str(tmp_path), "--data", str(prepared), "--gpus", str(wish)]
    assert main(["train", *arguments]) == 0
    warned = "warning: resources.gpu: 1, but this run trains on the CPU\n" in capsys.readouterr().out
    assert warned == bool(wish)


@pytest.mark.parametrize(("visible", "found"), [(None, True), ("0", True), ("", False), ("-1", False)])
def test_hidden_gpus_are_not_there(visible: str | None, found: bool, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(gpus_module, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert has_gpu() == found
    (tmp_path / "nvidia0").rename(tmp_path / "nvidiactl")
    assert not has_gpu()
