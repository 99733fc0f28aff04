"""`kvformer profile`: what the variants of a study cost."""

import argparse
import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kvformer.cli.options import Commands

if TYPE_CHECKING:
    from kvformer.config.run import RunConfig
    from kvformer.config.study import StudyConfig

FIELDS = (
    "task", "setting", "variant", "parameters", "attention_parameters", "macs", "macs_counted", "cache_bytes_per_token",
    "cache_bytes_by_formula", "peak_bytes", "step_seconds", "step_seconds_low", "step_seconds_high", "step_ratio",
    "decode_tokens_per_second", "decode_low", "decode_high",
)  # fmt: skip


def add_commands(commands: Commands) -> None:
    """Add `profile`."""
    parser = commands.add_parser(
        "profile",
        help="count and measure what the variants of a study cost",
        description="Parameters, multiply-accumulates, memory, time of a training step and of decoding, for every "
        "task, setting and variant of a study. Variants are timed in turns; let nothing else run meanwhile.",
    )
    parser.add_argument(
        "--config", type=Path, help="study (default: the one in KVFORMER_STUDY, else config/config.yaml)"
    )
    parser.add_argument("--task", help="only this task")
    parser.add_argument("--setting", help="only this setting")
    parser.add_argument("--data", type=Path, default=Path("results/data"), help="folder of prepared data")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="device (default auto)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds, at least 2 (default 7)")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.set_defaults(handler=profile)


def profile(options: argparse.Namespace) -> None:
    """Measure each setting and write one table."""
    from itertools import groupby

    from kvformer.config.loading import load_study
    from kvformer.errors import ConfigError, DataError
    from kvformer.files import write_text
    from kvformer.records.manifest import load_manifest
    from kvformer.training.cost import measure
    from kvformer.training.run import choose_device

    if options.rounds < 2:
        raise ConfigError(f"--rounds: must be at least 2, not {options.rounds}")
    held = os.environ.get("KVFORMER_STUDY")
    source = options.config or (json.loads(held) if held else Path("config/config.yaml"))
    chosen: dict[tuple[str, str, str], RunConfig] = {}
    study = load_study(source)
    for run in _runs(study, options):
        chosen.setdefault((run.task, run.setting, run.variant), run)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, lineterminator="\n")
    writer.writeheader()
    for (task, setting), group in groupby(chosen.values(), key=lambda run: (run.task, run.setting)):
        runs = list(group)
        manifests = {name: load_manifest(options.data / name) for name in runs[0].datasets}
        try:
            shape = runs[0].definition.shape(runs[0].data, manifests)
        except ValueError as error:
            raise DataError(f"{task} (setting {setting}): {error}") from None
        print(f"{task} {setting}: {', '.join(run.variant for run in runs)}", flush=True)
        writer.writerows(measure(runs, shape, choose_device(options.device), options.rounds, study.baseline))
    write_text(options.out, buffer.getvalue())
    print(f"{len(chosen)} rows -> {options.out}")


def _runs(study: "StudyConfig", options: argparse.Namespace) -> "list[RunConfig]":
    """The runs of the task and setting that are asked for. Raises ConfigError where there is none."""
    from kvformer.errors import ConfigError

    runs = study.runs()
    for kind in ("task", "setting"):
        name, known = getattr(options, kind), dict.fromkeys(getattr(run, kind) for run in runs)
        if name is not None and name not in known:
            raise ConfigError(f"--{kind}: there is no {kind} '{name}' to measure; allowed: {', '.join(known)}")
        runs = [run for run in runs if name in (None, getattr(run, kind))]
    return runs
