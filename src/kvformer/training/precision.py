"""The arithmetic of a run: fp32, TF32 products on GPUs that have them, or bfloat16 forward passes."""

import torch

from kvformer.config.run import RunConfig
from kvformer.errors import ConfigError

TENSOR_CORES = (8, 0)
"""The first compute capability (Ampere) whose tensor cores take TF32 and bfloat16."""


def set_precision(precision: str, device: torch.device) -> None:
    """Let matrix products of this process use TF32 (10 bits of mantissa) or full fp32, as `training.precision` says.

    Raises:
        ConfigError: the device has no such arithmetic.
    """
    gpu = device.type == "cuda"
    able = torch.cuda.get_device_capability(device) >= TENSOR_CORES if gpu else precision != "tf32"
    if precision != "fp32" and not able:
        name, allowed = (torch.cuda.get_device_name(device), "fp32") if gpu else ("the CPU", "fp32, bf16")
        raise ConfigError(f"training.precision: {precision!r} is asked for, but {name} has none; allowed: {allowed}")
    if gpu and torch.backends.cuda.matmul.allow_tf32 != (precision == "tf32"):
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def autocast(run: RunConfig, device: torch.device) -> torch.autocast:
    """The context in which forward passes of a run are computed: bfloat16 where the run asks for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=run.training.precision == "bf16")
