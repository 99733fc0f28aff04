"""Write or check the schema and the configuration tables. Both are generated from the configuration's classes."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    """Whether to write, and where."""
    parser.add_argument(
        "--write", action="store_true", help="write the files (default: check that they are up to date)"
    )
    parser.add_argument("--root", type=Path, default=Path(), help="the project's folder")


def run(options: Namespace) -> int:
    """Write the files, or name those that are not up to date; returns 1 where there is one."""
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
