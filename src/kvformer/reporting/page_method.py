"""One paragraph on how the study decides, from what it did: seeds, tests, margins, averages."""

from math import ceil, log2

from kvformer.reporting.verdicts import Verdicts
from kvformer.reporting.wording import SPACE, count, name

ALPHA = 0.05


def method(verdicts: Verdicts) -> str:
    """The rule in words. Markdown."""
    base, tasks = name(verdicts.baseline), len(verdicts.tasks)
    tests = set(verdicts.results.paired["test"]) - {""}
    weights = verdicts.study.manifest.weights or [1.0]
    sentences = [
        f"Every variant is trained with the same data in the same order and the same seeds as {base}; a difference is "
        "taken within a seed, and a grid of settings is averaged first.",
        f"Each variant is a question of its own: the permitted error of 5{SPACE}% is shared among its "
        f"{count(tasks, 'task')}, so that with a probability of 95{SPACE}% none of the words on it is wrong.",
        f"**Better** and **worse** come from {_test(tests, tasks, weights[-1])}.",
        "**Equivalent** comes from two one-sided t tests against the margin, **not worse** from the lower one; both "
        "share that budget with differences.",
        f"**Leaning** means that the 95{SPACE}% interval excludes zero and the adjusted test does not decide.",
        "Where both sides solve a task in every seed, no difference can be seen, and the comparison is counted apart.",
    ]
    if not verdicts.few:
        sentences.append(
            "The average divides each difference by its margin, takes the mean over tasks within each seed, and gives "
            "Student’s t interval over seeds; its p-values are adjusted over the variants. “Worse on at least” is a "
            "closed test with Simes’ inequality."
        )
    return " ".join([*sentences, "The full account is docs/statistics.md of kvformer."])


def _test(tests: set[str], tasks: int, last_weight: float) -> str:
    if tests == {"sign-flip"}:
        return "the exact sign-flip test"
    needed = ceil(1 + log2(max(tasks, 1) / ALPHA / last_weight))
    why = (
        "Student’s t test, which assumes normal differences, because the exact sign-flip test needs "
        f"{needed} seeds for {count(tasks, 'task')}"
    )
    return f"the exact sign-flip test where it can decide, otherwise {why}" if "sign-flip" in tests else why
