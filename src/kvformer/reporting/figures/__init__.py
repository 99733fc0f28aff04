"""The figures of a study: one module per kind, each drawing a `Figure` from `FigureData`."""

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from kvformer.analysis.provenance import is_exported
from kvformer.analysis.results import Results
from kvformer.reporting.figures import (
    accuracy,
    attention,
    diagnostics,
    forest,
    gaps,
    grid,
    ladder,
    loss,
    pareto,
    scaling,
)
from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.style import FORMATS, figure_style, save

Draw = Callable[[FigureData], Iterator[tuple[str, Figure]]]
KINDS: dict[str, Draw] = {
    "accuracy": accuracy.draw,
    "forest": forest.draw,
    "ladder": ladder.draw,
    "pareto": pareto.draw,
    "grid": grid.draw,
    "gaps": gaps.draw,
    "scaling": scaling.draw,
    "loss": loss.draw,
    "settings": grid.draw_curves,
    "epochs": loss.draw_epochs,
    "attention": attention.draw,
    "heads": attention.draw_heads,
    "diagnostics": diagnostics.draw,
}
"""What draws each kind of `captions.FIGURES`: it yields figures, each with the task or family that ends its name."""
FROM_RUNS = ("attention-", "heads-")
"""How the names of figures begin that are drawn from run folders; in an exported copy they stay as they are."""


def write_figures(results: Results, curves: pd.DataFrame, processes: int = 1) -> list[Path]:
    """Draw the figures of a study; returns the paths figures/<kind>-<task or family>.{png,svg,pdf} in its folder.

    The same results give the same bytes, in any number of processes. A kind of figure for which the study holds no data
    is not drawn.

    Raises:
        KvformerError: an attention.npz is damaged.
    """
    if processes == 1:
        data = FigureData(results, curves)
        drawn = [_write_kind(data, kind) for kind in KINDS]
    else:
        context = get_context("spawn")
        with ProcessPoolExecutor(processes, context, initializer=_share, initargs=(results, curves)) as pool:
            drawn = list(pool.map(_write_shared, KINDS))
    paths = [path for written in drawn for path in written]
    folder, kept = results.folder / "figures", FROM_RUNS if is_exported(results.folder) else ()
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        if path.suffix.removeprefix(".") in FORMATS and path not in paths and not path.name.startswith(kept):
            path.unlink()  # drawn from an earlier state of the study
    return paths


def _write_kind(data: FigureData, kind: str) -> list[Path]:
    stem = data.results.folder / "figures" / kind
    gc.disable()  # Searching the linked objects of figures for garbage would take a sixth of the time, and free little.
    try:
        with figure_style():
            return [path for of, figure in KINDS[kind](data) for path in save(figure, Path(f"{stem}-{of}"))]
    finally:
        gc.enable()


_shared: list[FigureData] = []
"""In a process of the pool: what it draws from."""


def _share(results: Results, curves: pd.DataFrame) -> None:
    _shared.append(FigureData(results, curves))


def _write_shared(kind: str) -> list[Path]:
    return _write_kind(_shared[0], kind)
