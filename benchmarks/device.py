"""Training steps on a GPU: kvformer's one kernel at a time, as one graph and compiled; and the published formulation.

Both sides train in fp32; columns of qkv also have TF32 and bfloat16, and by how much they change the training loss.
"""

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import cases
from benchmarks.cases import make_run, make_trainer
from benchmarks.measure import in_turns, on_device, ratios, spread, wait
from benchmarks.published_training import PublishedTraining
from kvformer.config.run import RunConfig
from kvformer.spec.formulas import macs
from kvformer.spec.variants import VARIANTS as SPECS
from kvformer.training import loop
from kvformer.training.graphs import Action
from kvformer.training.loop import Trainer
from kvformer.training.peaks import peak_flops, utilisation
from kvformer.training.precision import set_precision

VARIANTS = (*cases.VARIANTS, "kv_rot")
COMPILED = ("qkv", "kv_pos")
LOSS_STEPS = 100
"""Steps whose mean loss is compared between precisions."""
Row = dict[str, Any]


def stand_in() -> None:
    """Let a CPU follow plans as a GPU does, without recording them: a rehearsal."""

    def called(action: Action, undo: Action) -> Action:
        action()
        undo()
        return action

    loop.recorder = lambda device: called


def measure(case: str, data: Path, rounds: int, device: torch.device, tiny: bool = False) -> list[Row]:
    """Rows of a case, one per variant. All variants of both sides take turns; a step includes making its batch, but for
    `published_step_ms`, which repeats one batch."""
    runs = {variant: make_run(case, variant, tiny) for variant in VARIANTS}
    graphs = {variant: make_trainer(run, data, device) for variant, run in runs.items()}
    actions: dict[str, Callable[[], Any]] = {}
    for variant, run in runs.items():
        actions[f"graph {variant}"] = _steps(graphs[variant])
        actions[f"eager {variant}"] = _steps(make_trainer(run, data, device, graphs=False))
        if variant in cases.VARIANTS:
            published = PublishedTraining(run, graphs[variant].data, device)
            batch = [part.to(device) for part in next(published.batches)]
            actions[f"published {variant}"] = published.step
            actions[f"published step {variant}"] = lambda published=published, batch=batch: published.learn(batch)
    precisions = _precisions(case, data, device, tiny)
    actions |= {f"graph {name}": _steps(trainer) for name, trainer in precisions.items()}
    seconds = in_turns(actions, rounds, on_device(device))
    rows = [_row(case, runs[variant], graphs[variant], seconds) for variant in VARIANTS]
    for name in precisions:
        rows[0][f"{name}_ms"] = spread(seconds[f"graph {name}"])[1] * 1e3
    rows[0] |= loss_changes(case, data, device, tiny)
    return [{**dict.fromkeys(rows[0]), **row} for row in rows]


def compiled(case: str, variant: str, data: Path, rounds: int, device: torch.device, tiny: bool = False) -> Row:
    """A row of steps compiled by torch.compile, next to recorded ones."""
    run = make_run(case, variant, tiny)
    begin = time.perf_counter()
    trainer = make_trainer(run, data, device, compiler_mode="default")
    step = _steps(trainer)
    step()
    wait(device)
    start = time.perf_counter() - begin
    actions = {"compiled": step, "graph": _steps(make_trainer(run, data, device))}
    seconds = in_turns(actions, rounds, on_device(device))
    milliseconds = {name: spread(values)[1] * 1e3 for name, values in seconds.items()}
    row = {"case": case, "variant": variant, "first_step_seconds": start, "compiled_ms": milliseconds["compiled"]}
    return {**row, "graph_ms": milliseconds["graph"]}


def _row(case: str, run: RunConfig, trainer: Trainer, seconds: dict[str, list[float]]) -> Row:
    graph, eager = seconds[f"graph {run.variant}"], seconds[f"eager {run.variant}"]
    assert trainer.stepper is not None
    row: Row = {
        "case": case,
        "variant": run.variant,
        "recorded": trainer.stepper.recorded,
        "graph_ms": spread(graph)[1] * 1e3,
        "eager_ms": spread(eager)[1] * 1e3,
    }
    row |= _named("gain", ratios(eager, graph)) | _named("time_vs_qkv", ratios(graph, seconds["graph qkv"]))
    for name in ("published", "published step"):
        times = seconds.get(f"{name} {run.variant}")
        column = name.replace(" ", "_")
        row[f"{column}_ms"] = spread(times)[1] * 1e3 if times else None
        row |= _named(f"speedup_{column}", ratios(times, graph) if times else (None, None, None))
    peak = peak_flops(trainer.device, "fp32")
    forward = macs(run.definition.architecture, SPECS[run.variant], run.model, trainer.data.shape)
    examples = run.training.batch_size
    row["flop_utilisation"] = utilisation(forward, examples, spread(graph)[1], peak) if peak else None
    return row


def _named(name: str, values: tuple[float | None, float | None, float | None]) -> Row:
    return {name: values[1], f"{name}_low": values[0], f"{name}_high": values[2]}


def _steps(trainer: Trainer) -> Callable[[], None]:
    """Training steps, the first after the last."""

    def step() -> None:
        if trainer.state.step >= trainer.steps:
            trainer.state.step = 0
        trainer.train_step()

    return step


def _precisions(case: str, data: Path, device: torch.device, tiny: bool) -> dict[str, Trainer]:
    """qkv in other precisions, recorded with them; where nothing is recorded, TF32 cannot be told apart in turns."""
    names = ("tf32", "bf16") if device.type == "cuda" else ("bf16",)
    trainers = {}
    for name in names:
        set_precision(name, device)
        trainer = make_trainer(make_run(case, "qkv", tiny, name), data, device)
        trainer.train_step()
        assert trainer.stepper is not None
        if name != "tf32" or trainer.stepper.recorded:
            trainers[name] = trainer
    set_precision("fp32", device)
    return trainers


def loss_changes(case: str, data: Path, device: torch.device, tiny: bool) -> Row:
    """By how much, as a fraction, other precisions change the mean loss of the first steps of qkv."""
    losses = {}
    for name in ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16"):
        set_precision(name, device)
        trainer = make_trainer(make_run(case, "qkv", tiny, name), data, device)
        for _ in range(min(3 if tiny else LOSS_STEPS, trainer.steps)):
            trainer.train_step()
        losses[name] = float(trainer.state.loss_sum)
        del trainer
        gc.collect()
    set_precision("fp32", device)
    return {f"{name}_loss_change": value / losses["fp32"] - 1 for name, value in losses.items() if name != "fp32"}
