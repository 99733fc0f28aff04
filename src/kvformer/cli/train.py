"""Train one run. Its results are a folder of plain files; an interrupted run continues where it stopped."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from kvformer.cli.options import add_data, add_run, chosen_run, data_folders

if TYPE_CHECKING:
    from kvformer.config.execution import Execution
    from kvformer.config.run import RunConfig

EXAMPLE = "kvformer train reverse kv --seed 0 --set model.dim=32 --out runs/reverse-kv"


def add_arguments(parser: ArgumentParser) -> None:
    """What to train, where the files go, and how it is executed."""
    add_run(parser, required=False)
    parser.add_argument("--run", metavar="JSON", help="a resolved run as one line of JSON, instead of task and variant")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    add_data(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: the configuration's, which is auto")
    parser.add_argument(
        "--compile", choices=("default", "reduce-overhead"), help="mode of torch.compile (default: none)"
    )
    parser.add_argument("--keep-weights", action="store_true", help="also write model.safetensors")
    parser.add_argument("--checkpoint-seconds", type=float, help="seconds between resume checkpoints (default 60)")


def run(options: Namespace) -> None:
    """Train the run and print its summary."""
    from kvformer.cli import STARTED

    config, execution = _run_of(options)

    from kvformer.cli.progress import progress_reporter
    from kvformer.training.run import train_run

    name = config.path.removeprefix("runs/")
    print(f"{name}: {config.definition.summary} (protocol {config.protocol}, configuration {config.hash})", flush=True)
    seconds = options.checkpoint_seconds
    with progress_reporter(sys.stderr) as report:
        summary = train_run(
            config,
            options.out,
            data_folders(options, execution)[0],
            device=options.device or execution.device,
            report=report,
            keep_weights=options.keep_weights or execution.keep_weights,
            checkpoint_seconds=execution.checkpoint_seconds if seconds is None else seconds,
            compiler_mode=options.compile or execution.compile,
            started=STARTED,
        )
    metric = summary.primary.metric if summary.primary is not None else "none"
    value = f"{summary.metrics[metric]:.4f}" if metric in summary.metrics else "none"
    seconds = summary.seconds["total"]
    print(f"{summary.status}: {metric} {value}, {summary.steps} steps in {seconds:.1f} s -> {options.out}")


def _run_of(options: Namespace) -> "tuple[RunConfig, Execution]":
    """The run and how it is executed. For a run that is given by its task and variant, data are prepared as well."""
    from kvformer.config.execution import Execution
    from kvformer.config.run import RunConfig
    from kvformer.errors import ConfigError

    if options.run is not None:
        return RunConfig.from_json(options.run), Execution()
    if not options.task or not options.variant:
        raise ConfigError("give a task and a variant, or --run; e.g. kvformer train reverse kv --out runs/reverse-kv")
    config, study = chosen_run(options)
    if config.datasets:
        from kvformer.data.prepare import prepare

        prepared, user_folder = data_folders(options, study.execution)
        for dataset in config.datasets:
            prepare(dataset, prepared / dataset, user_folder)
    return config, study.execution
