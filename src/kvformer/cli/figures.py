"""Draw the figures of a study (PNG, SVG, PDF)."""

from argparse import ArgumentParser, Namespace

from kvformer.cli.options import add_results, study_folder


def add_arguments(parser: ArgumentParser) -> None:
    """Which study, and the number of processes."""
    add_results(parser)
    parser.add_argument("--processes", type=int, default=1, help="number of processes that draw (default 1)")


def run(options: Namespace) -> None:
    """Draw the figures and print how many files they are."""
    from kvformer.analysis.analyse import curves_of, results_of
    from kvformer.errors import ConfigError
    from kvformer.reporting.figures import write_figures

    if options.processes < 1:
        raise ConfigError(f"--processes: is {options.processes}; allowed: 1 or more")
    results = results_of(study_folder(options))
    paths = write_figures(results, curves_of(results), options.processes)
    print(f"{len(paths)} files -> {options.results / 'figures'}")
