"""Validate a study and list its runs. Each run is printed with the hash of its configuration, and at the end the data
sets that the study needs."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EXAMPLE = "kvformer plan config/config.yaml"


def add_arguments(parser: ArgumentParser) -> None:
    """Which study."""
    parser.add_argument("config", type=Path, help="study file, e.g. config/config.yaml")


def run(options: Namespace) -> None:
    """Print one line per run."""
    from kvformer.config.loading import load_study

    study = load_study(options.config)
    runs = study.runs()
    for config in runs:
        print(config.path, config.hash)
    print(f"{len(runs)} runs; data sets: {', '.join(study.datasets()) or 'none'}")
