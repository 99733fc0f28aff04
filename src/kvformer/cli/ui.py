"""Browse the runs in MLflow, live. Runs that are being trained appear while it is open."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    """Which results, and the port."""
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of all results (default results)")
    parser.add_argument("--port", type=int, default=5000, help="port on 127.0.0.1 (default 5000)")


def run(options: Namespace) -> None:
    """Serve MLflow on 127.0.0.1 and copy new results to it until interrupted."""
    from kvformer.tracking import serve

    serve(options.results, options.port)
