"""`kvformer schema` and `kvformer plan`: the configuration's generated files, and the runs of a study."""

import argparse
from pathlib import Path

from kvformer.cli.options import Commands


def add_commands(commands: Commands) -> None:
    """Add `schema` and `plan`."""
    parser = commands.add_parser(
        "schema",
        help="write or check the generated schema and configuration table",
        description="Write the files that are generated from the configuration, or check that they are up to date.",
    )
    parser.add_argument(
        "--write", action="store_true", help="write the files (default: check that they are up to date)"
    )
    parser.add_argument("--root", type=Path, default=Path(), help="the project's folder")
    parser.set_defaults(handler=schema)
    parser = commands.add_parser("plan", help="validate a study and list its runs")
    parser.add_argument("config", type=Path, help="study file, e.g. config/config.yaml")
    parser.set_defaults(handler=plan)


def schema(options: argparse.Namespace) -> int:
    """Write, or compare and name, the generated files."""
    from kvformer.config.documentation import generated_files
    from kvformer.files import write_text

    stale = []
    for path, content in generated_files(options.root).items():
        if options.write:
            write_text(path, content)
        elif not path.is_file() or path.read_text(encoding="utf-8") != content:
            stale.append(path)
    for path in stale:
        print(f"{path}: is not up to date; run: kvformer schema --write")
    return 1 if stale else 0


def plan(options: argparse.Namespace) -> None:
    """Print the runs of a study, a line each."""
    from kvformer.config.loading import load_study

    study = load_study(options.config)
    runs = study.runs()
    for run in runs:
        print(run.path, run.hash)
    print(f"{len(runs)} runs; data sets: {', '.join(study.datasets()) or 'none'}")
