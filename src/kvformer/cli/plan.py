"""Validate a study and list its runs. Each run is printed with the hash of its configuration; at the end, the data sets
that the study needs, and how many of its runs are finished in another study and will be taken over."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

EXAMPLE = "kvformer plan config/config.yaml"


def add_arguments(parser: ArgumentParser) -> None:
    """Which study."""
    parser.add_argument("config", type=Path, help="study file, e.g. config/config.yaml")


def run(options: Namespace) -> None:
    """Print one line per run."""
    from kvformer.config.gpus import has_gpu, unmet_wishes
    from kvformer.config.loading import load_study
    from kvformer.config.looks import describe_looks
    from kvformer.records.study import looks_taken
    from kvformer.training.archive import count_archived

    study = load_study(options.config)
    runs = study.runs()
    for config in runs:
        print(config.path, config.hash)
    if study.looks:
        manifest = study.manifest()
        results = Path(study.execution.results_folder, study.name)
        print(describe_looks(manifest, looks_taken(results, manifest)))
    print(f"{len(runs)} runs; data sets: {', '.join(study.datasets()) or 'none'}")
    gpu = has_gpu()
    if archived := count_archived(study, runs, gpu):
        print(f"{archived} of {len(runs)} runs are taken over from {study.execution.archive}")
    for wish in unmet_wishes(study, gpu):
        print(f"warning: {wish}", file=sys.stderr)
