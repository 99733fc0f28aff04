"""A study of scaling: the settings of one task are models of several sizes, each trained on several amounts of data.

`analysis.scaling` fits a law to the losses. What it cannot be fitted to is refused while planning.
"""

from kvformer.config.looks import Looks
from kvformer.config.study import StudyConfig
from kvformer.errors import ConfigError
from kvformer.spec.formulas import block_parameters
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS

FEWEST = 3
"""Sizes, and numbers of tokens: two give a slope, but no sign of where it ends."""


def check_scaling(study: StudyConfig) -> None:
    """Raise ConfigError where the study asks for a scaling law that cannot be fitted."""
    task, sections = study.scaling, study.sections()
    if task is None:
        return
    losses = [name for name in sections if TASKS[name].metric == "loss"]
    allowed = ", ".join(losses) or "none of this study's tasks"
    if task not in sections:
        raise ConfigError(f"scaling: is '{task}', which is not a task of this study; allowed: {allowed}")
    if task not in losses:
        raise ConfigError(
            f"scaling: {task} is judged by {TASKS[task].metric}, the law is one of a loss; allowed: {allowed}"
        )
    if not study.cost:
        raise ConfigError("scaling: needs what a step of each model costs; add cost: true")
    if isinstance(study.seeds, Looks):
        raise ConfigError("scaling: needs the same seeds for all variants, and looks stop some; give seeds a number")
    variants = sections[task].variants or study.variants
    if study.baseline not in variants or len(variants) < 2:
        raise ConfigError(f"scaling: compares variants with {study.baseline}, but {task} has {', '.join(variants)}")
    _check_settings(study, task)


def _check_settings(study: StudyConfig, task: str) -> None:
    """Raise ConfigError unless the settings have enough sizes and enough amounts of training."""
    definition, baseline = TASKS[task], VARIANTS[study.baseline]
    points = set()
    for setting in study.settings[task]:
        if setting.training.steps is None:
            raise ConfigError(
                f"scaling: the tokens of a run are counted from its steps; give tasks.{task}.training.steps"
            )
        shape = definition.shape(setting.data, None)
        size = block_parameters(definition.architecture, baseline, setting.model, shape)
        points.add((size, setting.training.steps * setting.training.batch_size * shape.length))
    sizes, budgets = (len(set(column)) for column in zip(*points, strict=True))
    if min(sizes, budgets) < FEWEST or len(points) == sizes:
        raise ConfigError(
            f"scaling: needs {FEWEST} sizes and {FEWEST} numbers of tokens or more, and a size with two of them; the "
            f"{len(points)} different settings of tasks.{task} have {sizes} and {budgets}"
        )
