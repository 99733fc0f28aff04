"""Copy the runs of a study to MLflow. What is there already is not copied again."""

import os
from argparse import ArgumentParser, Namespace

from kvformer.cli.options import add_results, study_folder


def add_arguments(parser: ArgumentParser) -> None:
    """Which study, and MLflow's address."""
    add_results(parser)
    parser.add_argument("--uri", help="MLflow server or store (default MLFLOW_TRACKING_URI, else a local SQLite file)")


def run(options: Namespace) -> None:
    """Copy the runs and print what was copied."""
    from kvformer.tracking import track

    print(track([study_folder(options)], options.uri or os.environ.get("MLFLOW_TRACKING_URI")))
