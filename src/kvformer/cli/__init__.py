"""The command line. Handlers import what they need when they are called, so that every command starts fast."""

import time

STARTED = time.monotonic()

import argparse  # noqa: E402  (the clock starts before anything else is imported)
import atexit  # noqa: E402
import gc  # noqa: E402
import importlib  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402

from kvformer.errors import Interrupted, KvformerError  # noqa: E402

INTERRUPTED = 75
"""Exit code of a training that saved its state and can be started again (EX_TEMPFAIL of sysexits.h)."""
COMMANDS = ("training", "inspection", "datasets", "efficiency", "results", "analyse", "verification", "schema")

# Imports make half a million objects that live to the end. Looking through them for garbage, again and again while they
# are made and once more when the process ends, took a third of the time that a process needs to start and end.
gc.set_threshold(100_000)
atexit.register(gc.freeze)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; every module in `COMMANDS` adds its own."""
    parser = argparse.ArgumentParser(
        prog="kvformer",
        description="Compare attention variants: train runs, collect them, and look at the results. "
        "A whole study is run by Snakemake (`make run`, or `snakemake --cores all`); these are its parts.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        importlib.import_module(f"kvformer.cli.{module}").add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 2 a mistake that the user can mend, 75 interrupted and
    resumable."""
    options = build_parser().parse_args(arguments)
    try:
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
