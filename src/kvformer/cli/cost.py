"""Count and measure what the variants of a study cost. The table holds parameters, multiply-accumulates, memory, and
the time of a training step and of decoding, for every task, setting and variant; on a GPU whose peak rate is known,
also the share of it that a step reaches. Variants are timed in turns; let nothing else run meanwhile."""

import csv
import io
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from kvformer.cli.options import at_least

if TYPE_CHECKING:
    import torch

    from kvformer.config.run import RunConfig

FIELDS = (
    "task", "setting", "variant", "parameters", "attention_parameters", "macs", "macs_counted", "cache_bytes_per_token",
    "cache_bytes_by_formula", "peak_bytes", "step_seconds", "step_seconds_low", "step_seconds_high", "step_ratio",
    "decode_tokens_per_second", "decode_low", "decode_high",
)  # fmt: skip


def add_arguments(parser: ArgumentParser) -> None:
    """What to measure, on which data and device, and the file to write."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--config", type=Path, metavar="FILE", help="study file (default config/config.yaml)")
    source.add_argument("--study", type=Path, metavar="FILE", help="the study.json of a study, instead of its file")
    parser.add_argument("--task", help="only this task")
    parser.add_argument("--setting", help="only this setting")
    parser.add_argument("--data", type=Path, default=Path("results/data"), help="folder of prepared data")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="device (default auto)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds, at least 2 (default 7)")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")


def run(options: Namespace) -> None:
    """Measure each setting and write one table."""
    from itertools import groupby

    from kvformer.errors import DataError
    from kvformer.files import write_text
    from kvformer.models.fast.memory import keep_memory
    from kvformer.records.manifest import load_manifest
    from kvformer.training.cost import measure
    from kvformer.training.gpus import choose_device
    from kvformer.training.linear_maps import settle_linear

    at_least(options, rounds=2)
    chosen, baseline = _chosen(options)
    device, rows = choose_device(options.device), []
    keep_memory()
    if device.type == "cpu":
        settle_linear(options.data)
    _say_where(device, {config.training.precision for config in chosen})
    for (task, setting), group in groupby(chosen, key=lambda config: (config.task, config.setting)):
        runs = list(group)
        manifests = {name: load_manifest(options.data / name) for name in runs[0].datasets}
        try:
            shape = runs[0].definition.shape(runs[0].data, manifests)
        except ValueError as error:
            raise DataError(f"{task} (setting {setting}): {error}") from None
        print(f"{task} {setting}: {', '.join(config.variant for config in runs)}", flush=True)
        rows += measure(runs, shape, device, options.rounds, baseline)
    buffer = io.StringIO()
    extra = ["flop_utilisation"] if any("flop_utilisation" in row for row in rows) else []
    writer = csv.DictWriter(buffer, [*FIELDS, *extra], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(options.out, buffer.getvalue())
    print(f"{len(chosen)} rows -> {options.out}")


def _say_where(device: "torch.device", precisions: set[str]) -> None:
    """On which GPU costs are measured, and whether its peak rate is known."""
    import torch

    from kvformer.training.peaks import peak_flops

    if device.type != "cuda":
        return
    known = all(peak_flops(device, precision) for precision in precisions)
    note = "" if known else f"; its peak in {', '.join(sorted(precisions))} is not known, so no utilisation is given"
    print(f"on {torch.cuda.get_device_name(device)}{note}", flush=True)


def _chosen(options: Namespace) -> "tuple[list[RunConfig], str]":
    """One run of each task, setting and variant that is asked for, and the study's baseline.

    Raises ConfigError where there is no such task or setting.
    """
    from kvformer.config.loading import load_study
    from kvformer.config.run import runs_of
    from kvformer.errors import ConfigError
    from kvformer.records.study import StudyManifest

    if options.study:
        manifest = StudyManifest.load(options.study)
        runs, baseline = runs_of(manifest), manifest.baseline
    else:
        study = load_study(options.config or Path("config/config.yaml"))
        runs, baseline = study.runs(), study.baseline
    for kind in ("task", "setting"):
        name, known = getattr(options, kind), dict.fromkeys(getattr(config, kind) for config in runs)
        if name is not None and name not in known:
            raise ConfigError(f"--{kind}: there is no {kind} '{name}' to measure; allowed: {', '.join(known)}")
        runs = [config for config in runs if name in (None, getattr(config, kind))]
    chosen: dict[tuple[str, str, str], RunConfig] = {}
    for config in runs:
        chosen.setdefault((config.task, config.setting, config.variant), config)
    return list(chosen.values()), baseline
