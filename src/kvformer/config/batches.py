"""Which runs of a study one job trains one after the other (`execution.runs_per_job`)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kvformer.config.run import RunConfig

Member = tuple[str, int]
"""Variant and seed of a run."""


class Batch(NamedTuple):
    """These variants and seeds at any one setting of these tasks are the runs of one job."""

    tasks: tuple[str, ...]
    members: tuple[Member, ...]


def batches(runs: Sequence[RunConfig], size: int, looks: Sequence[int] = ()) -> Iterator[Batch]:
    """Share the runs out to jobs of at most `size` runs, of nearly equal length. The runs of a job have the setting in
    common, and so their data, threads and resources.

    looks: the numbers of seeds after which the study is looked at. A job has seeds of one look; after the first look it
        has one variant, because each of them can be decided by then.
    """
    members: dict[str, dict[Member, None]] = {}
    for run in runs:
        members.setdefault(run.task, {})[run.variant, run.seed] = None
    tasks: dict[tuple[Member, ...], list[str]] = {}
    for task, found in members.items():
        tasks.setdefault(tuple(found), []).append(task)
    for found_members, names in tasks.items():
        groups: dict[tuple[int, str], list[Member]] = {}
        for variant, seed in found_members:
            look = sum(seed >= seeds for seeds in looks[:-1])
            groups.setdefault((look, variant if look else ""), []).append((variant, seed))
        for group in groups.values():
            jobs = -(-len(group) // size)
            for number in range(jobs):
                share = group[number * len(group) // jobs : (number + 1) * len(group) // jobs]
                yield Batch(tuple(names), tuple(share))
