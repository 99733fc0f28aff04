"""Copy a study without its run folders, small enough to commit. The copy has the tables, the figures, the report and
the collected runs, which is enough for `kvformer verify` and `kvformer compare`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from kvformer.cli.options import add_results, study_folder

EXAMPLE = "kvformer export results/default results/reference/default"


def add_arguments(parser: ArgumentParser) -> None:
    """From where to where, and how much."""
    add_results(parser)
    parser.add_argument("out", type=Path, help="folder of the copy; an earlier export there is replaced")
    parser.add_argument(
        "--compact",
        action="store_true",
        help="no SVG, PDF and LaTeX, runs packed, pictures only in figures/",
    )


def run(options: Namespace) -> None:
    """Copy the files and print their number and size."""
    from kvformer.reporting.export import export

    paths = export(study_folder(options), options.out, options.compact)
    print(f"{len(paths)} files, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB -> {options.out}")
