"""Attention maps: what the variants look at, before and after the softmax."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from kvformer.reporting.figures.data import FigureData, Maps, Task
from kvformer.reporting.figures.layout import MAX_LAYERS, chosen_layers, finish, name_panel
from kvformer.reporting.style import GREY, WIDTH

PAGE = 9.0
"""Height in inches to which the maps of many variants are shrunk, though never below a readable size."""
MAX_TOKENS = 20
MAX_HEADS = 8
COLOURS = {"logits": "cividis", "weights": "Blues"}
MASKED = (0.9, 0.9, 0.9)
KINDS = {"logits": "Logits, before the softmax", "weights": "Weights, after the softmax"}


def draw(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure per family with recorded attention: variants × tasks."""
    for family, tasks in data.families.items():
        maps = {task.name: data.attention(task) for task in tasks}
        if shown := [task for task in tasks if maps[task.name]]:
            yield family, draw_family(data, family, shown, maps)


def draw_heads(data: FigureData) -> Iterator[tuple[str, Figure]]:
    """One figure per task with recorded attention: every layer and head of each variant."""
    for task in data.tasks.values():
        if maps := data.attention(task):
            yield task.name, draw_task_heads(data, task, maps)


def draw_family(data: FigureData, family: str, tasks: list[Task], maps: dict[str, Maps]) -> Figure:
    """Last layer, averaged over heads: logits in one block, weights in the other."""
    rows, columns = len(data.variants), len(tasks)
    narrow = columns <= 2
    across, down = (2, 1) if narrow else (1, 2)
    size = float(np.clip(PAGE / (down * rows), 0.8, 1.65 if narrow else 1.35))
    figure = Figure(
        figsize=(across * (0.6 + size * columns), 0.5 + down * (0.5 + rows * (size + 0.15))), layout="constrained"
    )
    blocks = np.ravel(np.asarray(figure.subfigures(down, across), dtype=object))
    for block, (kind, title) in zip(blocks, KINDS.items(), strict=True):
        axes = block.subplots(rows, columns, squeeze=False)
        block.suptitle(title, fontsize=9.5, color=GREY, x=0.012, ha="left")
        for row, variant in enumerate(data.variants):
            for ax, task in zip(axes[row], tasks, strict=True):
                arrays = maps[task.name].get(variant)
                _map(ax, None if arrays is None else _values(arrays, kind)[-1].mean(axis=0), kind)
                if arrays is not None:
                    _label_digits(ax, arrays["inputs"][0])
                if row == 0:
                    name_panel(ax, task.label, size, points=8, pad=9)
            axes[row, 0].set_ylabel(data.labels[variant], labelpad=9)
    finish(figure, f"{family.capitalize()}: attention", [])
    return figure


def draw_task_heads(data: FigureData, task: Task, maps: Maps) -> Figure:
    """Up to eight heads of up to four layers of each variant."""
    shapes = [arrays["logits"].shape for arrays in maps.values()]
    heads = min(MAX_HEADS, max(shape[2] for shape in shapes))
    rows = min(MAX_LAYERS, max(shape[1] for shape in shapes))
    size = float(np.clip(PAGE / (len(maps) * rows), 0.5, min(1.5, (WIDTH - 0.9) / (2 * heads))))
    figure = Figure(figsize=(0.9 + 2 * heads * size, 0.9 + len(maps) * (0.3 + rows * size)), layout="constrained")
    axes = figure.subplots(len(maps), 2, squeeze=False)
    for pair, (variant, arrays) in zip(axes, maps.items(), strict=True):
        for ax, kind in zip(pair, KINDS, strict=True):
            _mosaic(ax, _values(arrays, kind)[:, :heads], kind)
        pair[0].set_ylabel(data.labels[variant], fontsize=9.5)
    for ax, title in zip(axes[0], KINDS.values(), strict=True):
        ax.set_title(title, color=GREY)
    finish(figure, f"{task.label}: attention of every head", [])
    return figure


def _mosaic(ax: Axes, values: np.ndarray, kind: str) -> None:
    """Layers (rows) × heads (columns) of maps as one picture, each scaled by itself: faster than one axis per map."""
    layers, heads, n, _ = values.shape
    chosen = chosen_layers(layers)
    gap = max(1, n // 12)
    pitch = n + gap
    picture = np.ones((len(chosen) * pitch - gap, heads * pitch - gap, 3))
    for row, layer in enumerate(chosen):
        for head in range(heads):
            tile = values[layer, head]
            low, high = (np.nanmin(tile), np.nanmax(tile)) if kind == "logits" else (0.0, np.nanmax(tile))
            share = (tile - low) / (high - low) if high > low else np.zeros_like(tile)
            colours = colormaps[COLOURS[kind]](share if kind == "logits" else np.sqrt(share))[..., :3]
            colours[np.isnan(tile)] = MASKED
            picture[row * pitch : row * pitch + n, head * pitch : head * pitch + n] = colours
    ax.imshow(picture)
    ax.grid(False)
    ax.tick_params(length=0, pad=2, labelsize=7.5)
    ax.set_xticks(np.arange(heads) * pitch + n / 2, [f"head {head + 1}" for head in range(heads)])
    ax.set_yticks(
        np.arange(len(chosen)) * pitch + n / 2, [f"layer {layer + 1}" for layer in chosen], rotation=90, va="center"
    )
    for spine in ax.spines.values():
        spine.set_visible(False)


def _values(arrays: dict[str, np.ndarray], kind: str) -> np.ndarray:
    """Logits or weights of the first item, (layers, heads, n, n), with NaN where a position is masked."""
    return np.where(np.isfinite(arrays["logits"][0]), arrays[kind][0], np.nan)


def _label_digits(ax: Axes, tokens: np.ndarray) -> None:
    """Write the tokens next to the rows and above the columns of a map where they are a short list of digits."""
    if tokens.ndim != 1 or len(tokens) > MAX_TOKENS or tokens.dtype.kind not in "iu" or tokens.max() > 9:
        return
    look: dict[str, Any] = {"linestyle": "none", "markersize": 3.2, "color": GREY, "markeredgewidth": 0}
    for digit in np.unique(tokens):
        places = np.flatnonzero(tokens == digit)
        beyond = np.full(places.shape, -1.15)
        # A marker for each digit is far faster to draw than a text for each token.
        for x, y in ((places, beyond), (beyond, places)):
            ax.plot(x, y, marker=f"${digit}$", scalex=False, scaley=False, clip_on=False, **look)


def _map(ax: Axes, values: np.ndarray | None, kind: str) -> None:
    """One heat map, row = query, column = key; masked positions are grey."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.4)
    if values is None:
        ax.text(0.5, 0.5, "no run", transform=ax.transAxes, ha="center", va="center", color=GREY, fontsize=8)
        ax.set_box_aspect(1)
        return
    ax.set_facecolor(MASKED)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if kind == "logits":
        ax.imshow(values, cmap=COLOURS[kind], vmin=low, vmax=high)
        ends = f"{low:.1f} to {high:.1f}".replace("-", "−")
    else:
        ax.imshow(values, cmap=COLOURS[kind], norm=PowerNorm(0.5, vmin=0, vmax=high))
        ends = f"0 to {high:.2f}"
    ax.set_xlabel(ends, fontsize=6.5, color=GREY, labelpad=1.5)
