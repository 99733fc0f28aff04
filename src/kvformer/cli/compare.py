"""Compare two studies, pair by pair. Runs, or those of one setting of each study, are paired by task, variant and
seed."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EXAMPLE = "kvformer compare results/oddities:mended results/oddities:published"


def add_arguments(parser: ArgumentParser) -> None:
    """The two sides, and the folder of the tables."""
    parser.add_argument("a", type=Path, help="folder of a study, e.g. results/before; FOLDER:SETTING for one setting")
    parser.add_argument("b", type=Path, help="the other side, in the same way; differences are b minus a")
    parser.add_argument("--out", type=Path, default=Path("results/compare"), help="folder of the tables")


def run(options: Namespace) -> None:
    """Print what differs and write the tables."""
    from kvformer.analysis.compare import compare
    from kvformer.reporting.compare import sentences, write_comparison

    found = compare(options.a, options.b)
    print(*sentences(found), sep="\n")
    print(*(f"-> {path}" for path in write_comparison(found, options.out)), sep="\n")
