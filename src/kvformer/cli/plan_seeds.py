"""Print what more seeds would decide. For each comparison that is still open: the chance that it is decided with more
seeds, and the hours of one core that they cost, cheapest first."""

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvformer.cli.options import add_results, study_folder

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE = "kvformer plan-seeds results/default"
add_arguments = add_results


def run(options: Namespace) -> None:
    """Print the table `planning` of a study's results."""
    from kvformer.analysis.analyse import results_of

    print("\n".join(_lines(results_of(study_folder(options)).planning)))


def _lines(planning: "pd.DataFrame") -> Iterator[str]:
    if planning.empty:
        yield "no comparison is open; more seeds would decide nothing"
        return
    open_ones = planning[["task", "variant"]].drop_duplicates()
    yield f"{len(open_ones)} open comparisons; chance of being decided, and hours of one core with the baseline's"
    for plan, rows in planning.groupby("plan", sort=False):
        yield ""
        if plan == "new study":
            yield "new study of the open comparisons, with seeds that were not used so far (used ones are used up):"
        else:
            yield "further looks of this study:"
        yield from _table(rows)
        yield _total(rows)
    hopeless = planning[planning["hopeless"]][["task", "variant"]].drop_duplicates()
    if len(hopeless):
        names = ", ".join(f"{task} {variant}" for task, variant in hopeless.to_numpy())
        yield ""
        yield f"hopeless (more likely to stay open than not, even with the most seeds): {names}"
    if planning["chance"].isna().any():
        yield "a chance is unknown (?) with fewer than 3 pairs"


def _table(rows: "pd.DataFrame") -> Iterator[str]:
    """One line per comparison: task, variant, pairs so far, and chance and hours for each number of seeds."""
    names = {name: max(len(name), rows[name].str.len().max()) for name in ("task", "variant")}
    seeds = list(dict.fromkeys(rows["seeds"]))
    head = f"{'task':{names['task']}}  {'variant':{names['variant']}}  pairs"
    yield head + "".join(f"{f'{number} seeds':>18}" for number in seeds)
    for (task, variant), own in rows.groupby(["task", "variant"], sort=False):
        line = f"{task:{names['task']}}  {variant:{names['variant']}}  {own['n'].iloc[0]:5d}"
        for chance, hours in own[["chance", "hours"]].to_numpy():
            line += f"{'?' if chance != chance else f'{100 * chance:.0f} %':>8}{hours:8.2f} h"
        yield line


def _total(rows: "pd.DataFrame") -> str:
    """What it takes to train all of them with the most seeds."""
    from kvformer.reporting.panels import hours_of

    most = rows[rows["seeds"] == rows["seeds"].max()]
    return f"all of them with {most['seeds'].iloc[0]} seeds: {hours_of(most):.1f} hours, each baseline trained once"
