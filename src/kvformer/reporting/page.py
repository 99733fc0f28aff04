"""report.html: the study on one self-contained page, verdict first, that opens offline in any browser."""

from pathlib import Path
from typing import Any

import jinja2

from kvformer.analysis import provenance
from kvformer.analysis.results import Results
from kvformer.analysis.verdicts import OPEN
from kvformer.files import write_text
from kvformer.reporting import page_costs, page_files, page_tasks, page_training, panels
from kvformer.reporting.answers import answers
from kvformer.reporting.captions import FIGURES
from kvformer.reporting.headline import headline
from kvformer.reporting.page_looks import banner
from kvformer.reporting.page_method import method
from kvformer.reporting.scaling import held_out_sentence, scaling_sentences
from kvformer.reporting.sentences import findings
from kvformer.reporting.tables import study_tables
from kvformer.reporting.verdicts import Verdicts
from kvformer.reporting.wording import breakable, labelled, markup

REASON_LENGTH = 300
SECTIONS = {
    "tasks": "Tasks",
    "training": "Training",
    "scaling": "Scaling",
    "grids": "Grids",
    "attention": "Attention",
    "cost": "Cost",
    "published": "Published",
    "excluded": "Excluded runs",
    "provenance": "Provenance",
    "method": "Method",
    "words": "In words",
}


def write_report(results: Results, lock: Path | None = None) -> Path:
    """Write report.html into the study's folder; returns its path.

    Figures are those in its folder `figures`, samples those of its run folders. lock: the requirements file with which
    the packages that ran are compared; by default the nearest requirements.lock. The same files give the same bytes.

    Raises:
        KvformerError: the lock is malformed.
    """
    lock = lock or provenance.find_lock(results.folder)
    page = environment().get_template("report.html.j2").render(_context(results, lock))
    path = results.folder / "report.html"
    write_text(path, page)
    return path


def environment() -> jinja2.Environment:
    """Where the templates are, and their filters."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("kvformer.reporting", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    safe = found.filters["safe"]
    found.filters["markup"] = lambda text: safe(markup(text))
    found.filters["breakable"] = lambda name: safe(breakable(name))
    found.filters["labelled"] = lambda label: safe(labelled(label))
    return found


def _context(results: Results, lock: Path | None) -> dict[str, Any]:
    """All that the templates print."""
    verdicts = Verdicts(results)
    parts = {
        **_state(results, verdicts),
        **_first_screen(verdicts),
        **page_tasks.context(verdicts),
        **page_training.context(verdicts),
        **page_costs.context(verdicts),
        **_records(results, lock),
        "figures": {kind: page_files.pictures(results.folder / "figures", kind, results.study) for kind in FIGURES},
        "titles": {kind: title for kind, (title, _) in FIGURES.items()},
        "captions": {kind: caption for kind, (_, caption) in FIGURES.items()},
        "tables": {table.name: table for table in study_tables(results)},
        "samples": page_files.samples(results),
        "method": method(verdicts),
        "sentences": findings(results),
        "scaling": [words for words in (*scaling_sentences(results), held_out_sentence(results)) if words],
    }
    return parts | {"sections": _sections(parts)}


def _state(results: Results, verdicts: Verdicts) -> dict[str, Any]:
    """The line above the headline."""
    counts = results.counts.set_index("status")["runs"].to_dict()
    hours = float(results.counts["seconds"].sum()) / 3600
    return {
        "study": results.study,
        "folder": results.folder,
        "verdicts": verdicts,
        "done": counts.get("finished", 0),
        "total": int(results.counts["runs"].sum()),
        "seeds": _seeds(verdicts),
        "hours": f"{hours:.1f} core-hours" if hours >= 1 else f"{60 * hours:.0f} core-minutes",
    }


def _seeds(verdicts: Verdicts) -> str:
    if looks := verdicts.study.manifest.looks:
        return f"{verdicts.pairs} of up to {looks[-1]} seeds"
    said = verdicts.seeds_said
    return f"{said} seed" if said == "1" else f"{said} seeds"


def _first_screen(verdicts: Verdicts) -> dict[str, Any]:
    look = banner(verdicts)
    words = [cell.word for cell in verdicts.open]
    return {
        "look": look,
        "headline": headline(verdicts, looking=look is not None),
        "answers": answers(verdicts),
        "average": panels.average(verdicts),
        "rests_on": panels.rests_on(verdicts),
        "margins": panels.margins(verdicts),
        "units": panels.units(verdicts) if verdicts.cells else "",
        "key": panels.key(verdicts),
        "uneven": bool(verdicts.study.manifest.looks) and len({cell.n for cell in verdicts.cells.values()}) > 1,
        "short": _short(verdicts),
        "open_counts": ", ".join(f"{words.count(word)} {word}" for word in OPEN if word in words),
        "plans": panels.plans(verdicts),
        "plan_words": panels.plan_words(verdicts),
    }


def _short(verdicts: Verdicts) -> str:
    """What is missing where comparisons have fewer pairs than seeds; empty where none has."""
    expected = {cell.seeds for cell in verdicts.cells.values() if cell.incomplete}
    if not expected:
        return ""
    return f"Fewer than {expected.pop()} pairs" if len(expected) == 1 else "Fewer pairs than seeds"


def _records(results: Results, lock: Path | None) -> dict[str, Any]:
    """Excluded runs and provenance."""
    return {
        "lost": results.incomplete.assign(reason=results.incomplete["reason"].str[:REASON_LENGTH]).to_dict("records"),
        "facts": dict(results.facts.itertuples(index=False, name=None)),
        "packages": provenance.compare_with_lock(results.packages.itertuples(index=False, name=None), lock),
        "lock": lock.name if lock else None,
    }


def _sections(parts: dict[str, Any]) -> dict[str, str]:
    """The sections that have something to show."""
    figures, tables = parts["figures"], parts["tables"]
    empty = {
        "scaling": not parts["scaling"],
        "grids": not figures["grid"] and not {"settings", "paired_settings", "tuning"} & tables.keys(),
        "attention": not any(figures[kind] for kind in ("attention", "heads", "diagnostics")),
        "cost": not parts["costs"] and not figures["pareto"],
        "published": not {"published", "published_context"} & tables.keys(),
    }
    return {name: title for name, title in SECTIONS.items() if not empty.get(name)}
