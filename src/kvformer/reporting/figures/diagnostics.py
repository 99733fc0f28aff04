"""What attention does during training: gain, symmetry, entropy and weight on the diagonal, layer by layer."""

from collections.abc import Iterator

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kvformer.reporting.figures.data import FigureData, Task
from kvformer.reporting.figures.layout import MAX_LAYERS, chosen_layers, finish, legend_handles
from kvformer.reporting.figures.loss import plot_variants
from kvformer.reporting.style import WIDTH

PREFIX = "diagnostics/layer"
ORDER = ("gain", "symmetry", "entropy", "diagonal")


def draw(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure for each task whose runs recorded diagnostics."""
    for task in data.tasks.values():
        keys = [key for key in data.curve_metrics(task) if key.startswith(PREFIX) and key.count("/") == 2]
        if keys:
            yield task.name, draw_task(data, task, keys)


def draw_task(data: FigureData, task: Task, keys: list[str]) -> Figure:
    """Quantities × layers (at most four, evenly chosen) of one task."""
    pairs = {(int(layer), name) for layer, _, name in (key.removeprefix(PREFIX).partition("/") for key in keys)}
    names = {name for _, name in pairs}
    quantities = [name for name in ORDER if name in names] + sorted(names - set(ORDER))
    layers = sorted({layer for layer, _ in pairs})
    shown = [layers[place] for place in chosen_layers(len(layers))]
    width = 0.8 + 1.6 * max(len(shown), 2) if len(shown) < MAX_LAYERS else WIDTH
    figure = Figure(figsize=(width, 0.8 + 1.25 * len(quantities)), layout="constrained")
    axes = figure.subplots(len(quantities), len(shown), squeeze=False, sharex=True, sharey="row")
    for row, name in zip(axes, quantities, strict=True):
        for ax, layer in zip(row, shown, strict=True):
            plot_variants(data, data.curve(task, f"{PREFIX}{layer}/{name}"), ax, "step")
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.xaxis.set_major_locator(MaxNLocator(3))
        row[0].set_ylabel(name.replace("_", " ").capitalize())
    for ax, layer in zip(axes[0], shown, strict=True):
        ax.set_title(f"Layer {layer + 1}")
    for ax in axes[-1]:
        ax.set_xlabel("Step")
    finish(figure, task.label, legend_handles(data), data.notes([task]))
    return figure
