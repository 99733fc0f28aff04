"""`kvformer profile`: what the variants of a study cost."""

import argparse
import csv
import io
import json
import os
from pathlib import Path

from kvformer.cli.options import Commands

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
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default 7)")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.set_defaults(handler=profile)


def profile(options: argparse.Namespace) -> None:
    """Measure each setting and write one table."""
    from itertools import groupby

    from kvformer.config import RunConfig
    from kvformer.data.manifest import load_manifest
    from kvformer.efficiency import measure
    from kvformer.files import write_text
    from kvformer.loading import load_study
    from kvformer.training.run import choose_device

    held = os.environ.get("KVFORMER_STUDY")
    source = options.config or (json.loads(held) if held else Path("config/config.yaml"))
    chosen: dict[tuple[str, str, str], RunConfig] = {}
    study = load_study(source)
    for run in study.runs():
        if options.task in (None, run.task) and options.setting in (None, run.setting):
            chosen.setdefault((run.task, run.setting, run.variant), run)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, lineterminator="\n")
    writer.writeheader()
    for (task, setting), group in groupby(chosen.values(), key=lambda run: (run.task, run.setting)):
        runs = list(group)
        manifests = {name: load_manifest(options.data / name) for name in runs[0].datasets}
        shape = runs[0].definition.shape(runs[0].data, manifests)
        print(f"{task} {setting}: {', '.join(run.variant for run in runs)}", flush=True)
        writer.writerows(measure(runs, shape, choose_device(options.device), options.rounds, study.baseline))
    write_text(options.out, buffer.getvalue())
    print(f"{len(chosen)} rows -> {options.out}")
