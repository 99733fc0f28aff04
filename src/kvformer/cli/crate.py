"""Describe the results of a study as a Workflow Run RO-Crate."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from kvformer.cli.options import add_results, study_folder


def add_arguments(parser: ArgumentParser) -> None:
    """Which study, and the workflow that made it."""
    add_results(parser)
    parser.add_argument(
        "--snakefile", type=Path, default=Path("Snakefile"), help="the workflow's entry (default Snakefile)"
    )


def run(options: Namespace) -> None:
    """Write ro-crate-metadata.json."""
    from kvformer.reporting.crate import write_crate

    print(f"crate -> {write_crate(study_folder(options), options.snakefile)}")
