"""One paragraph on how the study decides, from what it did: seeds, tests, margins, averages."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kvformer.analysis.verdicts import ALPHA, FEWEST, seeds_needed
from kvformer.reporting.verdicts import Verdicts
from kvformer.reporting.wording import SPACE, name, span


def method(verdicts: Verdicts) -> str:
    """The rule in words, without tests where none was used. Markdown."""
    sentences = [
        "Every variant is trained with the same data in the same order and the same seeds as "
        f"{name(verdicts.baseline)}; a difference is taken within a seed, and a grid of settings is averaged first.",
        *_tests(verdicts),
        "Where both sides solve a task in every seed, no difference can be seen, and the comparison is counted apart.",
    ]
    if not verdicts.few:
        sentences.append(
            "The average divides each difference by its margin, takes the mean over tasks within each seed, and gives "
            "Student’s t interval over seeds; its p-values are adjusted over the variants. “Worse on at least” is a "
            "closed test with Simes’ inequality."
        )
    return " ".join([*sentences, "The full account is docs/statistics.md of kvformer."])


def _tests(verdicts: Verdicts) -> list[str]:
    """How comparisons are decided; nothing where none was tested."""
    paired = verdicts.results.paired
    tested = {test: set(rows["variant"]) for test, rows in paired[paired["test"] != ""].groupby("test")}
    families = Counter(cell.variant for cell in verdicts.cells.values() if cell.seeds >= FEWEST)
    if not tested or not families:
        return []
    return [
        f"Each variant is a question of its own: the permitted error of 5{SPACE}% is shared among its "
        f"{_tasks(families.values())}, so that with a probability of 95{SPACE}% none of the words on it is wrong.",
        f"**Better** and **worse** come from {_difference(tested, families, verdicts.study.manifest.weights)}.",
        "**Equivalent** comes from two one-sided t tests against the margin, **not worse** from the lower one; both "
        "share that budget with differences.",
        f"**Leaning** means that the 95{SPACE}% interval excludes zero and the adjusted test does not decide.",
    ]


def _difference(tested: Mapping[Any, set[str]], families: Mapping[str, int], weights: Sequence[float]) -> str:
    """The test of differences. tested: the variants by test. families: the size of each variant's family."""
    if "t" not in tested:
        return "the exact sign-flip test"
    sizes = {families[variant] for variant in tested["t"]}
    level = ALPHA * (weights[-1] if weights else 1)
    why = (
        "Student’s t test, which assumes normal differences, because the exact sign-flip test needs "
        f"{span(seeds_needed(size, level) for size in sizes)} seeds for {_tasks(sizes)}"
    )
    return f"the exact sign-flip test where it can decide, otherwise {why}" if "sign-flip" in tested else why


def _tasks(sizes: Collection[int]) -> str:
    return f"{span(sizes)} {'task' if max(sizes) == 1 else 'tasks'}"
