"""Tuning before comparing: what is trained to choose values for each variant, and the runs at the chosen values.

Every variant gets the same trials: each combination of the tuning grid, on seeds that are never reported. The trials
are the runs of a study of their own in the folder `tuning` of the study's folder. `analysis.tuning` chooses.
"""

import itertools
from collections.abc import Iterable, Iterator

from kvformer.config.grid import Setting, Tuning, resolve, short_name, value_of
from kvformer.config.run import RunConfig
from kvformer.config.study import StudyConfig
from kvformer.errors import ConfigError
from kvformer.records.study import RunEntry, StudyManifest
from kvformer.records.tuning import TuningChoice
from kvformer.spec.sections import ModelConfig, TrainingConfig
from kvformer.tasks import TASKS

KEYS = [f"model.{key}" for key in ModelConfig.model_fields]
KEYS += [f"training.{key}" for key in TrainingConfig.model_fields if key != "threads"]
"""What can be tuned: not the data, which all variants share, nor threads, which the scheduler must know in advance."""


def tuning_of(study: StudyConfig, task: str) -> Tuning | None:
    """How a task is tuned; None where it is not."""
    section = study.sections()[task]
    return section.tuning if "tuning" in section.model_fields_set else study.tuning


def tuning_runs(study: StudyConfig) -> list[RunConfig]:
    """The runs on which values are chosen, in a fixed order; empty where nothing is tuned.

    Raises ConfigError where a key or a value cannot be tuned, seeds overlap, or validation cannot choose.
    """
    tunings = {task: tuning for task in study.settings if (tuning := tuning_of(study, task))}
    return [
        run
        for task, tuning in tunings.items()
        for run in study.runs_at(task, [trial for _, trial in trials(study, task)], tuning.numbers)
    ]


def trials(study: StudyConfig, task: str) -> Iterator[tuple[Setting, Setting]]:
    """Each setting of a task with each setting that is tried in its place. Raises ConfigError as `tuning_runs`."""
    tuning = tuning_of(study, task)
    if tuning is None:
        return
    where = f"tasks.{task}.tuning" if "tuning" in study.sections()[task].model_fields_set else "tuning"
    _check(study, task, tuning, where)
    for setting in study.settings[task]:
        names = set()
        for combination in itertools.product(*tuning.grid.values()):
            given = dict(zip(tuning.grid, combination, strict=True))
            sections = resolve(f"{where}.grid ({task})", setting, given)
            values = {key: value_of(sections, key) for key in given}
            name = "-".join(short_name(key, value) for key, value in values.items())
            if name in names:
                raise ConfigError(f"{where}.grid: a value is listed twice, which gives the trial '{name}' twice")
            names.add(name)
            name = name if setting.name == "default" else f"{setting.name}-{name}"
            yield setting, Setting(name, {**setting.overrides, **values}, **sections)


def describe_tuning(study: StudyConfig) -> str:
    """What will be trained before and after the choice, in one line; empty where nothing is tuned."""
    before = tuning_runs(study)
    if not before:
        return ""
    after = sum(tuning_of(study, run.task) is not None for run in study.runs())
    seeds = sorted({run.seed for run in before})
    shown = ", ".join(map(str, seeds)) if len(seeds) < 4 else f"{seeds[0]} … {seeds[-1]}"
    return (
        f"tuning: first {len(before)} runs on seeds {shown}, which are not reported; then {after} at the chosen values"
    )


def tuning_manifest(study: StudyConfig) -> StudyManifest:
    """The trials as a study: the `study.json` of the folder `tuning`."""
    runs, whole, sections = tuning_runs(study), study.manifest(), study.sections()
    return whole.model_copy(
        update={
            "name": f"{study.name}-tuning",
            "description": f"The trials on which the study {study.name} chose values for each variant.",
            "tasks": [task for task in whole.tasks if tuning_of(study, task.name)],
            "runs": [run.entry() for run in runs],
            "settings": [
                trial.entry(task, section.protocol or study.protocol).model_copy(
                    update={"tried_for": setting.name, "tried": _tried(setting, trial)}
                )
                for task, section in sections.items()
                for setting, trial in trials(study, task)
            ],
            "skipped": [],
            "looks": [],
            "weights": [],
            "scaling": None,
        }
    )


def at_chosen(runs: Iterable[RunConfig], choice: TuningChoice) -> Iterator[tuple[RunConfig, RunEntry]]:
    """The runs of a study at the values that were chosen for their variants, and their records."""
    chosen = choice.chosen()
    for run in runs:
        values = chosen.get((run.task, run.setting, run.variant), {})
        tuned = run.tuned(values)
        yield tuned, tuned.entry().model_copy(update={"tuned": values})


def _tried(setting: Setting, trial: Setting) -> dict[str, object]:
    return {key: value for key, value in trial.overrides.items() if key not in setting.overrides}


def _check(study: StudyConfig, task: str, tuning: Tuning, where: str) -> None:
    """Raise ConfigError where a key cannot be tuned, seeds overlap, or validation cannot choose."""
    section = study.sections()[task]
    if not tuning.grid:
        raise ConfigError(
            f"{where}.grid: is empty; give values to try, such as {{training.learning_rate: [3e-4, 1e-3]}}"
        )
    for key in tuning.grid:
        if key not in KEYS:
            raise ConfigError(f"{where}.grid: there is no key '{key}' to tune; allowed: {', '.join(KEYS)}")
        if key in section.grid or any(key in named for named in section.settings.values()):
            raise ConfigError(
                f"{where}.grid: '{key}' is in the grid or the settings of tasks.{task} too; give it in one place, or "
                f"set tasks.{task}.tuning: null"
            )
    if twice := sorted({seed for seed in tuning.numbers if tuning.numbers.count(seed) > 1}):
        raise ConfigError(f"{where}.seeds: a value is listed twice: {', '.join(map(str, twice))}")
    if both := sorted(set(tuning.numbers) & set(study.seeds_of(task))):
        raise ConfigError(
            f"{where}.seeds: {', '.join(map(str, both))} would be tuned on and reported ({task}); "
            "use other seeds for tuning than for the comparison"
        )
    for setting in study.settings[task]:
        if reason := TASKS[task].no_validation(setting.data):
            raise ConfigError(
                f"{where}: {task} cannot be tuned: {reason}; use another protocol or other data, or set "
                f"tasks.{task}.tuning: null"
            )
