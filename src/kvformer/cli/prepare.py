"""Fetch a data set, verify it, and prepare it for training."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EXAMPLE = "kvformer prepare mnist"


def add_arguments(parser: ArgumentParser) -> None:
    """Which data set, and the folders to read and to write."""
    parser.add_argument("dataset", help="data set, e.g. mnist")
    parser.add_argument(
        "--out", type=Path, default=Path("results/data"), help="folder of prepared data (default results/data)"
    )
    parser.add_argument(
        "--user-folder", type=Path, default=Path("data"), help="folder of your own data files (default data)"
    )


def run(options: Namespace) -> None:
    """Prepare the data set and print where it came from."""
    from kvformer.data.prepare import prepare

    manifest = prepare(options.dataset, options.out / options.dataset, options.user_folder)
    print(f"{manifest.label} from {manifest.source} -> {manifest.folder}")
