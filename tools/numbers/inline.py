"""Words for single numbers. The first argument is a study, one of `results.STUDIES`."""

from datetime import datetime
from math import sqrt

import pandas as pd

from kvformer.records.tuning import TuningChoice, choice_file
from tools.numbers import results
from tools.numbers.results import Side, study
from tools.numbers.values import UNITS, Difference, fixed, percent_change, probability, signed, span, thousands

LISTS = ("reverse", "sort", "sub", "swap", "copy", "shift", "recall")


def runs(name: str) -> str:
    """Runs of a study that finished."""
    return thousands(study(name).finished)


def seeds(name: str, task: str = "") -> str:
    """Seeds of a study, or of one task of it."""
    scores = study(name).scores
    return str((scores[scores["task"] == task] if task else scores)["seed"].nunique())


def tasks(name: str) -> str:
    """Tasks of a study."""
    return str(len(study(name).study.tasks))


def commit(name: str) -> str:
    """The commits that trained a study, shortened."""
    found = dict.fromkeys(record["git"]["commit"][:7] for record in study(name).provenance)
    return ", ".join(f"`{short}`" for short in found)


def minutes(name: str) -> str:
    """Minutes from the start of a study's first run to the end of its last one."""
    return fixed(_seconds(name) / 60, 0)


def busy(name: str, cores: int = 2) -> str:
    """Share of what the cores could do in that time that went into runs."""
    return f"{fixed(100 * study(name).scores['seconds'].sum() / (cores * _seconds(name)), 0)} %"


def _seconds(name: str) -> float:
    records = study(name).provenance
    first = min(datetime.fromisoformat(record["start"]) for record in records)
    return (max(datetime.fromisoformat(record["end"]) for record in records) - first).total_seconds()


def stepping(name: str) -> str:
    """Share of the runs' time that went into optimisation steps."""
    scores = study(name).scores
    return f"{fixed(100 * scores['stepping_seconds'].sum() / scores['seconds'].sum(), 0)} %"


def steps(name: str, task: str) -> str:
    """Optimisation steps of a run."""
    return thousands(study(name).steps(task))


def mean(name: str, task: str, variant: str, setting: str = "") -> str:
    """`0.955`: mean over seeds, and over the settings of a grid."""
    return study(name).mean(task, Side(variant, setting)).text


def spread(name: str, task: str, variant: str) -> str:
    """`3.4 BLEU`: standard deviation between seeds."""
    found = study(name).mean(task, Side(variant))
    return f"{fixed(found.unit.scale * found.seed_sd, found.unit.decimals)} {found.unit.name}"


def difference(
    name: str, task: str, variant: str, to: str = "", setting: str = "", unit: bool = True, decimals: int | None = None
) -> str:
    """`−4.0 points [−4.3, −3.7]`: paired difference to the study's baseline, or to the variant `to`."""
    return _difference(name, task, variant, to, setting).text(unit, decimals=decimals)


def verdict(name: str, task: str, variant: str, setting: str = "") -> str:
    """`worse`: the verdict on a comparison with the study's baseline."""
    return _difference(name, task, variant, "", setting).verdict


def _difference(name: str, task: str, variant: str, to: str, setting: str) -> Difference:
    found = study(name)
    return found.difference(task, Side(variant, setting), Side(to or found.study.baseline, setting))


def count(name: str, variant: str, verdict: str) -> str:
    """Tasks on which a variant has this verdict; "open" counts those that more seeds may decide."""
    return str(study(name).count(variant, verdict))


def average(name: str, variant: str, unit: bool = True, to: str = "", without: str = "") -> str:
    """`−1.74 margins [−2.07, −1.41]`: a variant's mean over tasks, also without one of them, or paired with another
    variant than the baseline."""
    mean, low, high = (signed(value, 2) for value in study(name).average(variant, to, without))
    return f"{mean}{' margins' if unit else ''} [{low}, {high}]"


def average_verdict(name: str, variant: str) -> str:
    """`worse`: the verdict on that average."""
    return str(study(name).averages[variant]["verdict"])


def solved(name: str, task: str, variant: str) -> str:
    """`2 of 10`: runs with an accuracy of at least 0.99."""
    return "{} of {}".format(*study(name).solved(task, variant))


def edges(name: str) -> str:
    """`66 of 80`: tuned variants of a task and setting whose best value was at an end of its grid."""
    cells = TuningChoice.load(choice_file(study(name).folder)).cells
    return f"{sum(bool(cell.edges) for cell in cells)} of {len(cells)}"


def cost(name: str, task: str, variant: str, column: str) -> str:
    """`−25 %`: a cost against that of qkv; for `lists` the median over the list tasks and their settings."""
    ratios = study(name).cost(LISTS if task == "lists" else (task,), variant, column)
    return percent_change(float(pd.Series(ratios).median()))


def diagnostic(name: str, task: str, variant: str, metric: str, decimals: int = 2) -> str:
    """Mean over seeds of a diagnostic at the end of training, such as "layer0/diagonal"."""
    return fixed(study(name).last(task, variant, f"diagnostics/{metric}").mean(), decimals)


