"""Stands for a CUDA graph on the CPU: records the operations of a function, and repeats them on the same memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Action = Callable[[], None]


@dataclass(frozen=True)
class Place:
    """A tensor as a graph knows it: a piece of memory."""

    memory: int
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    conjugate: bool

    def tensor(self, storage: UntypedStorage) -> Tensor:
        tensor = torch.empty(0, dtype=self.dtype).set_(storage, self.offset, self.size, self.stride)
        return tensor.conj() if self.conjugate else tensor


class Tape(TorchDispatchMode):
    """Records operations. Like a graph it repeats nothing that Python does, sees inputs only where they were, and does
    not keep them: a replay fails where others have let them go."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []
        self.own: dict[int, Tensor] = {}
        """What was made while recording, by its storage. It is kept, so that all storages are different ones."""
        self.inputs: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = tree_map(self._place, (args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _memory(tensor) not in self.inputs:
                self.own.setdefault(_memory(tensor), tensor)
        self.calls.append((func, inputs, tree_map(self._place, result)))
        return result

    def _place(self, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        memory = _memory(x)
        if memory not in self.own and memory not in self.inputs:
            if x.ndim == 0:  # such as a number that a kernel gets by value
                self.own[memory] = x
            else:
                self.inputs[memory] = StorageWeakRef(x.untyped_storage())
        return Place(memory, x.dtype, x.storage_offset(), (*x.size(),), (*x.stride(),), x.is_conj())

    @torch.no_grad()
    def replay(self) -> None:
        made: dict[int, UntypedStorage] = {}

        def now(x: Any) -> Any:
            if not isinstance(x, Place):
                return x
            storage = made.get(x.memory)
            if storage is None and x.memory in self.own:
                storage = self.own[x.memory].untyped_storage()
            if storage is None:
                storage = UntypedStorage._new_with_weak_ptr(self.inputs[x.memory].cdata)
                assert storage is not None, f"memory that a recorded step reads was freed: {x.dtype} {x.size}"
            return x.tensor(storage)

        for func, (args, kwargs), result in self.calls:
            new = func(*tree_map(now, args), **tree_map(now, kwargs))
            for old, fresh in zip(tree_leaves(result), tree_leaves(new), strict=True):
                if isinstance(old, Place):
                    made[old.memory] = fresh.untyped_storage()


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


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
