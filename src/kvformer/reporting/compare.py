"""Two result folders side by side, in words and as tables: what a user looks at after changing something."""

from pathlib import Path
from typing import TYPE_CHECKING

from kvformer.reporting.captions import COMPARE, UNMATCHED
from kvformer.reporting.cells import number, probability, whole
from kvformer.reporting.render import DIFFERENCE, Layout, Table, alike, lay_out, with_better_in
from kvformer.reporting.sentences import place, sentence

if TYPE_CHECKING:
    from kvformer.analysis.compare import SideBySide

LAYOUT: Layout = {
    **alike(str, "task", "setting", "variant", "metric"),
    "pairs": ("n", whole),
    "same configuration": ("same", whole),
    "mean before": ("value_a", number),
    "mean after": ("value_b", number),
    **DIFFERENCE,
    **alike(str, "test"),
    "adjusted p": ("p_holm", probability),
    "adjusted equivalence": ("p_equivalence_holm", probability),
    "adjusted not worse": ("p_not_worse_holm", probability),
    **alike(str, "verdict"),
}


def write_comparison(found: "SideBySide", out: Path) -> list[Path]:
    """Write the tables `compare` (differences with verdicts) and, where runs have no partner, `compare_unmatched` into
    the folder `out`, each as CSV, Markdown and LaTeX; returns the paths."""
    a, b = found.names
    tables = [Table("compare", COMPARE.format(a=a, b=b), lay_out(with_better_in(found.rows), LAYOUT))]
    for stale in out.glob("compare_unmatched.*"):
        stale.unlink()
    if len(found.unmatched):
        columns = {"status_a": f"in {a}", "status_b": f"in {b}"}
        tables.append(Table("compare_unmatched", UNMATCHED, found.unmatched.rename(columns=columns)))
    return [path for table in tables for path in table.write(out)]


def sentences(found: "SideBySide") -> list[str]:
    """Each comparison in words, and how many runs have no partner."""
    a, b = found.names
    words = [
        sentence(row, f"{place(row, found.study)} with {row['variant']}", b, a) for row in found.rows.to_dict("records")
    ]
    if len(found.unmatched):
        words.append(f"{len(found.unmatched)} runs have no partner that finished; see compare_unmatched.")
    return words
