"""Options that several commands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvformer.config.execution import Execution

Commands = Any
"""argparse's collection of sub-parsers, whose class is private."""


def add_run_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """The options that choose one run: task, variant, seed, base configuration and changes to it."""
    parser.add_argument(
        "task", nargs=None if required else "?", help="task, e.g. reverse (`kvformer tasks` lists them)"
    )
    parser.add_argument(
        "variant", nargs=None if required else "?", help="variant, e.g. kv (`kvformer variants` lists them)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="study to start from (default: the published settings)"
    )
    parser.add_argument("--setting", help="which setting, where the study has several of this task")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change any key of the configuration, e.g. model.dim=32 or training.steps=100; may be repeated",
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Where prepared data are, and where the user's own files may lie."""
    parser.add_argument(
        "--data", type=Path, help="folder of prepared data (default: the configuration's, which is results/data)"
    )
    parser.add_argument(
        "--user-folder", type=Path, help="folder of your own data files (default: the configuration's, which is data)"
    )


def data_folders(options: argparse.Namespace, execution: "Execution") -> tuple[Path, Path]:
    """The folder of prepared data and that of the user's own files: as the command line says, or the configuration."""
    return (
        options.data or Path(execution.results_folder, "data"),
        options.user_folder or Path(execution.data_folder),
    )
