"""Resume checkpoints: written whole or not at all, checked before they are trusted, keyed by the configuration."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from kvformer.errors import CheckpointError
from kvformer.files import write_bytes

MAGIC = b"kvformer checkpoint 2\n"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, led by their SHA-256."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_bytes(path, MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load_checkpoint(path: Path, identity: dict[str, Any], device: torch.device) -> dict[str, Any] | None:
    """The saved state; None if there is none. No pickled code is ever run.

    Raises CheckpointError if the file is damaged, holds more than tensors and plain values, or has another identity.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, _, payload = content.removeprefix(MAGIC).partition(b"\n")
    if not content.startswith(MAGIC) or hashlib.sha256(payload).hexdigest().encode() != digest:
        raise CheckpointError(f"{path}: the checkpoint is damaged")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
        saved = state["identity"]
    except Exception:  # whatever a stranger's file provokes
        raise CheckpointError(f"{path}: is not a checkpoint of tensors and plain values") from None
    for name, value in identity.items():
        if saved.get(name) != value:
            raise CheckpointError(f"{path}: the checkpoint belongs to {name} {saved.get(name)}, not {value}")
    return state
