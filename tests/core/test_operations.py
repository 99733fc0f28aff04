"""A guard of the speed that no busy machine disturbs: what one training step computes, counted.

Floating-point operations must be exactly these; PyTorch operations must not become more. A change that makes them fewer
should lower the numbers here, and one that must raise them says why.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import tiny_run
from torch.utils._python_dispatch import TorchDispatchMode

from kvformer.records.run import RunFolder
from kvformer.training.cost import flop_counter
from kvformer.training.loop import Trainer

EXPECTED = {
    ("reverse", "qkv"): (915_456, 426),
    ("reverse", "kv"): (817_152, 418),
    ("reverse", "kv_pos"): (817_280, 490),
    ("reverse", "kv_rot"): (817_152, 488),
    ("reverse", "kv_diag"): (817_152, 448),
    ("reverse", "kv_xsa"): (817_152, 490),
    ("reverse", "kv_offset"): (817_152, 450),
    ("reverse", "kv_gate"): (915_456, 474),
    ("reverse", "uniform"): (694_272, 404),
    ("reverse", "pos_only"): (694_272, 442),
    ("reverse", "static_query"): (817_152, 428),
    ("anomaly", "qkv"): (1_936_384, 440),
    ("anomaly", "kv"): (1_838_080, 432),
    ("anomaly", "kv_pos"): (1_838_208, 504),
    ("mnist", "qkv"): (3_815_936, 346),
    ("mnist", "kv"): (3_398_144, 338),
    ("mnist", "kv_pos"): (3_401_408, 410),
    ("cifar10", "qkv"): (4_987_392, 396),
    ("cifar10", "kv"): (4_569_600, 388),
    ("cifar10", "kv_pos"): (4_572_864, 460),
    ("characters", "qkv"): (2_678_784, 395),
    ("characters", "kv"): (2_482_176, 387),
    ("characters", "kv_pos"): (2_483_456, 459),
    ("characters", "q_mqa_apart"): (2_433_024, 475),
    ("characters", "mla"): (3_072_000, 629),
    ("characters", "gla2"): (2_875_392, 693),
    ("characters", "q_kv_back"): (2_482_176, 481),
    ("numbers", "qkv"): (1_265_664, 376),
    ("numbers", "kv"): (1_167_360, 368),
    ("numbers", "kv_pos"): (1_167_488, 438),
    ("translation_en_de", "qkv"): (4_901_376, 1177),
    ("translation_en_de", "kv"): (4_581_888, 1161),
    ("translation_en_de", "kv_pos"): (4_582_528, 1375),
}
"""Task and variant: floating-point operations and PyTorch operations of the second step."""


class OperationCounter(TorchDispatchMode):
    """Counts PyTorch's operations, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def count(task: str, variant: str, data: Path, folder: Path) -> tuple[int, Counter[str]]:
    run = tiny_run(task, variant, model={"layers": 2})
    trainer = Trainer(run, RunFolder(folder), data, torch.device("cpu"))
    trainer.train_step()
    with flop_counter() as flops, OperationCounter() as operations:
        trainer.train_step()
    return int(flops.get_total_flops()), operations.counts


@pytest.mark.parametrize(("task", "variant"), EXPECTED)
def test_a_step_does_no_more_than_it_did(task: str, variant: str, prepared: Path, tmp_path: Path) -> None:
    flops, operations = count(task, variant, prepared, tmp_path)
    allowed_flops, allowed_operations = EXPECTED[task, variant]
    assert flops == allowed_flops
    assert sum(operations.values()) <= allowed_operations, operations.most_common(12)
