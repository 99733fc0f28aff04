"""`kvformer verify`: train a sample of a study's runs again and compare."""

import argparse
from pathlib import Path

from kvformer.cli.options import Commands, add_data_options, data_folders

MISMATCH = 1
"""Exit code where a run was not reproduced."""


def add_commands(commands: Commands) -> None:
    """Add `verify`."""
    parser = commands.add_parser(
        "verify",
        help="train a sample of a study's runs again and compare",
        description="Train a random sample of a study's runs again and compare them with its runs.csv and "
        "curves.csv.gz: equal to the last bit on the same platform, otherwise within a tolerance. The exit code is 1 "
        "if a run differs.",
        epilog="example: kvformer verify results/reference/default --sample 5",
    )
    parser.add_argument("results", type=Path, help="folder of the study, e.g. results/reference/default")
    parser.add_argument("--sample", type=int, default=5, metavar="N", help="runs to train (default 5)")
    parser.add_argument("--seed", type=int, help="seed of the sample (default: a new one, which is printed)")
    parser.add_argument("--task", action="append", metavar="TASK", help="only runs of this task; may be repeated")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the device of the original")
    add_data_options(parser)
    parser.set_defaults(handler=verify)


def verify(options: argparse.Namespace) -> int:
    """Print a verdict for each run of the sample; returns the exit code."""
    from secrets import randbelow

    from kvformer.analysis.verification import Reference
    from kvformer.config.execution import Execution
    from kvformer.errors import ConfigError

    if options.sample < 1:
        raise ConfigError(f"--sample: must be at least 1, not {options.sample}")
    if options.seed is not None and options.seed < 0:
        raise ConfigError(f"--seed: must be at least 0, not {options.seed}")
    reference = Reference(options.results)
    seed = randbelow(10**6) if options.seed is None else options.seed
    runs = reference.sample(options.sample, seed, options.task or [])
    print(f"{len(runs)} of {len(reference.study.runs)} runs of study '{reference.study.name}' (sample --seed {seed})")
    good = 0
    for run in runs:
        verdict = reference.verify(run, *data_folders(options, Execution()), options.device)
        print(verdict, flush=True)
        good += verdict.good
    print(f"{good} of {len(runs)} runs reproduced")
    return 0 if good == len(runs) else MISMATCH
