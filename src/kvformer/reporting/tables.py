"""The tables of a study: its results in print. The same results give the same bytes."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from kvformer.analysis.quantities import quantity
from kvformer.analysis.results import Results
from kvformer.reporting.captions import table_captions
from kvformer.reporting.cells import interval, number, probability, signed, whole
from kvformer.reporting.render import DIFFERENCE, Layout, Table, alike, change, decimals, lay_out, with_better_in, yes
from kvformer.reporting.scaling import scaling_tables
from kvformer.reporting.training_tables import training_tables

SUMMARY: Layout = {
    **alike(str, "task", "setting", "variant", "metric"),
    **alike(whole, "n", "expected"),
    **alike(number, "mean", "low", "high", "bootstrap_low", "bootstrap_high"),
    "sd of seeds": ("seed_sd", number),
    "sd of settings": ("setting_sd", number),
    **alike(number, "minimum", "maximum"),
    **alike(whole, "parameters"),
}
SETTINGS: Layout = {header: column for header, column in SUMMARY.items() if not header.startswith("bootstrap")}
SUMMARY_PRINTED = (
    *("task", "setting", "variant", "n", "mean", "low", "high", "sd of seeds", "sd of settings", "parameters"),
)
PAIRED: Layout = {
    **alike(str, "task", "setting", "variant", "verdict", "metric"),
    "pairs": ("n", whole),
    **DIFFERENCE,
    **alike(str, "test"),
    **alike(probability, "p"),
    "adjusted p": ("p_holm", probability),
    "worse p": ("p_worse", probability),
    "equivalence p": ("p_equivalence", probability),
    "adjusted equivalence": ("p_equivalence_holm", probability),
    "not worse p": ("p_not_worse", probability),
    "adjusted not worse": ("p_not_worse_holm", probability),
    "effect dz": ("effect_dz", change(2)),
    **alike(number, "margin"),
    "failure rate below": ("failure_bound", decimals(3)),
    "decided at look": ("decided_at", lambda look: whole(look) if look else ""),
    **alike(str, "unpaired"),
}
PAIRED_PRINTED = (
    *("task", "setting", "variant", "verdict", "pairs", "difference", "low", "high", "better in"),
    *("test", "adjusted p", "adjusted equivalence", "adjusted not worse"),
)
OVERALL: Layout = {
    **alike(str, "variant", "verdict"),
    "seeds": ("n", whole),
    "tasks": ("n_tasks_counted", whole),
    **alike(change(2), "mean", "low", "high"),
    "worse on at least": ("worse_at_least", whole),
    **{f"means {name}": (name, whole) for name in ("worse", "equal", "better")},
    **{f"unsolved: {name}": (f"{name}_unsolved", change(2)) for name in ("mean", "low", "high")},
    **{f"over tasks: {name}": (f"task_{name}", change(2)) for name in ("low", "high")},
    **{f"without one: {name}": (f"leave_out_{name}", change(2)) for name in ("low", "high")},
    **alike(probability, "p"),
    "Holm p": ("p_holm", probability),
    "equivalence Holm": ("p_equivalence_holm", probability),
    "not worse Holm": ("p_not_worse_holm", probability),
}
OVERALL_PRINTED = (
    *("variant", "verdict", "seeds", "tasks", "mean", "low", "high", "worse on at least", "unsolved: mean"),
    *("without one: low", "without one: high", "Holm p"),
)
PLANNING: Layout = {
    **alike(str, "task", "variant", "plan"),
    "pairs": ("n", whole),
    **alike(whole, "seeds"),
    **{name: (name, decimals(2)) for name in ("chance", "hours")},
    "baseline's hours": ("baseline_hours", decimals(2)),
    "hopeless": ("hopeless", lambda hopeless: "hopeless" if hopeless else ""),
}
TUNING: Layout = {
    **alike(str, "task", "setting", "variant", "values", "metric"),
    **alike(number, "validation"),
    "runs": ("runs", whole),
    "of": ("expected", whole),
    "chosen": ("chosen", yes),
    **alike(str, "edge"),
}
SUCCESS: Layout = {
    **alike(str, "task", "setting", "variant", "solved"),
    **{name: (name, decimals(3)) for name in ("rate", "low", "high")},
}
AGGREGATE: Layout = {
    **alike(str, "variant"),
    **alike(whole, "tasks"),
    "runs": ("n", whole),
    **alike(number, "mean"),
    **{f"IQM{end.replace('_', ' ')}": (f"iqm{end}", number) for end in ("", "_low", "_high")},
    **alike(number, "improvement", "improvement_low", "improvement_high"),
}
COST: Layout = {
    **alike(str, "task", "setting", "variant"),
    **alike(whole, "n", "parameters", "attention_parameters"),
    "seconds": ("seconds", decimals(1)),
    "stepping": ("stepping_seconds", decimals(1)),
    "samples/s": ("samples_per_second", whole),
    "ratio": ("ratio", decimals(3)),
}
PUBLISHED: Layout = {
    **alike(str, "task", "variant"),
    "published by": ("study", str),
    "setting there": ("setting", str),
    "metric": ("compare_with", str),
    "published": ("mean", number),
    "sd there": ("std", number),
    "n there": ("n", whole),
    **alike(number, "ours", "low", "high"),
    "n": ("n_ours", whole),
    **alike(signed, "difference"),
    "deviation": ("deviation", change(1)),
    "differs in": ("differs", str),
    "setting here": ("settings", str),
    "metric there": ("metric", str),
    **alike(str, "origin", "status"),
}
PUBLISHED_PRINTED = ("task", "variant", "published by", "metric", "published", "ours", "low", "high", "n")
INCOMPLETE: Layout = alike(str, "task", "setting", "variant", "seed", "status", "path")
PROVENANCE: Layout = {
    **alike(str, "task", "protocol", "data", "source"),
    "SHA-256": ("digests", str),
    "commit": ("commit", lambda commit: commit[:12]),
    "uncommitted changes": ("dirty", lambda dirty: {"True": "yes", "False": "no"}.get(dirty, "unknown")),
    **alike(whole, "runs"),
}


def write_tables(results: Results) -> list[Path]:
    """Write every table into the study's folder `tables` as CSV, Markdown and LaTeX; returns the paths.

    Tables that an earlier state of the study left there are removed.
    """
    folder = results.folder / "tables"
    paths = [path for table in study_tables(results) for path in table.write(folder)]
    for stale in set(folder.iterdir()) - set(paths):
        if stale.suffix in (".csv", ".md", ".tex"):
            stale.unlink()
    return paths


def study_tables(results: Results) -> list[Table]:
    """The tables of a study that have something to say, the paper's first."""
    study = results.study
    captions = table_captions(study.name, study.baseline)
    counts = zip(results.success["successes"], results.success["n"], strict=True)
    solved = results.success.assign(solved=[f"{successes} of {n}" for successes, n in counts])
    same = results.published["differs"] == ""
    published, context = (lay_out(results.published[rows], PUBLISHED) for rows in (same, ~same))
    formatted = {
        "summary": (lay_out(results.summary, SUMMARY), SUMMARY_PRINTED),
        "paired": (lay_out(with_better_in(results.paired), PAIRED), PAIRED_PRINTED),
        "overall": (lay_out(results.overall, OVERALL), OVERALL_PRINTED),
        "settings": (lay_out(results.settings, SETTINGS), SUMMARY_PRINTED),
        "paired_settings": (lay_out(with_better_in(results.paired_settings), PAIRED), PAIRED_PRINTED),
        "planning": (lay_out(results.planning, PLANNING), ()),
        "tuning": (lay_out(results.tuning, TUNING), ()),
        "success": (lay_out(solved, SUCCESS), ()),
        "aggregate": (lay_out(results.aggregate, AGGREGATE), ()),
        **training_tables(results),
        **scaling_tables(results),
        "cost": (_costs(results.cost), ()),
        "published": (
            published.drop(columns="differs in"),
            (*PUBLISHED_PRINTED, "setting there", "difference", "deviation"),
        ),
        # Only at the same setting is a deviation meant.
        "published_context": (context.drop(columns="deviation"), (*PUBLISHED_PRINTED, "differs in")),
        "incomplete": (lay_out(results.incomplete, INCOMPLETE), ()),
        "provenance": (lay_out(results.provenance, PROVENANCE), ()),
    }
    if "step ratio" in formatted["cost"][0]:
        captions["cost"] += captions["measured"]
    always = ("summary", "paired", "cost", "incomplete", "provenance")
    return [_family_table(family, captions["family"], results) for family in study.families] + [
        Table(name, captions[name], frame, printed=printed)
        for name, (frame, printed) in formatted.items()
        if len(frame) or name in always
    ]


