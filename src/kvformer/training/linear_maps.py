"""Which library computes linear maps on the CPU: measured once per kind of machine, and kept next to the prepared data,
so that all runs there compute the same."""

from pathlib import Path

import torch

from kvformer.errors import KvformerError
from kvformer.locks import hold
from kvformer.models.fast import linear
from kvformer.records.linear import LINEAR, LinearChoice, LinearChoices
from kvformer.training.provenance import processor, utc_now

WAIT_SECONDS = 60.0
DEFAULT = "oneDNN"


def machine() -> str:
    """The kind of this machine: processor, vector instructions, PyTorch."""
    return f"{processor()}, {torch.backends.cpu.get_cpu_capability()}, PyTorch {torch.__version__}"


def settle_linear(data_folder: Path) -> None:
    """Let this process use the library that was measured to be faster on such a machine.

    The first process measures; the others wait for it. Where the choice cannot be kept, it is oneDNN, and a line says
    so.
    """
    if not linear.available():
        return
    path, kind = data_folder / LINEAR, machine()
    chosen = _kept(path, kind)
    try:
        if chosen is None:
            with hold(path.with_suffix(".lock"), WAIT_SECONDS, "another process measures linear maps"):
                chosen = _kept(path, kind) or _measured(path, kind)
    except (OSError, KvformerError) as error:
        print(f"linear maps use {DEFAULT}: which library is faster here cannot be kept ({error})", flush=True)
    linear.use(chosen or DEFAULT)


def _kept(path: Path, kind: str) -> str | None:
    """The choice for this kind of machine; None where there is none that this version knows."""
    found = (LinearChoices.read(path) or LinearChoices()).choices.get(kind)
    return found.library if found is not None and found.library in linear.LIBRARIES else None


def _measured(path: Path, kind: str) -> str:
    """Measure, and keep the choice."""
    ratios = {name: round(ratio, 3) for name, ratio in linear.measured().items()}
    chosen = LinearChoice(library=linear.best(ratios), ratios=ratios, time=utc_now())
    kept = LinearChoices.read(path) or LinearChoices()
    LinearChoices(choices={**kept.choices, kind: chosen}).write(path)
    return chosen.library
