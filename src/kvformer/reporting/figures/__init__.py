"""The figures of a study: one module a kind, each drawing a `Figure` from `FigureData`."""

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from matplotlib.figure import Figure

from kvformer.reporting.figures import accuracy, attention, diagnostics, epochs, forest, grid, loss, pareto
from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.style import FORMATS, figure_style, save


@dataclass(frozen=True)
class Kind:
    """A kind of figure. `draw` yields figures, each with the task or family that ends its name: `<name>-<task>`."""

    name: str
    title: str
    caption: str
    draw: Callable[[FigureData], Iterator[tuple[str, Figure]]]


KINDS = (
    Kind("accuracy", "Results", accuracy.CAPTION, accuracy.draw),
    Kind("forest", "Paired differences", forest.CAPTION, forest.draw),
    Kind("pareto", "Cost and benefit", pareto.CAPTION, pareto.draw),
    Kind("grid", "Results over the grid", grid.CAPTION, grid.draw),
    Kind("loss", "Loss during training", loss.CAPTION, loss.draw),
    Kind("settings", "Loss by setting", grid.CURVES_CAPTION, grid.draw_curves),
    Kind("epochs", "Progress by epoch", epochs.CAPTION, epochs.draw),
    Kind("attention", "Attention maps", attention.FAMILY_CAPTION, attention.draw),
    Kind("heads", "Attention of every head", attention.HEADS_CAPTION, attention.draw_heads),
    Kind("diagnostics", "Attention during training", diagnostics.CAPTION, diagnostics.draw),
)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Python would spend a sixth of the time searching the webs of figures, and free little before the end."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def write_figures(results: Path, processes: int = 1) -> list[Path]:
    """Draw the figures of a collected study; returns the paths results/figures/<kind>-<task or family>.{png,svg,pdf}.

    The same files give the same bytes, in any number of processes. A kind of figure for which the study holds no data
    is not drawn.

    Raises:
        KvformerError: study.json, runs.csv or curves.csv.gz is absent or malformed.
    """
    if processes == 1:
        data = FigureData(results)
        drawn = [_write_kind(data, kind) for kind in KINDS]
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            drawn = list(pool.map(_write_kind_of, repeat(results), range(len(KINDS))))
    paths = [path for written in drawn for path in written]
    folder = results / "figures"
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        if path.suffix.removeprefix(".") in FORMATS and path not in paths:
            path.unlink()  # drawn from an earlier state of the study
    return paths


def _write_kind(data: FigureData, kind: Kind) -> list[Path]:
    paths: list[Path] = []
    with figure_style(), _no_garbage_collection():
        for of, figure in kind.draw(data):
            paths += save(figure, data.results / "figures" / f"{kind.name}-{of}")
    return paths


def _write_kind_of(results: Path, place: int) -> list[Path]:
    return _write_kind(_read_once(results), KINDS[place])


@cache
def _read_once(results: Path) -> FigureData:
    """The study, read once in each process of the pool."""
    return FigureData(results)
