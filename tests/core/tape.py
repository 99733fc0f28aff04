"""Stands for a CUDA graph on the CPU: records the operations of a function, and repeats them on the same memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Action = Callable[[], None]


class Tape(TorchDispatchMode):
    """Records operations. Like a graph it repeats nothing that Python does, and sees inputs only where they were."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))  # keeps all tensors alive: their storages stay distinct
        return result

    @torch.no_grad()
    def replay(self) -> None:
        made: dict[int, Tensor] = {}

        def now(x: Any) -> Any:
            base = made.get(x.untyped_storage()._cdata) if isinstance(x, Tensor) else None
            if base is None:
                return x
            y = torch.empty(0, dtype=x.dtype)
            y.set_(base.untyped_storage(), x.storage_offset(), x.size(), x.stride())
            return y.conj() if x.is_conj() else y

        for func, args, kwargs, result in self.calls:
            new = func(*tree_map(now, args), **tree_map(now, kwargs))
            for old, fresh in zip(tree_leaves(result), tree_leaves(new), strict=True):
                if isinstance(old, Tensor):
                    made[old.untyped_storage()._cdata] = fresh


def record(action: Action, undo: Action) -> Action:
    """As `kvformer.training.graphs.record`, on the CPU."""
    action()
    undo()
    with Tape() as tape:
        action()
    undo()
    return tape.replay


def called(action: Action, undo: Action) -> Action:
    """A recorder that records nothing."""
    action()
    undo()
    return action
