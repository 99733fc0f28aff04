"""Results of studies in every situation that the page knows, with verdicts that the test chooses.

Numbers follow from the verdicts; `analyse` has no part in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvformer.analysis.results import Columns, Results, _layouts
from kvformer.analysis.study import Study
from kvformer.records.study import RunEntry, SettingEntry, StudyManifest, TaskEntry, VariantEntry

TASKS = {
    "sort": ("Sort", "synthetic", "accuracy", 0.95),
    "shift": ("Shift", "synthetic", "accuracy", 1.0),
    "recall": ("Recall", "synthetic", "accuracy", 0.36),
    "copy": ("Copy", "synthetic", "accuracy", 1.0),
    "mnist": ("MNIST", "vision", "accuracy", 0.957),
    "characters": ("Characters", "language", "loss", 1.893),
    "translation": ("Translation", "language", "bleu", 25.3),
}
"""Label, family, quantity and the baseline's value."""
MARGINS = {"accuracy": 0.01, "loss": 0.02, "bleu": 1.0}
NUMBERS = {
    "": (-0.3, 0.0),
    "worse": (-4.0, 0.5),
    "leaning worse": (-1.2, 1.0),
    "undecided": (-0.3, 1.5),
    "not worse": (0.5, 1.2),
    "equivalent": (0.1, 0.3),
    "leaning better": (1.2, 1.0),
    "better": (3.0, 0.5),
    "both solve": (0.0, 0.0),
    "mixed": (-0.5, 2.0),
}
"""Mean and half width of the interval of each verdict, in margins."""


def results(
    folder: Path,
    words: Mapping[str, str | Sequence[str]],
    averages: Mapping[str, str] | None = None,
    *,
    tasks: Iterable[str] = tuple(TASKS),
    seeds: int = 5,
    baseline: str = "qkv",
    costs: bool = True,
    pairs: Mapping[tuple[str, str], int] | None = None,
    lost: Sequence[Mapping[str, Any]] = (),
    **manifest: Any,
) -> Results:
    """A study of these variants.

    words: for each variant its verdict on every task, or one for all. averages: its verdict on average; None: there is
    no average. pairs: of comparisons that have fewer than `seeds`. lost: rows of the table of excluded runs.
    """
    tasks = list(tasks)
    study = _study(list(words), tasks, seeds, baseline, **manifest)
    given = {variant: [word] * len(tasks) if isinstance(word, str) else list(word) for variant, word in words.items()}
    counts = {(task, variant): (pairs or {}).get((task, variant), seeds) for task in tasks for variant in words}
    tables = {
        "tasks": [{"task": task, "metric": f"test/{TASKS[task][2]}"} for task in tasks],
        "counts": [
            {"status": "finished", "runs": len(study.runs) - len(lost), "seconds": 12600.0},
            *({"status": row["status"], "runs": 1, "seconds": 0.0} for row in lost),
        ],
        "summary": [
            {"task": task, "variant": variant, "family": TASKS[task][1], "metric": f"test/{TASKS[task][2]}"}
            | {"mean": TASKS[task][3], "n": seeds, "expected": seeds, "goal": _goal(task), "parameters": 1000.0}
            for task in tasks
            for variant in (baseline, *words)
        ],
        "success": [
            {"task": task, "variant": variant, "setting": "default", "successes": seeds - (task == "sort"), "n": seeds}
            for task in tasks
            for variant in (baseline, *words)
            if TASKS[task][1] == "synthetic"
        ],
        "seeds": [row for task in tasks for row in _values(task, tasks.index(task), given, seeds, baseline)],
        "paired": [
            _pair(task, variant, given[variant][place], counts[task, variant])
            for place, task in enumerate(tasks)
            for variant in words
        ],
        "incomplete": lost,
        **(_averages(averages, given, seeds, len(tasks), study.manifest.looks) if averages else {}),
        **(_costs(list(words), tasks) if costs else {}),
    }
    layouts = dict(_layouts())
    return Results.of(folder, study, {name: _filled(layouts[name], rows) for name, rows in tables.items()})  # type: ignore[misc]


def _filled(columns: Columns, rows: Iterable[Mapping[str, Any]]) -> Any:
    """Rows with every column of their table: what the test does not say is empty, zero or unknown."""
    empty = dict.fromkeys(columns.text.split(), "") | dict.fromkeys(columns.whole.split(), 0)
    empty |= dict.fromkeys(columns.real.split(), float("nan")) | dict.fromkeys(columns.flags.split(), False)
    return columns.table([empty | dict(row) for row in rows])


def _goal(task: str) -> str:
    return "min" if TASKS[task][2] == "loss" else "max"


