"""The tables of a study, from `runs.csv` and `study.json` alone: the same runs give the same bytes."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from kvformer.analysis import comparisons, nuisance
from kvformer.analysis.frames import load_runs, scores, usable
from kvformer.analysis.quantities import quantity
from kvformer.analysis.study import Study, read_study
from kvformer.reporting import published
from kvformer.reporting.cost_table import efficiency_table
from kvformer.reporting.render import Table, difference_columns, interval, number, probability, signed, whole

PUBLISHED = Path("config/published.csv")
INTERVAL = "Intervals cover 95 % (Student's t over seeds; over a grid, over each seed's mean)."


def write_tables(results: Path, published_numbers: Path = PUBLISHED) -> list[Path]:
    """Write every table of the study into `results/tables` as CSV, Markdown and LaTeX; returns the paths.

    published_numbers: the table of published numbers; left out where there is no such file.

    Raises:
        KvformerError: `study.json` or `runs.csv` is absent or malformed.
    """
    folder = results / "tables"
    paths = [path for table in study_tables(results, published_numbers) for path in table.write(folder)]
    # A table that this study no longer has would be taken for one of its results.
    for stale in set(folder.iterdir()) - set(paths):
        if stale.suffix in (".csv", ".md", ".tex"):
            stale.unlink()
    return paths


def study_tables(results: Path, published_numbers: Path = PUBLISHED) -> list[Table]:
    """The tables of a study that have something to say, the paper's first. Raises KvformerError as `write_tables`."""
    study, runs = read_study(results), load_runs(results)
    tuned, _ = nuisance.select(runs, study)
    summary = comparisons.summarise(tuned, study)
    families = dict.fromkeys(task["family"] for task in study.tasks.values())
    tables = [_family_table(family, summary, runs, study) for family in families]
    tables += [
        _summary_table("summary", summary, "Mean over seeds, and over the settings of a grid."),
        _paired_table("paired", comparisons.paired_differences(tuned, study), study),
    ]
    raw = scores(runs)
    if any(len(study.settings(task)) > 1 for task in study.tasks):
        by_setting = comparisons.summarise(raw, study, by_setting=True)
        tables += [
            _summary_table("settings", by_setting, "Mean over seeds at every setting of the grids."),
            _paired_table("paired_settings", comparisons.paired_differences(raw, study, by_setting=True), study),
        ]
    tables += [
        _nuisance_table(nuisance.comparison(runs, study), study),
        _success_table(comparisons.success_rates(tuned, study)),
        _aggregate_table(comparisons.aggregates(tuned, study), study),
        efficiency_table(runs, study, results / "profile.csv"),
        *published.published_tables(runs, study, published_numbers),
        _incomplete_table(raw),
        _provenance_table(raw, study),
    ]
    always = ("summary", "paired", "efficiency", "incomplete", "provenance", *families)
    return [table for table in tables if len(table.frame) or table.name in always]


def _family_table(family: str, summary: pd.DataFrame, runs: pd.DataFrame, study: Study) -> Table:
    """The paper's layout: variants down, tasks across. Bold: the best mean, if its interval excludes the next one."""
    labels = {variant["name"]: variant.get("label") or variant["name"] for variant in study.content["variants"]}
    rows = summary[summary["family"] == family]
    variants = [variant for variant in study.variants if variant in set(rows["variant"])]
    columns: dict[str, list[str]] = {"Variant": [labels[variant] for variant in variants]}
    bold = set()
    for task in dict.fromkeys(rows["task"]):
        cells = rows[rows["task"] == task].set_index("variant").reindex(variants)
        if (best := _clear_winner(cells)) is not None:
            bold.add((variants.index(best), len(columns)))
        columns[_task_header(task, cells, runs, study)] = [_cell(row) for row in cells.to_dict("records")]
    if rows["task"].nunique() > 1 and {quantity(metric).name for metric in rows["metric"]} == {"accuracy"}:
        means = rows.pivot(index="variant", columns="task", values="mean").reindex(variants)
        columns["Average"] = [number(value, 3) for value in means.mean(axis=1, skipna=False)]
    columns["Parameters"] = [_span(rows.loc[rows["variant"] == variant, "parameters"]) for variant in variants]
    caption = (
        f"{family.capitalize()} tasks: mean [95 % interval] of n runs. {INTERVAL} Bold: the best mean, where its "
        "interval excludes the next best. (a/b): only a of b runs finished, see the table of incomplete runs."
    )
    return Table(family, caption, pd.DataFrame(columns), frozenset(bold))


def _cell(row: dict[Hashable, Any]) -> str:
    if pd.isna(row["expected"]):
        return ""
    lost = "" if row["n"] == row["expected"] else f"({row['n']:.0f}/{row['expected']:.0f})"
    return f"{interval(row['mean'], row['low'], row['high'], 3)} {lost}".strip()