def _family_table(family: str, caption: str, results: Results) -> Table:
    """The paper's layout: variants down, tasks across. Bold: better than the baseline."""
    rows = results.summary[results.summary["family"] == family]
    variants = [variant for variant in results.study.variants if variant in set(rows["variant"])]
    columns: dict[str, list[str]] = {"Variant": [results.study.labels[variant] for variant in variants]}
    judged = results.paired.set_index(["variant", "task"])["verdict"]
    bold = set()
    for task in dict.fromkeys(rows["task"]):
        cells = rows[rows["task"] == task].set_index("variant")
        bold |= {(row, len(columns)) for row, variant in enumerate(variants) if judged.get((variant, task)) == "better"}
        columns[_task_header(task, cells, results)] = [_cell(row) for row in cells.reindex(variants).to_dict("records")]
    averages = results.families[results.families["family"] == family].set_index("variant").reindex(variants)
    if rows["task"].nunique() > 1 and {quantity(metric).name for metric in rows["metric"]} == {"accuracy"}:
        columns["Average"] = [number(value, 3) for value in averages["average"]]
    ends = zip(averages["fewest_parameters"].map(whole), averages["most_parameters"].map(whole), strict=True)
    columns["Parameters"] = [low if low == high else f"{low}–{high}" for low, high in ends]
    return Table(family, caption.format(family=family.capitalize()), pd.DataFrame(columns), frozenset(bold))


