"""Draw the figures of a study (PNG, SVG, PDF)."""

from argparse import ArgumentParser, Namespace

from kvformer.cli.options import add_results, at_least, study_folder


def add_arguments(parser: ArgumentParser) -> None:
    """Which study, and the number of processes."""
    add_results(parser)
    parser.add_argument("--processes", type=int, default=1, help="number of processes that draw (default 1)")


def run(options: Namespace) -> None:
    """Draw the figures and print how many files they are."""
    from kvformer.analysis.analyse import curves_of, results_of
    from kvformer.reporting.figures import write_figures

    at_least(options, processes=1)
    results = results_of(study_folder(options))
    paths = write_figures(results, curves_of(results), options.processes)
    print(f"{len(paths)} files -> {options.results / 'figures'}")
