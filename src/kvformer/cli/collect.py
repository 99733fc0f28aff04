"""Gather all runs of a study into runs.csv, curves.csv.gz and correct.csv.gz."""

from argparse import Namespace

from kvformer.cli.options import add_results, study_folder

add_arguments = add_results


def run(options: Namespace) -> None:
    """Write the files."""
    from kvformer.analysis.collect import collect

    collect(study_folder(options))
