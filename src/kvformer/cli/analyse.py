"""Compute every number of a study's report. Writes them to results.json, and the averaged curves to curve_means.csv.gz;
tables, figures and the page only print what is there."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from kvformer.cli.options import add_results, study_folder


def add_arguments(parser: ArgumentParser) -> None:
    """Which study, and published numbers to compare it with."""
    add_results(parser)
    parser.add_argument(
        "--published",
        type=Path,
        metavar="FILE",
        help="published numbers to compare with (default: config/published.csv here, else that of the source tree)",
    )


def run(options: Namespace) -> None:
    """Write results.json and curve_means.csv.gz."""
    from kvformer.analysis.analyse import analyse
    from kvformer.analysis.curves import average_curves, write_curves
    from kvformer.analysis.frames import load_curves
    from kvformer.analysis.provenance import find_published

    curves = load_curves(folder := study_folder(options))
    results = analyse(folder, options.published or find_published(), curves)
    print(f"curves -> {write_curves(average_curves(results, curves), folder)}")
    print(f"results -> {results.write()}")
