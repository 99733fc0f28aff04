"""`kvformer analyse`: compute every number of a study's report, once."""

import argparse
from pathlib import Path

from kvformer.cli.options import Commands


def add_commands(commands: Commands) -> None:
    """Add `analyse`."""
    parser = commands.add_parser(
        "analyse",
        help="compute every number of the report",
        description="Compute every number of the report from the collected runs and write them to results.json, and "
        "the averaged curves to curve_means.csv.gz. Tables, figures and the report print what is there.",
    )
    parser.add_argument("results", type=Path, help="folder of the study, e.g. results/default")
    parser.add_argument(
        "--published",
        type=Path,
        metavar="FILE",
        help="published numbers to compare with (default: config/published.csv here, else that of the source tree)",
    )
    parser.set_defaults(handler=analyse)


def analyse(options: argparse.Namespace) -> None:
    """Write results.json and curve_means.csv.gz."""
    from kvformer.analysis.analyse import analyse as analyse_study
    from kvformer.analysis.curves import average_curves, write_curves
    from kvformer.analysis.provenance import find_published
    from kvformer.cli.results import study_folder

    results = analyse_study(study_folder(options), options.published or find_published())
    curves = average_curves(results)
    print(f"curves -> {write_curves(curves, results.folder)}")
    print(f"results -> {results.write()}")