def _clear_winner(cells: pd.DataFrame) -> str | None:
    ranked = cells.dropna(subset=["mean"]).sort_values("mean", ascending=cells["goal"].dropna().iloc[0] == "min")
    if len(ranked) < 2 or pd.isna(ranked["low"].iloc[0]):
        return None
    best, following = ranked.iloc[0], ranked["mean"].iloc[1]
    return None if best["low"] <= following <= best["high"] else str(ranked.index[0])


def _task_header(task: str, cells: pd.DataFrame, runs: pd.DataFrame, study: Study) -> str:
    """`MNIST, test accuracy ↑ (n = 6)`; names the data where they are not what the task's name says."""
    known = cells.dropna(subset=["metric"])
    labels = runs.loc[runs["task"] == task, "data_label"].unique()
    data, name = ", ".join(label for label in labels if label not in ("", "generated")), study.label(task)
    if data and data.lower() != name.lower():
        name += f" on {data}"
    arrow = "↑" if known["goal"].iloc[0] == "max" else "↓"
    return f"{name}, {known['metric'].iloc[0].replace('/', ' ')} {arrow} (n = {known['expected'].max():.0f})"


def _span(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return whole(low) if low == high or pd.isna(low) else f"{whole(low)}–{whole(high)}"


def _summary_table(name: str, rows: pd.DataFrame, what: str) -> Table:
    columns = {
        "task": rows["task"],
        "setting": rows["setting"],
        "variant": rows["variant"],
        "metric": rows["metric"],
        "n": rows["n"].map(whole),
        "expected": rows["expected"].map(whole),
        "mean": rows["mean"].map(number),
        "low": rows["low"].map(number),
        "high": rows["high"].map(number),
    }
    beside = "sd: standard deviation between seeds (pooled within settings), apart from that between settings."
    if "bootstrap_low" in rows:
        beside = f"bootstrap (CSV): the BCa interval, too narrow for fewer than about 20 runs. {beside}"
        columns["bootstrap low"] = rows["bootstrap_low"].map(number)
        columns["bootstrap high"] = rows["bootstrap_high"].map(number)
    columns |= {
        "sd of seeds": rows["seed_sd"].map(number),
        "sd of settings": rows["setting_sd"].map(number),
        "minimum": rows["minimum"].map(number),
        "maximum": rows["maximum"].map(number),
        "parameters": rows["parameters"].map(whole),
    }
    caption = f"{what} {INTERVAL} {beside}"
    printed = ("task", "setting", "variant", "n", "mean", "low", "high", "sd of seeds", "sd of settings", "parameters")
    return Table(name, caption, pd.DataFrame(columns), printed=printed)


def _paired_table(name: str, rows: pd.DataFrame, study: Study) -> Table:
    caption = (
        f"Difference to {study.baseline} at equal task, setting and seed, in units of the metric, with its 95 % "
        "interval. A pair is a seed: over a grid, its mean over the settings. Tests are two-sided: Wilcoxon's "
        "signed-rank test, with the smallest p that it can reach with so few pairs, and the paired t test; Holm: "
        "adjusted for the number of comparisons in this table. Effect dz: the mean difference in standard "
        "deviations of the differences. Verdict: equivalent when the interval lies inside ± margin (fixed in the "
        "configuration beforehand); else better or worse when the Holm-adjusted t test has p < 0.05; else "
        "undecided, which is no proof of equality. Pairs that lack a run are named and left out."
    )
    if rows.empty:
        return Table(name, caption, pd.DataFrame(columns=["task", "setting", "variant", "verdict"]))
    columns = {
        "task": rows["task"],
        "setting": rows["setting"],
        "variant": rows["variant"],
        "verdict": rows["verdict"],
        "metric": rows["metric"],
        "pairs": rows["n"].map(whole),
        **difference_columns(rows),
        "Wilcoxon p": rows["p_wilcoxon"].map(probability),
        "Wilcoxon Holm": rows["p_wilcoxon_holm"].map(probability),
        "smallest p": rows["smallest_p"].map(probability),
        "t test p": rows["p_t"].map(probability),
        "t test Holm": rows["p_t_holm"].map(probability),
        "effect dz": rows["effect_dz"].map(lambda value: signed(value, 2)),
        "rank-biserial": rows["effect_rank"].map(lambda value: signed(value, 2)),
        "margin": rows["margin"].map(number),
        "unpaired": rows["unpaired"],
    }
    printed = (
        *("task", "setting", "variant", "verdict", "pairs", "difference", "low", "high", "better in"),
        *("Wilcoxon Holm", "smallest p", "t test Holm", "effect dz"),
    )
    return Table(name, caption, pd.DataFrame(columns), printed=printed)


def _nuisance_table(rows: pd.DataFrame, study: Study) -> Table:
    caption = (
        "Tasks with nuisance hyperparameters: every variant at its own best values, chosen by the validation metric "
        f"alone, and beside it the difference to {study.baseline} when all use the values best for {study.baseline}. "
        "Budget: runs that the choice could draw on. Edge: the best value ends the grid, a better one may lie beyond."
    )
    if rows.empty:
        return Table("nuisance", caption, pd.DataFrame())
    columns = {
        "task": rows["task"],
        "setting": rows["setting"],
        "variant": rows["variant"],
        "own best": rows["values"],
        "edge": rows["edge"],
        "validation": rows["validation"].map(number),
        "budget": rows["budget"].map(whole) + rows["equal_budget"].map({True: "", False: " (unequal)"}),
    }
    for kind, suffix in (("own best", "_own"), ("fixed", "_fixed")):
        for name in ("difference", "low", "high"):
            columns[f"{kind}: {name}"] = rows[name + suffix].map(signed)
        columns[f"{kind}: verdict"] = rows["verdict" + suffix].fillna("")
    return Table("nuisance", caption, pd.DataFrame(columns))


def _success_table(rows: pd.DataFrame) -> Table:
    caption = (
        f"Runs that reach an accuracy of {comparisons.SUCCESS}, with Wilson's 95 % interval. A run that diverged or "
        "failed has not solved its task. Where outcomes are all or nothing, this says more than a mean."
    )
    if rows.empty:
        return Table("success", caption, pd.DataFrame())
    columns = {
        "task": rows["task"],
        "setting": rows["setting"],
        "variant": rows["variant"],
        "solved": [f"{successes} of {n}" for successes, n in zip(rows["successes"], rows["n"], strict=True)],
        "rate": rows["rate"].map(lambda value: number(value, 3)),
        "low": rows["low"].map(lambda value: number(value, 3)),
        "high": rows["high"].map(lambda value: number(value, 3)),
    }
    return Table("success", caption, pd.DataFrame(columns))


def _aggregate_table(rows: pd.DataFrame, study: Study) -> Table:
    caption = (
        "Over all tasks judged by accuracy: mean of task means, interquartile mean (IQM) of all runs, and the "
        f"probability that a run beats one of {study.baseline} on a task drawn at random (0.5: no improvement). 95 % "
        "intervals: bootstrap over seeds within tasks. Solved tasks hide differences: read the single tasks first."
    )
    if rows.empty:
        return Table("aggregate", caption, pd.DataFrame())
    columns = {"variant": rows["variant"], "tasks": rows["tasks"].map(whole), "runs": rows["n"].map(whole)}
    names = {"mean": "mean", "iqm": "IQM", "iqm_low": "IQM low", "iqm_high": "IQM high", "improvement": "improvement"}
    names |= {"improvement_low": "improvement low", "improvement_high": "improvement high"}
    return Table(
        "aggregate", caption, pd.DataFrame(columns | {text: rows[name].map(number) for name, text in names.items()})
    )


def _incomplete_table(raw: pd.DataFrame) -> Table:
    """Every expected run that does not count, with the reason."""
    lost = raw.drop(usable(raw).index)
    caption = (
        "Expected runs that do not count. failed: stopped with an error (see its failure.json). diverged: the loss "
        "became non-finite. not started: the first seed of its cell failed. missing: not run, or not finished. stale: "
        "its folder belongs to another configuration."
    )
    names = ["task", "setting", "variant", "seed", "status", "path"]
    return Table("incomplete", caption, lost[names].astype(str).reset_index(drop=True))


def _provenance_table(raw: pd.DataFrame, study: Study) -> Table:
    """Where data and code of each task come from."""
    names = ["task", "protocol", "data_label", "data_source", "git_commit", "git_dirty"]
    done = raw[raw["status"].isin(["finished", "diverged"])]
    groups = done.groupby(names, sort=False)["data_sha256"]
    counts = groups.agg(runs="size", digests=_digests).reset_index()
    columns = {
        "task": counts["task"],
        "protocol": counts["protocol"],
        "data": counts["data_label"],
        "source": counts["data_source"],
        "SHA-256": counts["digests"],
        "commit": counts["git_commit"].str[:12],
        "uncommitted changes": counts["git_dirty"].map({"True": "yes", "False": "no"}).fillna("unknown"),
        "runs": counts["runs"].map(whole),
    }
    caption = (
        f"Data and code of the runs of study '{study.name}'. Digests and commits are cut to 12 digits; generated data "
        "have a digest for every seed and setting (runs.csv lists them)."
    )
    return Table("provenance", caption, pd.DataFrame(columns).astype(str))


def _digests(values: pd.Series) -> str:
    digests = list(dict.fromkeys(values))
    if len(digests) > 1:
        return f"{len(digests)} digests"
    return "; ".join(part[:12] for part in digests[0].split("; "))
