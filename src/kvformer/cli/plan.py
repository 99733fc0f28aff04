"""Validate a study and list its runs. Each run is printed with the hash of its configuration, or with the word `tuned`
where tuning chooses it first; at the end, the data sets that the study needs, and how many of its runs are finished in
another study and will be taken over."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

EXAMPLE = "kvformer plan config/config.yaml"


def add_arguments(parser: ArgumentParser) -> None:
    """Which study."""
    parser.add_argument("config", type=Path, help="study file, e.g. config/config.yaml")
    parser.add_argument(
        "--json", action="store_true", help="print the study as its study.json instead, e.g. for `kvformer train-many`"
    )


def run(options: Namespace) -> None:
    """Print one line per run."""
    from kvformer.config.gpus import has_gpu, unmet_wishes
    from kvformer.config.loading import load_study
    from kvformer.config.looks import describe_looks
    from kvformer.config.tuning import describe_tuning, tuning_of, tuning_runs
    from kvformer.errors import ConfigError
    from kvformer.records.study import looks_taken
    from kvformer.records.tuning import FOLDER
    from kvformer.training.archive import count_archived

    study = load_study(options.config)
    runs, before, manifest = study.runs(), tuning_runs(study), study.manifest()
    if options.json:
        if before:
            raise ConfigError(
                "--json: what is trained is known once values are tuned; Snakemake writes study.json then"
            )
        print(manifest.model_dump_json())
        return
    for config in before:
        print(f"{FOLDER}/{config.path}", config.hash)
    for config in runs:
        print(config.path, "tuned" if tuning_of(study, config.task) else config.hash)
    if before:
        print(describe_tuning(study))
    if study.looks:
        results = Path(study.execution.results_folder, study.name)
        print(describe_looks(manifest, looks_taken(results, manifest)))
    print(f"{len(runs)} runs; data sets: {', '.join(study.datasets()) or 'none'}")
    gpu = has_gpu()
    known = {f"{FOLDER}/{config.path}": config for config in before}
    known |= {config.path: config for config in runs if not tuning_of(study, config.task)}
    if archived := count_archived(study, known, gpu):
        print(f"{archived} of {len(known)} runs are taken over from {study.execution.archive}")
    for wish in unmet_wishes(study, gpu):
        print(f"warning: {wish}", file=sys.stderr)
