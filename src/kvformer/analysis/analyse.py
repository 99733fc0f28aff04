"""The one place where the numbers of a study's report are computed."""

from pathlib import Path

import pandas as pd

from kvformer.analysis import comparisons, cost, decisions, provenance
from kvformer.analysis.curves import FILE as CURVES
from kvformer.analysis.curves import average_curves, read_curves
from kvformer.analysis.frames import load_correct, load_curves, load_runs, lost, scores, table_file
from kvformer.analysis.gaps import average_gaps, training_gaps
from kvformer.analysis.overall import overall
from kvformer.analysis.planning import plan
from kvformer.analysis.published import compare_published, load_published
from kvformer.analysis.results import FILE, Results
from kvformer.analysis.sampling import sampling
from kvformer.analysis.scaling import scaling
from kvformer.analysis.study import Study, read_study
from kvformer.analysis.tuning import tuning_table
from kvformer.records.run import RunFolder
from kvformer.records.study import judged_by


def analyse(results: Path, published: Path | None = None, curves: pd.DataFrame | None = None) -> Results:
    """Compute all numbers of the collected study in the folder `results`; nothing is written.

    published: the table of published numbers; without one the results are compared with none. curves: rows of
    curves.csv.gz, where they were read before.

    Raises:
        KvformerError: study.json, runs.csv, the file of costs or the published numbers are missing or malformed.
    """
    study, runs = read_study(results), load_runs(results)
    expected = scores(runs)
    records = list(provenance.by_run(results, study).values())
    summary = comparisons.summarise(expected, study)
    compared, looks = comparisons.compared(expected, study), decisions.looks_of(study)
    found = decisions.findings(compared, looks)
    paired = decisions.table(found)
    averages, averages_by_seed = overall(compared, paired, looks)
    tables = {
        "tasks": _tasks(runs, expected, study),
        "counts": expected.groupby("status")["seconds"].agg(runs="size", seconds="sum").reset_index(),
        "summary": summary,
        "seeds": comparisons.seed_means(expected, study),
        "families": comparisons.family_averages(summary, study),
        "paired": paired,
        "overall": averages,
        "overall_seeds": averages_by_seed,
        "planning": plan(found),
        "tuning": pd.DataFrame(tuning_table(results)),
        "success": comparisons.success_rates(expected, study),
        "aggregate": comparisons.aggregates(expected, study),
        "sampling": sampling(expected, load_correct(results), study),
        **_costs(runs, study, results),
        "incomplete": _incomplete(expected, results),
        "provenance": _provenance(expected),
        "facts": pd.DataFrame(provenance.facts(records).items(), columns=["name", "value"]),
        "packages": pd.DataFrame(provenance.versions(records), columns=["package", "version"]),
    }
    if curves is None and table_file(results, "curves.csv.gz").is_file():
        curves = load_curves(results)
    if curves is not None:
        tables |= training_gaps(expected, curves, study)
        tables["gap_averages"] = average_gaps(tables["gaps"])
    if any(len(study.settings(task)) > 1 for task in study.tasks):
        tables["settings"] = comparisons.summarise(expected, study, by_setting=True)
        tables["paired_settings"] = decisions.paired_differences(expected, study, by_setting=True)
    tables |= scaling(expected, tables["cost"], study)
    if published:
        tables["published"] = compare_published(runs, study, load_published(published))
    return Results.of(results, study, tables)


def results_of(folder: Path) -> Results:
    """The results of a study: those in results.json, or computed here where the study was collected but not analysed.

    Raises:
        KvformerError: as `Results.read` and `analyse`.
    """
    return Results.read(folder) if (folder / FILE).exists() else analyse(folder, provenance.find_published())


def curves_of(results: Results) -> pd.DataFrame:
    """The averaged curves of a study, as `results_of`."""
    written = all((results.folder / name).exists() for name in (FILE, CURVES))
    return read_curves(results.folder) if written else average_curves(results)


def _costs(runs: pd.DataFrame, study: Study, results: Path) -> dict[str, pd.DataFrame]:
    measured = cost.load_costs(results)
    spent = cost.cost_table(runs, study, measured)
    changes = cost.relative_costs(spent, study)
    drawn = cost.drawn_costs(runs, measured)
    return {"cost": spent, "relative_costs": changes, "savings": cost.savings(changes), "drawn_costs": drawn}


def _tasks(runs: pd.DataFrame, expected: pd.DataFrame, study: Study) -> pd.DataFrame:
    judged = dict(zip(expected["task"], expected["metric"], strict=True))
    planned = judged_by(study.tasks.values(), ())  # a task may have no row yet
    rows = []
    for name in study.tasks:
        labels = runs.loc[runs["task"] == name, "data_label"].unique()
        data = ", ".join(label for label in labels if label not in ("", "generated"))
        rows.append({"task": name, "metric": judged.get(name, planned[name].metric), "data": data})
    return pd.DataFrame(rows)


def _incomplete(expected: pd.DataFrame, results: Path) -> pd.DataFrame:
    excluded = lost(expected)
    failures = [RunFolder(results / path).failure() for path in excluded["path"]]
    return excluded.assign(reason=[f"{failure.type}: {failure.error}" if failure else "" for failure in failures])


def _provenance(expected: pd.DataFrame) -> pd.DataFrame:
    names = {"data_label": "data", "data_source": "source", "git_commit": "commit", "git_dirty": "dirty"}
    done = expected[expected["status"].isin(["finished", "diverged"])].rename(columns=names)
    groups = done.groupby(["task", "protocol", *names.values()], sort=False)["data_sha256"]
    return groups.agg(runs="size", digests=_digests).reset_index()


def _digests(values: pd.Series) -> str:
    digests = list(dict.fromkeys(values))
    if len(digests) > 1:
        return f"{len(digests)} digests"
    return "; ".join(part[:12] for part in digests[0].split("; "))
