"""The figures of a study: one module a kind, each drawing a `Figure` from `FigureData`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from kvformer.reporting.figures import accuracy, attention, loss
from kvformer.reporting.figures.data import FigureData, Task
from kvformer.reporting.style import figure_style, save


@dataclass(frozen=True)
class Kind:
    """A kind of figure: the begin of its file names, its title and caption, and how a task or a family is drawn."""

    name: str
    title: str
    caption: str
    of_task: Callable[[FigureData, Task], Figure | None] | None = None
    of_family: Callable[[FigureData, str], Figure | None] | None = None


KINDS = (
    Kind("accuracy", "Results", accuracy.CAPTION, of_family=accuracy.draw),
    Kind("loss", "Loss during training", loss.CAPTION, of_task=loss.draw),
    Kind("attention", "Attention maps", attention.FAMILY_CAPTION, of_family=attention.draw),
    Kind("heads", "Attention of every head", attention.HEADS_CAPTION, of_task=attention.draw_heads),
)


def draw_figures(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """Draw every figure for which the study has data, one after the other; yields its name and the figure."""
    for kind in KINDS:
        if kind.of_family is not None:
            for family in data.families:
                if figure := kind.of_family(data, family):
                    yield f"{kind.name}-{family}", figure
        if kind.of_task is not None:
            for task in data.tasks.values():
                if figure := kind.of_task(data, task):
                    yield f"{kind.name}-{task.name}", figure


def write_figures(results: Path) -> list[Path]:
    """Draw the figures of a collected study; returns the paths results/figures/<kind>-<task or family>.{png,svg,pdf}.

    The same files give the same bytes. A kind of figure for which the study holds no data is not drawn.

    Raises:
        KvformerError: study.json, runs.csv or curves.csv.gz is absent or malformed.
    """
    data = FigureData(results)
    folder = results / "figures"
    paths: list[Path] = []
    with figure_style():
        for name, figure in draw_figures(data):
            paths += save(figure, folder / name)
    for stale in set(folder.glob("*.*")) - set(paths):
        stale.unlink()
    return paths
