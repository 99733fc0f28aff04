"""The headline of a study: one sentence per verdict, in the words of the rule. Markdown with `code` alone.

Verdicts come in the order worse, equivalent, not worse, better, both solve, mixed, not decided.
"""

from kvformer.analysis.verdicts import BOTH_SOLVE, MIXED, OPEN
from kvformer.reporting.sharing import SAID
from kvformer.reporting.verdicts import SAFE, Task, Verdicts
from kvformer.reporting.wording import capital, listing, name, sentence_case

NAMED = 3
"""Up to this many variants are named; more are counted."""
NOTHING = "No variant could be compared with the baseline: no pair of runs has finished."
ONE_SEED = "One seed: numbers without verdicts."
UNDECIDED = tuple(word for word in OPEN if word != "not worse")


def headline(verdicts: Verdicts, looking: bool = False) -> str:
    """The verdict in one or more sentences. looking: in the middle of looks, what is not decided yet is not said."""
    if len(verdicts.study.variants) == 1:
        return f"Only {name(verdicts.baseline)} is trained here: there is nothing to compare."
    if not verdicts.pairs:
        return NOTHING
    if verdicts.silent:
        return ONE_SEED
    if verdicts.few:
        return f"Compared with {name(verdicts.baseline)}: {'; '.join(_by_task(verdicts))}."
    clauses = _on_average(verdicts)
    open_variants = verdicts.averaging(*UNDECIDED)
    if open_variants and not looking:
        clauses.append(f"{named(open_variants, verdicts)} {be(open_variants)} not decided")
    return f"{'. '.join(map(capital, clauses))}." if clauses else "Nothing is decided yet."


def named(variants: list[str], verdicts: Verdicts) -> str:
    """`a`, `b` and `c`, or how many of all."""
    if len(variants) <= NAMED:
        return listing(map(name, variants))
    return f"{len(variants)} of {len(verdicts.variants)} variants"


def _on_average(verdicts: Verdicts) -> list[str]:
    clauses = []
    worse = verdicts.averaging("worse")
    without = verdicts.without_query
    if verdicts.asks_for_query and len(without) > 1 and set(without) <= set(worse):
        others = [variant for variant in worse if variant not in without]
        also = f", and so {be(others)} {named(others, verdicts)}" if others else ""
        clauses.append(f"every variant without a query is worse on average{also}")
    elif worse:
        clauses.append(f"{named(worse, verdicts)} {be(worse)} worse than {name(verdicts.baseline)} on average")
    clauses += [_safe(verdicts, word) for word in SAFE if verdicts.averaging(word)]
    if solved := verdicts.averaging(BOTH_SOLVE):
        clauses.append(f"{_solve(solved, verdicts)} every task, as {name(verdicts.baseline)} does")
    if mixed := verdicts.averaging(MIXED):
        clauses.append(f"{named(mixed, verdicts)} {be(mixed)} better on some tasks and worse on others")
    return clauses


def _safe(verdicts: Verdicts, word: str) -> str:
    """Variants that are equivalent, not worse or better on average, and that some are worse somewhere."""
    variants = verdicts.averaging(word)
    who = named(variants, verdicts)
    if len(variants) == 1 and (said := SAID.get(verdicts.shares[variants[0]])):
        who = f"{said} ({who})"
    tasks = list(dict.fromkeys(task for variant in variants for task in verdicts.of(variant, "worse")))
    but = ""
    if tasks:
        but = f", but worse on {sentence_case(tasks[0])}" if len(variants) == len(tasks) == 1 else ""
        but = but or f", but worse on {len(tasks)} tasks" if len(variants) == 1 else ", but not on every task"
    return f"{who} {be(variants)} {word} on average{but}"


def _by_task(verdicts: Verdicts) -> list[str]:
    """What is decided on single tasks; what is said of several is said once."""
    places: dict[str, list[str]] = {}
    for task in verdicts.tasks.values():
        places.setdefault(_decided(verdicts, task), []).append(sentence_case(task.label))
    return [f"on {listing(tasks)}, {words}" for words, tasks in places.items()]


def _decided(verdicts: Verdicts, task: Task) -> str:
    cells = [cell for cell in verdicts.cells.values() if cell.task == task.name]
    parts = []
    for word in ("worse", *SAFE):
        variants = [cell.variant for cell in cells if cell.word == word and cell.n]
        if len(variants) == len(cells) > 1:
            parts.append(f"every variant is {word}")
        elif variants:
            parts.append(f"{named(variants, verdicts)} {be(variants)} {word}")
    solved = [cell.variant for cell in cells if cell.solved]
    if len(solved) == len(cells) > 1:
        parts.append("every variant solves it")
    elif solved:
        parts.append(f"{_solve(solved, verdicts)} it, as {name(verdicts.baseline)} does")
    *first, last = parts or ["nothing is decided"]
    return f"{', '.join(first)}{', and ' if first else ''}{last}"


def _solve(variants: list[str], verdicts: Verdicts) -> str:
    return f"{named(variants, verdicts)} {'solves' if len(variants) == 1 else 'solve'}"


def be(variants: list[str]) -> str:
    """The verb of that many variants."""
    return "is" if len(variants) == 1 else "are"
