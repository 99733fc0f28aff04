"""`kvformer train`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kvformer.cli.options import Commands, add_data_options, add_run_options, data_folders

if TYPE_CHECKING:
    from kvformer.config.run import RunConfig


def add_commands(commands: Commands) -> None:
    """Add `train`."""
    parser = commands.add_parser(
        "train",
        help="train one run",
        description="Train one run into a folder of plain files. An interrupted run goes on where it stopped.",
        epilog="example: kvformer train reverse kv --seed 0 --set model.dim=32 --out runs/reverse-kv",
    )
    add_run_options(parser, required=False)
    parser.add_argument("--run", metavar="JSON", help="a resolved run as one line of JSON, instead of task and variant")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    add_data_options(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: the configuration's, which is auto")
    parser.add_argument(
        "--compile", choices=("default", "reduce-overhead"), help="mode of torch.compile (default: none)"
    )
    parser.add_argument("--keep-weights", action="store_true", help="also write model.safetensors")
    parser.add_argument("--checkpoint-seconds", type=float, help="seconds between resume checkpoints (default 60)")
    parser.set_defaults(handler=train)


def train(options: argparse.Namespace) -> int:
    """Train one run and print its summary."""
    from kvformer.cli import STARTED
    from kvformer.config.execution import Execution
    from kvformer.config.run import RunConfig
    from kvformer.errors import ConfigError

    execution = Execution()
    if options.run is not None:
        run = RunConfig.from_json(options.run)
    elif options.task and options.variant:
        from kvformer.config.loading import single_run

        run, study = single_run(
            options.task, options.variant, options.seed, options.config, options.overrides, options.setting
        )
        execution = study.execution
        _prepare(run, *data_folders(options, execution))
    else:
        raise ConfigError("give a task and a variant, or --run; e.g. kvformer train reverse kv --out runs/reverse-kv")

    from kvformer.cli.progress import progress_reporter
    from kvformer.training.run import train_run

    name = f"{run.task}/{run.setting}/{run.variant}/seed{run.seed}"
    print(f"{name}: {run.definition.summary} (protocol {run.protocol}, configuration {run.hash})", flush=True)
    seconds = options.checkpoint_seconds if options.checkpoint_seconds is not None else execution.checkpoint_seconds
    with progress_reporter(sys.stderr) as report:
        summary = train_run(
            run,
            options.out,
            data_folders(options, execution)[0],
            device=options.device or execution.device,
            report=report,
            keep_weights=options.keep_weights or execution.keep_weights,
            checkpoint_seconds=seconds,
            compiler_mode=options.compile or execution.compile,
            started=STARTED,
        )
    metric = summary.primary.metric if summary.primary is not None else "none"
    value = f"{summary.metrics[metric]:.4f}" if metric in summary.metrics else "none"
    seconds = summary.seconds["total"]
    print(f"{summary.status}: {metric} {value}, {summary.steps} steps in {seconds:.1f} s -> {options.out}")
    return 0


def _prepare(run: "RunConfig", prepared: Path, user_folder: Path) -> None:
    """Prepare the data sets that a run needs, for a run started by hand."""
    if run.datasets:
        from kvformer.data.prepare import prepare

        for dataset in run.datasets:
            prepare(dataset, prepared / dataset, user_folder)
