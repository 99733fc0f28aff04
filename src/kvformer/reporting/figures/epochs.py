"""Progress by epoch of the language tasks: training loss, validation loss, and what the model gets right."""

from collections.abc import Iterator

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kvformer.analysis.quantities import axis_label, quantity
from kvformer.reporting.figures.data import FigureData, Task
from kvformer.reporting.figures.layout import finish, legend_handles
from kvformer.reporting.figures.loss import cut_diverged, plot_variants, scale_loss
from kvformer.reporting.style import WIDTH

FAMILY = "language"


def draw(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure for each language task with a recorded loss."""
    for task in data.families.get(FAMILY, []):
        metrics = [metric for metric in _metrics(task) if not data.curve(task, metric).empty]
        if metrics:
            yield task.name, draw_task(data, task, metrics)


def draw_task(data: FigureData, task: Task, metrics: list[str]) -> Figure:
    """The panels of one task, one for each metric."""
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    for ax, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        what = quantity(metric)
        plot_variants(data, data.curve(task, metric), ax, "epoch", what.scale)
        if what.name == "loss":
            scale_loss(ax)
            cut_diverged(ax)
        ax.set_xlabel("Epoch")
        ax.set_ylabel(axis_label(metric))
        ax.xaxis.set_major_locator(MaxNLocator(3))
    finish(figure, task.label, legend_handles(data), data.notes([task]))
    return figure


def _metrics(task: Task) -> list[str]:
    judged = f"validation/{quantity(task.metric).name}"
    third = judged if not judged.endswith("loss") else "validation/accuracy"
    return ["train/loss", "validation/loss", third]