def _study(variants: list[str], tasks: list[str], seeds: int, baseline: str, **manifest: Any) -> Study:
    names = [baseline, *variants]
    runs = [
        RunEntry(task=task, setting="default", variant=name, seed=seed, hash="", path=f"runs/{task}/{name}/{seed}")
        for task in tasks
        for name in names
        for seed in range(seeds)
    ]
    entries = [
        TaskEntry(name=task, label=TASKS[task][0], family=TASKS[task][1], metric=TASKS[task][2], goal=_goal(task))
        for task in tasks
    ]
    settings = [SettingEntry(task=task, setting="default", training={"schedule": "cosine"}) for task in tasks]
    return Study(
        StudyManifest(
            **{"name": "situation", "protocol": "corrected", "equivalence_margin": MARGINS} | manifest,
            baseline=baseline,
            variants=[VariantEntry(name=name) for name in names],
            tasks=entries,
            runs=runs,
            settings=settings,
        )
    )


def _difference(task: str, word: str) -> tuple[float, float]:
    """The difference in the metric's own direction, and the half width of its interval."""
    mean, half = (MARGINS[TASKS[task][2]] * number for number in NUMBERS[word])
    return (-mean if _goal(task) == "min" else mean), half


def _pair(task: str, variant: str, word: str, n: int) -> dict[str, Any]:
    mean, half = _difference(task, word)
    low, high = (mean - half, mean + half) if n > 2 else (float("nan"), float("nan"))
    return {
        "task": task,
        "setting": "default",
        "variant": variant,
        "metric": f"test/{TASKS[task][2]}",
        "goal": _goal(task),
        "verdict": word,
        "test": "t",
        "n": n,
        "difference": mean if n else float("nan"),
        "low": low,
        "high": high,
        "error": half / 2.8,
        "margin": MARGINS[TASKS[task][2]],
        "unfavourable": n if mean < 0 else 0,
        "favourable": n if mean > 0 else 0,
        "p_holm": 0.01,
        "failure_bound": 1 - 0.05 ** (1 / n) if word == "both solve" else float("nan"),
    }


def _values(
    task: str, place: int, words: Mapping[str, list[str]], seeds: int, baseline: str
) -> Iterable[dict[str, Any]]:
    level = TASKS[task][3]
    for seed in range(seeds):
        yield {"task": task, "variant": baseline, "seed": seed, "value": level}
        for variant, given in words.items():
            mean, half = _difference(task, given[place])
            yield {
                "task": task,
                "variant": variant,
                "seed": seed,
                "value": level + mean + half * (seed % 3 - (seeds > 1)) / 2,
            }


def _averages(
    averages: Mapping[str, str], words: Mapping[str, list[str]], n: int, tasks: int, looks: Sequence[int]
) -> dict[str, Any]:
    """Averages, the gaps over training and what more seeds would decide."""
    plan, more_seeds = ("further looks", looks[1:]) if looks else ("new study", (12, 20, 40))
    overall, seeds, gaps, planning = [], [], [], []
    for place, (variant, word) in enumerate(averages.items()):
        mean, half = NUMBERS[word]
        mean -= place / 10
        worse = sum(given == "worse" for given in words[variant])
        overall.append(
            {"variant": variant, "verdict": word, "n": n, "tasks": tasks, "worse_at_least": worse, "mean": mean}
            | ({"low": mean - half, "high": mean + half} if n > 2 else {})
        )
        seeds += [
            {"variant": variant, "seed": seed, "value": mean + half * (seed % 3 - (n > 1)) / 2} for seed in range(n)
        ]
        gaps += [
            {"task": "sort", "variant": variant, "n": n, "metric": "validation/accuracy"}
            | {"share": share, "difference": mean / share / 100, "margins": mean / share}
            for share in (0.25, 0.5, 0.75, 1.0)
        ]
        planning += [
            {"task": "sort", "variant": variant, "plan": plan, "n": n, "seeds": more, "chance": 1 - 3 / more}
            | {"hours": 0.1 * more, "baseline_hours": 0.05 * more}
            for more in more_seeds
        ]
    averages_ = [row | {"tasks": 1} for row in gaps]
    return {"overall": overall, "overall_seeds": seeds, "planning": planning} | {
        "gaps": gaps,
        "gap_curves": gaps,
        "gap_averages": averages_,
    }


def _costs(variants: list[str], tasks: list[str]) -> dict[str, Any]:
    changes = {"attention_parameters": -25.0, "macs": -11.0, "cache_bytes_per_token": 0.0, "step_ratio": -4.0}
    found = {variant: changes | ({"cache_bytes_per_token": -50.0} if variant[0] == "q" else {}) for variant in variants}
    return {
        "relative_costs": [
            {"task": task, "setting": "default", "variant": variant, "cost": cost, "change": change}
            for task in tasks
            for variant, costs in found.items()
            for cost, change in costs.items()
        ],
        "savings": [
            {"variant": variant, "cost": cost, "settings": len(tasks), "median": change, "low": change, "high": change}
            for variant, costs in found.items()
            for cost, change in costs.items()
        ],
    }
