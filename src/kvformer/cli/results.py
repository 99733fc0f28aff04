"""`kvformer collect | tables | figures | report | crate | export | compare | track | ui`: from run folders to what
people look at."""

import argparse
import os
from pathlib import Path

from kvformer.cli.options import Commands


def add_commands(commands: Commands) -> None:
    """Add the commands of this module."""
    for name, handler, text in (
        ("collect", collect, "gather all runs of a study into runs.csv and curves.csv.gz"),
        ("tables", tables, "write the tables (CSV, Markdown, LaTeX)"),
        ("figures", figures, "draw the figures (PNG, SVG, PDF)"),
        ("report", report, "write report.html, one self-contained page"),
        ("crate", crate, "describe the results as a Workflow Run RO-Crate"),
        ("track", track, "copy the runs to MLflow"),
    ):
        parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        parser.add_argument("results", type=Path, help="folder of the study, e.g. results/default")
        parser.set_defaults(handler=handler)
        if name == "figures":
            parser.add_argument("--processes", type=int, default=1, help="number of processes that draw (default 1)")
        if name == "crate":
            parser.add_argument(
                "--snakefile", type=Path, default=Path("Snakefile"), help="the workflow's entry (default Snakefile)"
            )
        if name == "track":
            parser.add_argument(
                "--uri", help="MLflow server or store (default MLFLOW_TRACKING_URI, else a local SQLite file)"
            )
    parser = commands.add_parser(
        "export",
        help="copy a study without its run folders, small enough to commit",
        description="Copy tables, figures, report and the collected runs of a study to another folder, without the run "
        "folders: small enough to commit, and enough for `kvformer verify` and `kvformer compare`.",
        epilog="example: kvformer export results/default results/reference/default",
    )
    parser.add_argument("results", type=Path, help="folder of the study, e.g. results/default")
    parser.add_argument("out", type=Path, help="folder of the copy; an earlier export there is replaced")
    parser.add_argument("--compact", action="store_true", help="without SVG, PDF and LaTeX")
    parser.set_defaults(handler=export)
    parser = commands.add_parser(
        "compare",
        help="compare two studies' results, pair by pair",
        description="Compare two studies, or two settings of them, at equal task, variant and seed.",
        epilog="example: kvformer compare results/oddities:published results/oddities:mended",
    )
    parser.add_argument("a", type=Path, help="folder of a study, e.g. results/before; FOLDER:SETTING for one setting")
    parser.add_argument("b", type=Path, help="the other side, in the same way")
    parser.add_argument("--out", type=Path, default=Path("results/compare"), help="folder of the tables")
    parser.set_defaults(handler=compare)
    parser = commands.add_parser(
        "ui", help="browse the runs in MLflow, live", description="Browse the runs in MLflow, live."
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of all results (default results)")
    parser.add_argument("--port", type=int, default=5000, help="port on 127.0.0.1 (default 5000)")
    parser.set_defaults(handler=ui)


def study_folder(options: argparse.Namespace) -> Path:
    """The folder of a study that a command was given. Raises ConfigError where it is not one."""
    from kvformer.errors import ConfigError

    results: Path = options.results
    if not (results / "study.json").is_file():
        raise ConfigError(
            f"{results}: is not the folder of a study: it has no study.json; run the workflow first (make run)"
        )
    return results


def collect(options: argparse.Namespace) -> None:
    """Write runs.csv and curves.csv.gz."""
    from kvformer.analysis.collect import collect as collect_runs

    collect_runs(study_folder(options))


def tables(options: argparse.Namespace) -> None:
    """Write the tables."""
    from kvformer.analysis.analyse import results_of
    from kvformer.reporting.tables import write_tables

    print(f"{len(write_tables(results_of(study_folder(options))))} files -> {options.results / 'tables'}")


def figures(options: argparse.Namespace) -> None:
    """Draw the figures."""
    from kvformer.analysis.analyse import curves_of, results_of
    from kvformer.errors import ConfigError
    from kvformer.reporting.figures import write_figures

    if options.processes < 1:
        raise ConfigError(f"--processes: is {options.processes}; allowed: 1 or more")
    results = results_of(study_folder(options))
    paths = write_figures(results, curves_of(results), options.processes)
    print(f"{len(paths)} files -> {options.results / 'figures'}")


def report(options: argparse.Namespace) -> None:
    """Write the report."""
    from kvformer.analysis.analyse import results_of
    from kvformer.reporting.page import write_report

    print(f"report -> {write_report(results_of(study_folder(options)))}")


def crate(options: argparse.Namespace) -> None:
    """Write ro-crate-metadata.json."""
    from kvformer.reporting.crate import write_crate

    print(f"crate -> {write_crate(study_folder(options), options.snakefile)}")


def export(options: argparse.Namespace) -> None:
    """Copy what is worth committing."""
    from kvformer.reporting.export import export as export_study

    paths = export_study(study_folder(options), options.out, options.compact)
    print(f"{len(paths)} files, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB -> {options.out}")


def compare(options: argparse.Namespace) -> None:
    """Print what differs between two studies and write the tables."""
    from kvformer.analysis.compare import compare as compare_studies
    from kvformer.reporting.compare import sentences, write_comparison

    found = compare_studies(options.a, options.b)
    print(*sentences(found), sep="\n")
    print(*(f"-> {path}" for path in write_comparison(found, options.out)), sep="\n")


def track(options: argparse.Namespace) -> None:
    """Ingest the study into MLflow."""
    from kvformer.tracking import track as track_runs

    print(track_runs([study_folder(options)], options.uri or os.environ.get("MLFLOW_TRACKING_URI")))


def ui(options: argparse.Namespace) -> None:
    """Serve MLflow on 127.0.0.1 and keep ingesting."""
    from kvformer.tracking import serve

    serve(options.results, options.port)
