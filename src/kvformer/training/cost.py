"""What a variant costs: counted by formula, counted by PyTorch, and measured.

All variants of a setting are measured in one process, in turns, so that a machine whose speed drifts affects all of
them equally.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kvformer.config.run import RunConfig
from kvformer.data.tokens import BEGIN, END
from kvformer.models.attention import DecoderCache
from kvformer.models.build import build_model
from kvformer.models.gpt import GPT
from kvformer.models.seq2seq import Seq2Seq
from kvformer.spec.formulas import cache_elements, macs, parameters, total_attention_parameters
from kvformer.spec.shapes import Shape
from kvformer.spec.variants import VARIANTS
from kvformer.training.graphs import recorded, recorder
from kvformer.training.optimizers import PlannedAdam, make_optimizer, make_planned_optimizer
from kvformer.training.peaks import peak_flops, utilisation
from kvformer.training.precision import autocast, set_precision

Row = dict[str, Any]


def random_inputs(run: RunConfig, shape: Shape, batch: int, device: torch.device) -> tuple[Tensor, ...]:
    """Inputs of full length for a run's model; costs do not depend on their values."""
    random = torch.Generator().manual_seed(0)
    architecture = run.definition.architecture
    if architecture == "vit":
        assert shape.image is not None
        return (torch.rand(batch, *shape.image, generator=random).to(device),)
    if architecture == "set_encoder":
        return (torch.rand(batch, shape.length, shape.inputs, generator=random).to(device),)
    if architecture == "seq2seq":
        sides = (shape.inputs, shape.target_inputs or shape.outputs)
        return tuple(torch.randint(END + 1, n, (batch, shape.length), generator=random).to(device) for n in sides)
    return (torch.randint(shape.inputs, (batch, shape.length), generator=random).to(device),)


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter of floating-point operations (two per multiply-accumulate), including oneDNN's products."""

    def product(x: Any, weight: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
        return 2 * math.prod(x) * int(weight[0])

    formulas: dict[Any, Any] = {}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        formulas[torch.ops.mkldnn._linear_pointwise] = product
    return FlopCounterMode(display=False, custom_mapping=formulas)


class Subject:
    """One variant of a setting, ready to be measured."""

    def __init__(self, run: RunConfig, shape: Shape, device: torch.device) -> None:
        self.run, self.shape, self.device = run, shape, device
        self.model = build_model(run, shape).to(device)
        record = recorder(device) if run.definition.architecture != "seq2seq" else None
        self.optimizer = (make_planned_optimizer if record else make_optimizer)(run, self.model)
        if isinstance(self.optimizer, PlannedAdam):
            self.optimizer.rates.fill_(1e-3)
        self.batch = random_inputs(run, shape, run.training.batch_size, device)
        self.step = recorded(record, self.train_step, lambda: None)[0] if record else self.train_step
        """One optimisation step as it is taken in training: on a GPU as one graph, where that is possible."""

    def train_step(self) -> None:
        """One optimisation step on a fixed batch."""
        with autocast(self.run, self.device):
            logits = self.model(*self.batch)
            targets = torch.zeros(logits.shape[:-1], dtype=torch.long, device=logits.device)
            loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def counted_macs(self) -> int:
        """Multiply-accumulates of a forward pass for one example, counted by PyTorch."""
        one = random_inputs(self.run, self.shape, 1, self.device)
        self.model.eval()
        with torch.no_grad(), flop_counter() as counter:
            self.model(*one)
        self.model.train()
        return int(counter.get_total_flops()) // 2

    def decode(self) -> DecoderCache:
        """Decode one sequence of the model's full length greedily; returns the filled cache."""
        model, cache = self.model.eval(), DecoderCache()
        token = torch.full((1, 1), BEGIN, device=self.device)
        with torch.no_grad():
            if isinstance(model, Seq2Seq):
                memory = model.encode(random_inputs(self.run, self.shape, 1, self.device)[0], None)
            for _ in range(self.shape.length):
                if isinstance(model, Seq2Seq):
                    logits = model.head(model.decode(token, memory, None, cache))
                else:
                    logits = model(token, cache)
                token = logits[:, -1].argmax(dim=-1, keepdim=True)
        model.train()
        return cache

    def peak_bytes(self) -> int:
        """Peak memory of tensors during a training step, including parameters and optimiser state."""
        self.train_step()
        held = _tensor_bytes(self.model, self.optimizer)
        if self.device.type == "cuda":
            self.optimizer.zero_grad(set_to_none=True)
            before = torch.cuda.memory_allocated(self.device)  # of all variants
            torch.cuda.reset_peak_memory_stats(self.device)
            self.train_step()
            return held + torch.cuda.max_memory_allocated(self.device) - before
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            self.train_step()
        assert profile.profiler is not None and profile.profiler.kineto_results is not None
        events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
        running = peak = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            running += event.nbytes()  # negative where memory is freed
            peak = max(peak, running)
        return held + peak


def _tensor_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
    return sum(tensor.nbytes for tensor in [*model.parameters(), *state])


def measure(
    runs: list[RunConfig], shape: Shape, device: torch.device, rounds: int = 7, baseline: str | None = None
) -> list[Row]:
    """Costs of the variants of one setting, one row per variant.

    runs: one per variant, of one task and setting. rounds: number of rounds; in each, every variant in turn does one
        timed training step. Decoding of a sequence is timed in half as many rounds, at least 3. Times are medians over
        the rounds, with the quartiles as spread.
    baseline: the variant that `step_ratio` compares with, round by round; the first one if it is not among `runs`.

    On a GPU whose peak rate is known, rows also have `flop_utilisation`.

    Raises:
        ConfigError: the device does not have the runs' precision.
    """
    torch.set_num_threads(runs[0].threads)
    precision = runs[0].training.precision
    set_precision(precision, device)
    peak = peak_flops(device, precision)
    subjects = [Subject(run, shape, device) for run in runs]
    steps = _interleaved([subject.step for subject in subjects], rounds, device)
    reference = next((times for run, times in zip(runs, steps, strict=True) if run.variant == baseline), steps[0])
    decoders = [subject for subject in subjects if isinstance(subject.model, GPT | Seq2Seq)]  # all or none
    decoding = _interleaved([subject.decode for subject in decoders], max(3, rounds // 2), device)
    rows = [_step_costs(subject, times, reference, peak) for subject, times in zip(subjects, steps, strict=True)]
    for row, subject, times in zip(rows, decoders, decoding, strict=False):
        row |= _decoding_costs(subject, times)
    return rows


def _step_costs(subject: Subject, times: list[float], reference: list[float], peak: float | None) -> Row:
    """What a training step costs, and what is counted."""
    run, shape, variant = subject.run, subject.shape, VARIANTS[subject.run.variant]
    architecture = run.definition.architecture
    low, middle, high = _quartiles(times)
    row: Row = {
        "task": run.task,
        "setting": run.setting,
        "variant": run.variant,
        "parameters": parameters(architecture, variant, run.model, shape),
        "attention_parameters": total_attention_parameters(architecture, variant, run.model, shape),
        "macs": macs(architecture, variant, run.model, shape),
        "macs_counted": subject.counted_macs(),
        "step_seconds": middle,
        "step_seconds_low": low,
        "step_seconds_high": high,
        "step_ratio": statistics.median(a / b for a, b in zip(times, reference, strict=True)),
        "peak_bytes": subject.peak_bytes(),
    }
    if peak is not None:
        row["flop_utilisation"] = utilisation(row["macs"], run.training.batch_size, middle, peak)
    return row


def _decoding_costs(subject: Subject, times: list[float]) -> Row:
    """What decoding a sequence costs."""
    cache, length = subject.decode(), subject.shape.length
    elements = cache_elements(VARIANTS[subject.run.variant], subject.run.model)
    low, middle, high = _quartiles(times)
    return {
        "cache_bytes_per_token": cache.bytes / cache.length,
        "cache_bytes_by_formula": elements * next(subject.model.parameters()).itemsize,
        "decode_tokens_per_second": length / middle,
        "decode_low": length / high,
        "decode_high": length / low,
    }


def _interleaved(actions: list[Callable[[], Any]], rounds: int, device: torch.device) -> list[list[float]]:
    """Seconds of each action in each round, after one round of warm-up."""
    seconds: list[list[float]] = [[] for _ in actions]
    for turn in range(rounds + 1):
        for action, times in zip(actions, seconds, strict=True):
            begin = time.perf_counter()
            action()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:
                times.append(time.perf_counter() - begin)
    return seconds


def _quartiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive")
