"""`kvformer prepare`."""

import argparse
from pathlib import Path

from kvformer.cli.options import Commands


def add_commands(commands: Commands) -> None:
    """Add `prepare`."""
    parser = commands.add_parser("prepare", help="fetch a data set, verify it, and prepare it for training")
    parser.add_argument("dataset", help="data set, e.g. mnist")
    parser.add_argument(
        "--out", type=Path, default=Path("results/data"), help="folder of prepared data (default results/data)"
    )
    parser.add_argument(
        "--user-folder", type=Path, default=Path("data"), help="folder of your own data files (default data)"
    )
    parser.set_defaults(handler=prepare)


def prepare(options: argparse.Namespace) -> None:
    """Prepare one data set and print where it came from."""
    from kvformer.data.prepare import prepare as prepare_dataset

    manifest = prepare_dataset(options.dataset, options.out / options.dataset, options.user_folder)
    print(f"{manifest.label} from {manifest.source} -> {manifest.folder}")
