"""One GPU for each run that trains on a machine with several."""

import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from kvformer.errors import ConfigError, KvformerError
from kvformer.locks import hold


def choose_device(name: str) -> torch.device:
    """The device for `auto` (a GPU if there is one), `cuda` or `cpu`.

    Raises:
        ConfigError: `cuda` is asked for, but there is no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("execution.device: 'cuda' is asked for, but PyTorch sees no GPU here; allowed: auto, cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def own_device(name: str | torch.device) -> Iterator[torch.device]:
    """The device for `name`, as `choose_device`; of several GPUs, one that is kept for this process.

    A device that is given instead of a name has been claimed already.
    """
    if isinstance(name, torch.device):
        yield name
        return
    device = choose_device(name)
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if count < 2:
        yield device
        return
    # PyTorch counts only the GPUs in CUDA_VISIBLE_DEVICES; their ids are the same in all processes.
    ids = [str(torch.cuda.get_device_properties(index).uuid) for index in range(count)]
    with claim(ids, Path(tempfile.gettempdir(), f"kvformer-gpus-{os.getuid()}")) as index:
        torch.cuda.set_device(index)
        print(f"GPU {index} of {count}: {torch.cuda.get_device_name(index)}", flush=True)
        yield torch.device("cuda", index)


@contextmanager
def claim(ids: Sequence[str], folder: Path) -> Iterator[int]:
    """The index of the GPU that the fewest processes have claimed, claimed until the block ends.

    folder: where the processes of this machine hold their claims, as locked files.
    """
    with ExitStack() as held:
        yield _least_used(ids, folder, held)


def _least_used(ids: Sequence[str], folder: Path, held: ExitStack) -> int:
    for place in itertools.count():
        for index, name in enumerate(ids):
            with suppress(KvformerError):
                held.enter_context(hold(folder / f"{name}.{place}", 0.0, "another run uses this GPU"))
                return index
    raise AssertionError("unreachable")
