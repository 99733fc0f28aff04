"""Decide which comparisons of a study get more seeds. For studies with `seeds: {looks: …}`, where the workflow calls it
at each look. Without LOOK it says where the study stands; the exit code is 1 where a run failed or is missing."""

from argparse import ArgumentParser, Namespace

from kvformer.cli.options import add_results, study_folder

EXAMPLE = "kvformer look results/adaptive 1"


def add_arguments(parser: ArgumentParser) -> None:
    """Which study, and which look."""
    add_results(parser)
    parser.add_argument("look", type=int, nargs="?", metavar="LOOK", help="the number of the look, from 1")


def run(options: Namespace) -> int:
    """Take a look, or print the state of all of them."""
    from kvformer.analysis.looks import failed_runs, take_look
    from kvformer.config.looks import describe_looks
    from kvformer.records.study import looks_taken, read_plan

    results = study_folder(options)
    if options.look is not None:
        record = take_look(results, options.look)
        names = ", ".join(f"{comparison.variant} on {comparison.task}" for comparison in record.open)
        print(f"look {record.look}, {record.seeds} seeds; open comparisons: {names or 'none'}")
        return 0
    plan = read_plan(results)
    print(describe_looks(plan, looks_taken(results, plan)) if plan.looks else f"{len(plan.runs)} runs; seeds are fixed")
    failed = failed_runs(results)
    for line in failed:
        print(line)
    return 1 if failed else 0