def _cell(row: dict[Hashable, Any]) -> str:
    if pd.isna(row["expected"]):
        return ""
    lost = "" if row["n"] == row["expected"] else f"({row['n']:.0f}/{row['expected']:.0f})"
    return f"{interval(row['mean'], row['low'], row['high'], 3)} {lost}".strip()


def _task_header(task: str, cells: pd.DataFrame, results: Results) -> str:
    """`MNIST, test accuracy ↑ (n = 6)`; names the data where they differ from what the task's name says."""
    data = results.tasks.loc[results.tasks["task"] == task, "data"].iloc[0]
    name = results.study.label(task)
    if data and data.lower() != name.lower():
        name += f" on {data}"
    arrow = "↑" if cells["goal"].iloc[0] == "max" else "↓"
    return f"{name}, {cells['metric'].iloc[0].replace('/', ' ')} {arrow} (n = {cells['expected'].max()})"


def _costs(rows: pd.DataFrame) -> pd.DataFrame:
    known = {name for name, _ in COST.values()}
    measured = alike(_measure, *(name for name in rows.columns if name not in known))
    return lay_out(rows, {**COST, **measured})


def _measure(value: float | str) -> str:
    """Three significant digits, and all digits of whole numbers and of those from 100 on; text as it is."""
    if isinstance(value, str):
        return value
    return whole(value) if pd.isna(value) or float(value).is_integer() or value >= 100 else f"{value:.3g}"
