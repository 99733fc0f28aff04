"""Write report.html, one self-contained page."""

from argparse import Namespace

from kvformer.cli.options import add_results, study_folder

add_arguments = add_results


def run(options: Namespace) -> None:
    """Write the page."""
    from kvformer.analysis.analyse import results_of
    from kvformer.reporting.page import write_report

    print(f"report -> {write_report(results_of(study_folder(options)))}")
