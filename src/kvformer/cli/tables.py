"""Write the tables of a study (CSV, Markdown, LaTeX)."""

from argparse import Namespace

from kvformer.cli.options import add_results, study_folder

add_arguments = add_results


def run(options: Namespace) -> None:
    """Write the tables and print how many files they are."""
    from kvformer.analysis.analyse import results_of
    from kvformer.reporting.tables import write_tables

    print(f"{len(write_tables(results_of(study_folder(options))))} files -> {options.results / 'tables'}")
