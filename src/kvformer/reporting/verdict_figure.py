"""The first screen's average and map as one SVG, by day or by night: the picture at the top of the README."""

from typing import Any

from kvformer.analysis.results import Results
from kvformer.analysis.verdicts import BOTH_SOLVE
from kvformer.reporting import panels
from kvformer.reporting.page import environment
from kvformer.reporting.verdicts import Task, Verdicts
from kvformer.reporting.wording import span

COSTS = ("attention params", "KV cache")
"""The costs that have room."""
HEAD, LINE, TITLE, FOOT = 70, 21, 14, 56
LETTER, BOLD = 5.6, 6.7
"""Widths of a letter, and of one in a variant's name."""
FIRST, NARROWEST, WIDTH = 574, 55, 860
"""Where the columns of the map begin, the least width of one, and that of the picture."""
Theme = dict[str, Any]


def _theme(colours: str, soft: float) -> Theme:
    names = "ground ink quiet line hair band hatch worse lean on_lean good tint on_tint link mark_worse mark_good mark"
    c: Theme = dict(zip(names.split(), colours.split(), strict=True))
    edge, none = c["line"], c["ground"]
    cells = {
        "worse": (c["worse"], "#ffffff", ""),
        "leaning worse": (c["lean"], c["on_lean"], ""),
        "undecided": (none, c["quiet"], edge),
        "not worse": (none, c["link"], c["good"]),
        "equivalent": (c["tint"], c["on_tint"], ""),
        "leaning better": (none, c["link"], c["good"]),
        "better": (c["good"], "#ffffff", ""),
        BOTH_SOLVE: ("url(#hatch)", c["quiet"], ""),
    }
    bad, good = ("worse", "leaning worse"), ("equivalent", "not worse", "better", "leaning better")
    words = dict.fromkeys((*cells, "mixed", ""), c["quiet"]) | dict.fromkeys(bad, c["on_lean"])
    bars = dict.fromkeys((*cells, "mixed", ""), c["mark"]) | dict.fromkeys(bad, c["mark_worse"])
    words, bars = words | dict.fromkeys(good, c["link"]), bars | dict.fromkeys(good, c["mark_good"])
    return {**c, "cells": cells, "words": words, "bars": bars, "soft": soft}


THEMES = {
    "light": _theme(
        "#ffffff #1a1e23 #59626c #d5dade #e9ecee #e2edf7 #c9cfd4 #a8392b #f8e0d9 #8b2c1f #1b5a94 #d3e4f4 #15466f "
        "#1b5a94 #a8392b #1b5a94 #7f8991",
        0.42,
    ),
    "dark": _theme(
        "#0d1117 #e8eaec #a3adb6 #3a434b #272e34 #1d2d3b #3f4951 #b84a3a #43251f #f5b5a6 #2f74b5 #1d3a54 #b3d5f5 "
        "#8cbcf0 #ec8471 #7db4ec #7d8891",
        0.5,
    ),
}
"""The colours of the page; by night on GitHub's ground."""


def verdict_figure(results: Results, theme: str) -> str:
    """The picture of a study with an average. theme: `light` or `dark`. The same results give the same text."""
    verdicts = Verdicts(results)
    average, y = panels.average(verdicts), float(HEAD)
    lines: list[tuple[float, str, Task | None]] = []
    for family, tasks in verdicts.families.items():
        lines.append((y, family, None))
        lines += [(y + TITLE + LINE * place, "", task) for place, task in enumerate(tasks)]
        y += TITLE + LINE * len(tasks)
    legend, x = [], 14.0
    for word in panels.key(verdicts):
        text = "both solve it in every seed" if word == BOTH_SOLVE else word
        legend.append((round(x, 1), word, text))
        x += LETTER * len(text) + 30
    row = round(min(66, max(48, (y - HEAD) / len(average.rows))))
    below = max(y, HEAD + row * len(average.rows))
    longest = max(map(len, verdicts.variants))
    column = max((WIDTH - 10 - FIRST) / len(verdicts.variants), NARROWEST, BOLD * longest + 6)
    compared, tasks_ = len(verdicts.variants), len(verdicts.tasks)
    return (
        environment()
        .get_template("verdict.svg.j2")
        .render(
            verdicts=verdicts,
            average=average,
            costs=[title for title in average.costs if title in COSTS],
            lines=lines,
            row=row,
            seeds=span(int(found["n"]) for found in verdicts.overall.values()),
            first=FIRST,
            column=column,
            width=round(FIRST + column * len(verdicts.variants) + 10),
            legend=legend,
            margins=panels.margins(verdicts),
            unlearned=any(task.unlearned for task in verdicts.tasks.values()),
            height=round(below + FOOT),
            title=f"{compared} variants against {verdicts.baseline}: means, and verdicts on {tasks_} tasks",
            c=THEMES[theme],
        )
    )
