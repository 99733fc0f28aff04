"""Arguments that several commands share."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvformer.config.execution import Execution
    from kvformer.config.run import RunConfig
    from kvformer.config.study import StudyConfig


def at_least(options: Namespace, **least: int) -> None:
    """Raise ConfigError where one of these options is given and is below its least value, or not a number."""
    from kvformer.errors import ConfigError

    for name, smallest in least.items():
        value = getattr(options, name)
        if value is not None and not value >= smallest:
            raise ConfigError(f"--{name.replace('_', '-')}: must be at least {smallest}, not {value}")


def add_run(parser: ArgumentParser, required: bool = True) -> None:
    """The arguments that choose one run: task, variant, seed, a study to start from, and changes to it."""
    nargs = None if required else "?"
    parser.add_argument("task", nargs=nargs, help="task, e.g. reverse (`kvformer tasks` lists them)")
    parser.add_argument("variant", nargs=nargs, help="variant, e.g. kv (`kvformer variants` lists them)")
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


def chosen_run(options: Namespace) -> "tuple[RunConfig, StudyConfig]":
    """The run that `add_run`'s arguments choose, and the study that it belongs to."""
    from kvformer.config.loading import single_run

    at_least(options, seed=0)
    return single_run(options.task, options.variant, options.seed, options.config, options.overrides, options.setting)


def add_data(parser: ArgumentParser) -> None:
    """Where prepared data are, and where the user's own files may be."""
    parser.add_argument(
        "--data", type=Path, help="folder of prepared data (default: the configuration's, which is results/data)"
    )
    parser.add_argument(
        "--user-folder", type=Path, help="folder of your own data files (default: the configuration's, which is data)"
    )


def data_folders(options: Namespace, execution: "Execution") -> tuple[Path, Path]:
    """The folders of prepared data and of the user's own files: from the command line, else from the configuration."""
    return options.data or execution.prepared, options.user_folder or Path(execution.data_folder)


def add_results(parser: ArgumentParser) -> None:
    """The folder of a study."""
    parser.add_argument("results", type=Path, help="folder of the study, e.g. results/default")


def study_folder(options: Namespace) -> Path:
    """The folder that `add_results`'s argument names. Raises ConfigError where it is not the folder of a study."""
    from kvformer.errors import ConfigError
    from kvformer.records.study import study_file

    results: Path = options.results
    if not study_file(results).is_file():
        raise ConfigError(
            f"{results}: is not the folder of a study: it has no study.json; run the workflow first (make run)"
        )
    return results
