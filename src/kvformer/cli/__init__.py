"""The command line: one module per command, named after it; `options` and `progress` serve several of them.

A command's module has `run(options)`, which returns the exit code or None for 0, and where it takes arguments
`add_arguments(parser)`. Its docstring is its help: the first sentence is shown by `kvformer --help`, all of it by
`kvformer COMMAND --help`, with `EXAMPLE` below the options. `run` imports what it needs when it is called, so that
every command starts fast.
"""

import time

STARTED = time.monotonic()

import argparse  # noqa: E402  (the clock starts before anything else is imported)
import atexit  # noqa: E402
import gc  # noqa: E402
import importlib  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

from kvformer.environment import settle  # noqa: E402
from kvformer.errors import INTERRUPTED, ConfigError, Interrupted, KvformerError  # noqa: E402
from kvformer.files import expand  # noqa: E402

COMMANDS = (
    "train", "train-many", "describe", "tasks", "variants", "explain", "plan", "prepare", "cost", "choose", "look",
    "collect", "analyse", "tables", "figures", "report", "plan-seeds", "crate", "track", "ui", "export", "compare",
    "verify", "schema",
)  # fmt: skip

# Imports create half a million objects that live until the process ends. Searching them for garbage, repeatedly during
# start-up and once more at the end, took a third of a short process's time.
gc.set_threshold(100_000)
atexit.register(gc.freeze)


def build_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the commands `names`."""
    parser = argparse.ArgumentParser(
        prog="kvformer",
        description="Compare attention variants: train runs, collect them, and look at the results. "
        "Snakemake runs a whole study (`make run`, or `snakemake --cores all`); these are its parts.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in names:
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        text = " ".join((module.__doc__ or name).split())  # `python -OO` has no docstrings
        first = text.partition(". ")[0].rstrip(".")
        example = f"example: {module.EXAMPLE}" if hasattr(module, "EXAMPLE") else None
        command = commands.add_parser(name, help=first[0].lower() + first[1:], description=text, epilog=example)
        if hasattr(module, "add_arguments"):
            module.add_arguments(command)
        command.set_defaults(handler=module.run)
    return parser


def _expand_paths(options: argparse.Namespace) -> None:
    """Replace `~` and environment variables in every path. Raises ConfigError where one is not set."""
    for name, path in vars(options).items():
        if isinstance(path, Path):
            try:
                setattr(options, name, Path(expand(str(path))))
            except ValueError as error:
                raise ConfigError(f"{name.replace('_', '-')}: {error}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 a check failed, 2 a problem that the user can fix, 75
    interrupted and resumable."""
    if arguments is None:  # a process of its own
        settle()
        arguments = sys.argv[1:]
    asked_for = [name for name in COMMANDS if name in arguments[:1]]
    options = build_parser(asked_for or COMMANDS).parse_args(arguments)
    try:
        _expand_paths(options)
        return options.handler(options) or 0
    except Interrupted as stop:
        print(f"kvformer: {stop}", file=sys.stderr)
        return INTERRUPTED
    except KvformerError as error:
        print(f"kvformer: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"kvformer: error: {place}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
