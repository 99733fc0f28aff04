"""Train a sample of a study's runs again and compare. The results of a random sample are compared with the study's
runs.csv and curves.csv.gz: equal to the last bit on the same platform, within a tolerance elsewhere. The exit code is 1
where a run differs."""

from argparse import ArgumentParser, Namespace

from kvformer.cli.options import add_data, add_results, at_least, data_folders

EXAMPLE = "kvformer verify results/reference/default --sample 5"


def add_arguments(parser: ArgumentParser) -> None:
    """Which study, which sample of it, and how it is trained."""
    add_results(parser)
    parser.add_argument("--sample", type=int, default=5, metavar="N", help="number of runs to train (default 5)")
    parser.add_argument("--seed", type=int, help="seed of the sample (default: a new one, which is printed)")
    parser.add_argument("--task", action="append", metavar="TASK", help="only runs of this task; may be repeated")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the device of the original")
    add_data(parser)


def run(options: Namespace) -> int:
    """Print a verdict for each run of the sample."""
    from secrets import randbelow

    from kvformer.analysis.verification import Reference
    from kvformer.config.execution import Execution

    at_least(options, sample=1, seed=0)
    reference = Reference(options.results)
    seed = randbelow(10**6) if options.seed is None else options.seed
    runs = reference.sample(options.sample, seed, options.task or [])
    print(f"{len(runs)} of {len(reference.study.runs)} runs of study '{reference.study.name}' (sample --seed {seed})")
    good = 0
    for entry in runs:
        verdict = reference.verify(entry, *data_folders(options, Execution()), options.device)
        print(verdict, flush=True)
        good += verdict.good
    print(f"{good} of {len(runs)} runs reproduced")
    return 0 if good == len(runs) else 1