def antisymmetric_share(name: str, task: str, variant: str, decimals: int = 1) -> str:
    """Mean share of the logits' energy in their antisymmetric part at the end of training, in per cent (first layer).

    The diagnostic `symmetry` is the difference of both shares, so the antisymmetric one is (1 − symmetry) / 2.
    """
    symmetry = study(name).last(task, variant, "diagnostics/layer0/symmetry").mean()
    return f"{fixed(50 * (1 - symmetry), decimals)} %"


def between(name: str, task: str, variant: str) -> str:
    """`+0.033 nats [+0.028, +0.039]`: the published setting minus the corrected one, paired by seed."""
    return study(name).published_minus_corrected[task, variant].text()


def between_verdict(name: str, task: str, variant: str) -> str:
    """`worse`: the verdict on that comparison, in the family of the variant."""
    return study(name).published_minus_corrected[task, variant].verdict


def between_p(name: str, task: str, variant: str) -> str:
    """Holm-adjusted p of that comparison."""
    return probability(study(name).published_minus_corrected[task, variant].p)


def gap_change(name: str, task: str, variant: str, to: str) -> str:
    """How the gap between two variants changes from the corrected to the published setting, paired by seed."""
    found = study(name)
    changes = []
    for side in (variant, to):
        (left,), (right,) = (found.values(task, Side(side, setting)).values() for setting in ("published", "mended"))
        changes.append(left - right)
    return results.spread_of(changes[0] - changes[1], found.metric(task)).text()


def selection(name: str, task: str, setting: str, variant: str = "", last: int = 1, unit: bool = True) -> str:
    """What choosing the checkpoint by the reported data adds to the result, over the mean of the last evaluations.

    Of one variant, or of the mean of all variants: a seed is one observation.
    """
    gains = _selection(name, task, setting, last)
    if variant:
        gains = gains[gains.index.get_level_values("variant") == variant]
    by_seed = gains.groupby("seed").mean()
    return results.spread_of(by_seed, "accuracy").text(unit, decimals=2)


def selection_range(name: str, task: str, setting: str, last: int = 1) -> str:
    """`+0.2 to +0.5`: the same as its smallest and largest value over runs, in points."""
    return span(list(100 * _selection(name, task, setting, last)), 1, sign=True)


def _selection(name: str, task: str, setting: str, last: int) -> "pd.Series[float]":
    found = study(name)
    curves = found.curves[(found.curves["task"] == task) & (found.curves["setting"] == setting)]
    curves = curves[curves["metric"] == "validation/accuracy"].sort_values("step")
    late = curves.groupby(["variant", "seed"])["value"].apply(lambda values: values.tail(last).mean())
    scores = found.scores[(found.scores["task"] == task) & (found.scores["setting"] == setting)]
    return scores.set_index(["variant", "seed"])["value"] - late


def pooled(name: str, task: str, metric: str) -> str:
    """`−5.6 points (t = −4.6)`: ours minus the published mean, over all cells with published runs.

    Our standard error is that between seeds; the published cells count as independent.
    """
    gaps, variance = [], 0.0
    cells = published_cells(name, task, metric)
    for values, row in cells:
        gaps.append(values - row["mean"])
        variance += row["std"] ** 2 / row["n"] / len(cells) ** 2
    by_seed = pd.concat(gaps, axis=1).mean(axis=1)
    error = sqrt(by_seed.var(ddof=1) / len(by_seed) + variance)
    return f"{signed(100 * by_seed.mean(), 1)} points (t = {fixed(by_seed.mean() / error, 1)})"


def published_cells(name: str, task: str, metric: str) -> "list[tuple[pd.Series[float], pd.Series[float]]]":
    """Our values by seed and the published row of each (setting, variant) of numbers at the published learning rate."""
    found, cells = study(name), []
    for setting in found.study.settings(task):
        condition = f"data.context={setting.removeprefix('context')} training.learning_rate=0.001"
        for variant in found.study.variants:
            (values,) = found.values(task, Side(variant, setting)).values()
            cells.append((values, published_row(task, variant, metric, condition)))
    return cells


def published_row(task: str, variant: str, metric: str, conditions: str) -> "pd.Series[float]":
    """The row of config/published.csv of arXiv 2305.19129 whose conditions contain these."""
    table = results.published()
    table = table[(table["study"] == "borji2023") & (table["task"] == task) & (table["variant"] == variant)]
    table = table[(table["metric"] == metric) & table["conditions"].str.contains(conditions, regex=False)]
    if len(table) != 1:
        raise ValueError(f"{len(table)} published rows match {task} {variant} {metric} {conditions}")
    return table.iloc[0]


def published(task: str, variant: str, metric: str, conditions: str, to: str) -> str:
    """The difference between two published means, in our units."""
    ours, theirs = (published_row(task, who, metric, conditions)["mean"] for who in (variant, to))
    return _in_unit(ours - theirs, metric)


def _in_unit(value: float, metric: str) -> str:
    unit = UNITS["bleu" if "bleu" in metric else "loss" if "loss" in metric else "accuracy"]
    return f"{signed(unit.scale * value, unit.decimals)} {unit.name}"
