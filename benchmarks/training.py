"""Training steps of kvformer compared with the published formulation, with the machine, and between variants."""

from pathlib import Path
from typing import Any

from benchmarks.cases import VARIANTS, make_run, make_trainer
from benchmarks.measure import OperationClock, in_turns, product_rates, ratios, spread
from benchmarks.memory import kept, returned
from benchmarks.published_training import PublishedTraining
from kvformer.training.cost import flop_counter

Row = dict[str, Any]
PRODUCT = 1024


def measure(case: str, data: Path, rounds: int) -> list[Row]:
    """Rows of a case, one per variant. All variants of both sides take turns; a step includes making its batch."""
    runs = {variant: make_run(case, variant) for variant in VARIANTS}
    ours = {variant: make_trainer(run, data) for variant, run in runs.items()}
    theirs = {variant: PublishedTraining(run, ours[variant].data) for variant, run in runs.items()}
    actions: dict[str, Any] = {f"ours {variant}": kept(trainer.train_step) for variant, trainer in ours.items()}
    actions |= {f"published {variant}": returned(training.step) for variant, training in theirs.items()}
    actions |= product_rates(PRODUCT)
    actions["ours batch"] = lambda: ours["qkv"].batches.training(0)
    actions["published batch"] = lambda: next(theirs["qkv"].batches)
    seconds = in_turns(actions, rounds)
    batch = ratios(seconds["published batch"], seconds["ours batch"])
    rows = []
    for variant in VARIANTS:
        own, published = seconds[f"ours {variant}"], seconds[f"published {variant}"]
        speedup, against_qkv = ratios(published, own), ratios(own, seconds["ours qkv"])
        with flop_counter() as counter:
            ours[variant].train_step()
        with OperationClock() as clock:
            ours[variant].train_step()
        flops = int(counter.get_total_flops())
        row: Row = {
            "case": case,
            "variant": variant,
            "kvformer_ms": spread(own)[1] * 1e3,
            "published_ms": spread(published)[1] * 1e3,
            "speedup": speedup[1],
            "speedup_low": speedup[0],
            "speedup_high": speedup[2],
            "time_vs_qkv": against_qkv[1],
            "time_vs_qkv_low": against_qkv[0],
            "time_vs_qkv_high": against_qkv[2],
            "gflop": flops / 1e9,
            "gflop_per_second": flops / spread(own)[1] / 1e9,
        }
        for name in ("torch.mm", "oneDNN"):
            if name in seconds:
                row[f"{name}_gflop_per_second"] = 2 * PRODUCT**3 / spread(seconds[name])[1] / 1e9
                row[f"share_of_{name}"] = row["gflop_per_second"] / row[f"{name}_gflop_per_second"]
        row |= {"batch_speedup": batch[1], "batch_speedup_low": batch[0], "batch_speedup_high": batch[2]}
        row["largest_operations"] = clock.shares()
        rows.append(row)
    return rows
