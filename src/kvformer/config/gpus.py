"""Whether this machine has the GPUs that a study asks for; found out without PyTorch, for planning."""

import os
from pathlib import Path

from kvformer.config.study import StudyConfig

DEVICES = Path("/dev")


def has_gpu() -> bool:
    """Whether this process may see a GPU: a device file of the NVIDIA or AMD driver (or of WSL), not hidden by
    CUDA_VISIBLE_DEVICES."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return any(any(DEVICES.glob(pattern)) for pattern in ("nvidia[0-9]*", "kfd", "dxg"))


def kind_of_device(name: str, gpu: bool) -> str:
    """`cpu` or `cuda`, for `execution.device` on a machine with or without a GPU."""
    return "cuda" if name == "cuda" or (name == "auto" and gpu) else "cpu"


def unmet_wishes(study: StudyConfig, gpu: bool) -> list[str]:
    """One line for each wish of the study for a GPU that is not met on a machine with or without a GPU."""
    device = study.execution.device
    tasks = {name: section.resources.gpu for name, section in study.sections().items()}
    asked = ", ".join(f"tasks.{name}.resources.gpu: {count}" for name, count in tasks.items() if count)
    lines = []
    if asked and device == "cpu":
        lines.append(f"{asked}, but execution.device is cpu: the runs train on the CPU")
    elif not gpu and (asked or device == "cuda"):
        wish = ", ".join(filter(None, [asked, "execution.device: cuda" if device == "cuda" else ""]))
        end = "its runs will fail" if device == "cuda" else "the runs train on the CPU"
        lines.append(f"{wish}, but there is no GPU here: {end}")
    if several := [name for name, count in tasks.items() if count > 1]:
        lines.append(f"tasks.{several[0]}.resources.gpu: {tasks[several[0]]}, but a run uses one GPU: the others idle")
    return lines
