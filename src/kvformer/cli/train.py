"""Train one run. Its results are a folder of plain files; an interrupted run continues where it stopped."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from kvformer.cli.options import add_data, add_run, at_least, chosen_run, data_folders

if TYPE_CHECKING:
    import torch

    from kvformer.config.execution import Execution
    from kvformer.config.run import RunConfig
    from kvformer.records.run import Summary
    from kvformer.training.signals import StopSignals
    from kvformer.training.stepping import KeptStep

EXAMPLE = "kvformer train reverse kv --seed 0 --set model.dim=32 --out runs/reverse-kv"


def add_arguments(parser: ArgumentParser) -> None:
    """What to train, where the files go, and how it is executed."""
    add_run(parser, required=False)
    parser.add_argument("--run", metavar="JSON", help="a resolved run as one line of JSON, instead of task and variant")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--first-seed",
        type=Path,
        metavar="FOLDER",
        help="do not start if the run in this folder, the first seed, failed",
    )
    add_how(parser)


def add_how(parser: ArgumentParser) -> None:
    """How runs are executed, for all commands that train."""
    add_data(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: the configuration's, which is auto")
    parser.add_argument(
        "--compile", choices=("default", "reduce-overhead"), help="mode of torch.compile (default: none)"
    )
    parser.add_argument("--no-cuda-graphs", action="store_true", help="launch the kernels of a step one by one")
    parser.add_argument("--keep-weights", action="store_true", help="also write model.safetensors")
    parser.add_argument("--checkpoint-seconds", type=float, help="seconds between resume checkpoints (default 60)")
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="FOLDER",
        help="finished runs by content: a run that is there is not trained again",
    )
    parser.add_argument(
        "--no-reuse",
        action="store_true",
        help="train again, even if the run is in the archive (unless it came there since --study-started)",
    )
    parser.add_argument(
        "--attempts-left",
        type=int,
        default=1,
        metavar="N",
        help="with 0, a run that fails leaves empty files, so that nothing waits for it, and the exit code is 0",
    )
    parser.add_argument(
        "--study-started", default="", metavar="TIME", help="failures before this time (ISO 8601, UTC) do not count"
    )
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs asked for; says so if there are none")


def check_how(options: Namespace) -> None:
    """Raise ConfigError where a number of `add_how` is not allowed."""
    at_least(options, checkpoint_seconds=0, attempts_left=0, gpus=0)


def run(options: Namespace) -> int:
    """Train the run, or take it over from the archive, and print its summary."""
    check_how(options)
    if options.attempts_left == 0:
        from kvformer.training.attempts import give_up_what_fails

        return give_up_what_fails(lambda folders: sys.argv[1:], [options.out])
    config, execution = _run_of(options)
    print(start_of(config), flush=True)
    summary = taken_over(config, execution, options, options.out) or _trained(config, execution, options)
    print(f"{end_of(summary)} -> {options.out}")
    return 0


def start_of(config: "RunConfig") -> str:
    """What is trained, in one line."""
    name = config.path.removeprefix("runs/")
    return f"{name}: {config.definition.summary} (protocol {config.protocol}, configuration {config.hash})"


def end_of(summary: "Summary") -> str:
    """How a run ended, in one line."""
    metric = summary.primary.metric if summary.primary is not None else "none"
    value = f"{summary.metrics[metric]:.4f}" if metric in summary.metrics else "none"
    seconds = summary.seconds["total"]
    return f"{summary.status}: {metric} {value}, {summary.steps} steps in {seconds:.1f} s"


def taken_over(config: "RunConfig", execution: "Execution", options: Namespace, out: Path) -> "Summary | None":
    """The summary of the run, taken over from the archive into the folder `out`; None where it must be trained."""
    again = options.no_reuse or not execution.reuse
    if options.archive is None or (again and not options.study_started):
        return None

    from kvformer.training.archive import Archive, planned_identity, prepared_digests

    device = _kind_of_device(options.device or execution.device)
    compiler_mode = options.compile or execution.compile
    data = prepared_digests(data_folders(options, execution)[0], config.datasets)
    identity = planned_identity(config, data, device, compiler_mode)
    if identity is None:
        return None
    keep_weights, since = options.keep_weights or execution.keep_weights, options.study_started
    return Archive(options.archive).take_over(config, identity, out, keep_weights, since if again else "")


def _kind_of_device(name: str) -> str:
    """`cpu` or `cuda`, as training will choose. PyTorch, which takes seconds to load, is asked only if it decides."""
    from kvformer.config.gpus import has_gpu, kind_of_device

    if name != "auto" or not has_gpu():
        return kind_of_device(name, gpu=False)

    from kvformer.training.gpus import choose_device

    return choose_device(name).type


def _trained(config: "RunConfig", execution: "Execution", options: Namespace) -> "Summary":
    from kvformer.cli import STARTED

    if options.first_seed is not None:
        from kvformer.training.canary import stop_if_first_seed_failed

        stop_if_first_seed_failed(config, options.first_seed, options.out, options.study_started)
    return trained(config, execution, options, options.out, STARTED)


def trained(
    config: "RunConfig",
    execution: "Execution",
    options: Namespace,
    out: Path,
    started: float,
    device: "torch.device | None" = None,
    stop: "StopSignals | None" = None,
    kept: "KeptStep | None" = None,
) -> "Summary":
    """Train the run in the folder `out` and keep it in the archive. device, stop, kept: where several runs share
    them."""
    from kvformer.cli.progress import progress_reporter
    from kvformer.training.archive import Archive
    from kvformer.training.run import train_run

    seconds = options.checkpoint_seconds
    with progress_reporter(sys.stderr) as report:
        summary = train_run(
            config,
            out,
            data_folders(options, execution)[0],
            device=device or options.device or execution.device,
            report=report,
            keep_weights=options.keep_weights or execution.keep_weights,
            checkpoint_seconds=execution.checkpoint_seconds if seconds is None else seconds,
            compiler_mode=options.compile or execution.compile,
            started=started,
            gpus=options.gpus,
            stop=stop,
            graphs=execution.cuda_graphs and not options.no_cuda_graphs,
            kept=kept,
        )
    if options.archive is not None:
        try:
            Archive(options.archive).keep(out)
        except OSError as error:
            print(f"{options.archive}: the finished run could not be archived ({error})", flush=True)
    return summary


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
